"""`tfmot.quantization.keras` and `tfmot.experimental.combine`: each name does its work."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
import litesmith.tfmot as tfmot
from litesmith.errors import InputError, ModelError, RecipeError
from litesmith.parametrize import holder_of, is_parametrized
from litesmith.quantization.parametrization import Grid

from . import small

quantization = tfmot.quantization.keras
quantizers = quantization.quantizers
Last, Moving = quantizers.LastValueQuantizer, quantizers.MovingAverageQuantizer


def bits(model):
    """Bits of the weights of each quantized layer."""
    return {
        layer.name: {link.bits for link in holder_of(layer).links if isinstance(link, Grid)}
        for layer in model.layers
        if is_parametrized(layer) and any(isinstance(link, Grid) for link in holder_of(layer).links)
    }


@pytest.fixture(scope="module")
def quantized():
    model = small.network()
    before = small.kernels(model)
    prepared = small.fit(quantization.quantize_model(model), epochs=2)
    for name, value in small.kernels(model).items():
        np.testing.assert_array_equal(value, before[name])
    return prepared


def test_quantize_model(quantized, tmp_path):
    names = [layer.name for layer in quantized.layers]
    assert names[1:] == [f"quant_{layer.name}" for layer in small.network().layers[1:]]
    kernels = ("quant_conv", "quant_depthwise", "quant_hidden", "quant_head")
    assert bits(quantized) == {name: {8} for name in kernels}
    artifact = ls.export(quantized, tmp_path / "model.tflite", quantize="int8")
    x, y = small.noise()
    agreement = ls.evaluate(artifact, (x, y), reference=quantized).agreement
    assert agreement == 1.0
    for wrong in (None, layers.Dense(2), "model"):
        with pytest.raises(ModelError, match="a sequential or functional Keras 3 model"):
            quantization.quantize_model(wrong)


def test_a_quantized_model_is_saved_and_converts(quantized, tmp_path):
    # tfmot's does not load: "expected 5 variables, but received 3".
    quantized.save(tmp_path / "quantized.keras")
    with quantization.quantize_scope({"Anything": object}):
        loaded = keras.models.load_model(tmp_path / "quantized.keras")
    assert small.same(quantized, loaded)
    stripped = ls.strip(loaded)
    assert small.is_plain(stripped) and type(stripped) is type(small.network())
    x, y = small.noise()
    loaded.fit(x, y, verbose=0)
    with pytest.raises(RecipeError, match="tables of classes"):
        quantization.quantize_scope(3)


def test_quantize_wrapper_tells_what_is_quantized(quantized):
    for kind in (quantization.QuantizeWrapper, quantization.QuantizeWrapperV2):
        assert isinstance(quantized.get_layer("quant_hidden"), kind)
        assert not isinstance(small.network().get_layer("hidden"), kind)
        with pytest.raises(ModelError, match="quantize_annotate_layer"):
            kind(layers.Dense(2), None)


def test_annotated_layers_and_no_others(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(8, name="plain"),
            quantization.quantize_annotate_layer(layers.Dense(4, name="head")),
        ]
    )
    model.save(tmp_path / "annotated.keras")
    with quantization.quantize_scope():
        loaded = keras.models.load_model(tmp_path / "annotated.keras")
    for each in (model, loaded):
        assert bits(quantization.quantize_apply(each)) == {"quant_head": {8}}
    named = quantization.quantize_apply(model, quantized_layer_name_prefix="q8_")
    assert bits(named) == {"q8_head": {8}}
    assert bits(quantization.quantize_apply(model, quantized_layer_name_prefix=None)) == {
        "head": {8}
    }
    for wrong in (None, model):
        with pytest.raises(ModelError, match="a Keras 3 layer"):
            quantization.quantize_annotate_layer(wrong)
    with pytest.raises(RecipeError, match="a QuantizeConfig or None"):
        quantization.quantize_annotate_layer(layers.Dense(2), quantize_config="8")


class FourBits(quantization.QuantizeConfig):
    """As in tfmot's guide: Dense weights of four bits."""

    weights = Last(num_bits=4, symmetric=True, narrow_range=False, per_axis=False)
    activations = Moving(num_bits=8, symmetric=False, narrow_range=False, per_axis=False)

    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, self.weights)]

    def get_activations_and_quantizers(self, layer):
        return [(layer.activation, self.activations)]

    def set_quantize_weights(self, layer, quantize_weights):
        layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer, quantize_activations):
        layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


def test_quantize_config_and_annotate_model(tmp_path):
    model = small.network()
    annotate = quantization.quantize_annotate_layer
    annotated = keras.models.clone_model(
        model,
        clone_function=lambda each: annotate(each, FourBits()) if each.name == "hidden" else each,
    )
    annotated.save(tmp_path / "annotated.keras")
    with quantization.quantize_scope({"FourBits": FourBits}):
        annotated = keras.models.load_model(tmp_path / "annotated.keras")
    prepared = quantization.quantize_apply(quantization.quantize_annotate_model(annotated))
    found = bits(prepared)
    assert found["quant_hidden"] == {4} and found["quant_head"] == found["quant_conv"] == {8}
    hidden = small.kernels(ls.strip(small.fit(prepared)))["quant_hidden"]
    assert max(len(np.unique(hidden[:, channel])) for channel in range(16)) <= 15
    # By number of bits it is smaller in the file, too; tfmot's is stored in eight.
    artifact = ls.export(prepared, tmp_path / "four.tflite", quantize="int8")
    dtypes = {kernel.layer: kernel.dtype for kernel in artifact.manifest.kernels}
    assert dtypes["quant_hidden"] == "int4" and dtypes["quant_head"] == "int8"
    for wrong in (None, layers.Dense(2)):
        with pytest.raises(ModelError, match="a sequential or functional Keras 3 model"):
            quantization.quantize_annotate_model(wrong)


class Elsewhere(quantizers.Quantizer):
    """Clips to a fixed range, as in tfmot's guide."""

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        return keras.ops.clip(inputs, 0.0, 6.0)

    def get_config(self):
        return {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": Elsewhere()}, "LastValueQuantizer for weights, received Elsewhere"),
        ({"weights": Last(8, False, False, True)}, "symmetric=True for weights"),
        ({"weights": Last(12, False, True, True)}, "2 to 8 bits"),
        ({"activations": quantizers.FixedQuantizer(8, 0.0, 6.0, False)}, "received FixedQuantizer"),
        ({"activations": quantizers.AllValuesQuantizer(8, False, False, False)}, "AllValues"),
        ({"activations": Moving(8, True, False, False)}, "one scale for a tensor"),
        ({"activations": Moving(4, False, False, False)}, "8 or 16 bits"),
        (
            {"get_weights_and_quantizers": lambda self, layer: [(layer.bias, self.weights)]},
            "kernel",
        ),
    ],
)
def test_what_no_tflite_can_have_is_refused(changes, message):
    config = type("Config", (FourBits,), changes)()
    model = keras.Sequential(
        [
            keras.Input((8,)),
            quantization.quantize_annotate_layer(layers.Dense(4), config),
        ]
    )
    with pytest.raises(RecipeError, match=message):
        quantization.quantize_apply(model)


def test_quantize_apply_refuses_what_it_cannot_take():
    with pytest.raises(ModelError, match="a model with annotated layers"):
        quantization.quantize_apply(small.network())
    unbuilt = keras.Sequential([quantization.quantize_annotate_layer(layers.Dense(2))])
    with pytest.raises(ModelError, match="a built model"):
        quantization.quantize_apply(unbuilt)
    only = keras.models.clone_model(
        small.network(),
        clone_function=lambda each: (
            quantization.quantize_annotate_layer(each) if each.name == "relu" else each
        ),
    )
    with pytest.raises(ModelError, match="an annotated layer with a kernel"):
        quantization.quantize_apply(only)
    with pytest.raises(RecipeError, match="a QuantizeScheme"):
        quantization.quantize_apply(only, scheme="8bit")


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        (Last, [(-2.0, 4.0), (-1.0, 1.0)]),
        (Moving, [(-6 + 0.004, 6 - 0.002), (-6 + 0.008996, 6 - 0.006998)]),
        (quantizers.AllValuesQuantizer, [(-2.0, 4.0), (-2.0, 4.0)]),
    ],
)
def test_quantizers_follow_what_comes_by(kind, seen):
    quantizer = kind(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    layer = layers.Layer()
    weights = quantizer.build((None, 3), "inputs", layer)
    assert [v.name for v in layer.non_trainable_variables] == ["inputs_min", "inputs_max"]
    for batch, ends in zip(([[-2.0, 0.0, 4.0]], [[-1.0, 0.5, 1.0]]), seen, strict=True):
        given = np.array(batch, "float32")
        out = keras.ops.convert_to_numpy(quantizer(given, True, weights))
        got = [float(weights[f"{end}_var"]) for end in ("min", "max")]
        np.testing.assert_allclose(got, ends, rtol=1e-5)
        step = (ends[1] - ends[0]) / 255
        assert np.abs(out - given).max() <= step / 2 + 1e-6
        again = keras.ops.convert_to_numpy(quantizer(given, False, weights))
        np.testing.assert_array_equal(out, again)
    assert kind.from_config(quantizer.get_config()) == quantizer
    assert quantizer != kind(4, False, False, False)


def test_quantizers_by_axis_and_about_zero():
    given = np.array([[-1.0, 0.2, 3.0], [0.5, -0.1, -6.0]], "float32")
    layer = layers.Layer()
    narrow = Last(8, per_axis=True, symmetric=True, narrow_range=True)
    weights = narrow.build(given.shape, "kernel", layer)
    out = keras.ops.convert_to_numpy(narrow(given, True, weights))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weights["max_var"]), [1.0, 0.2, 6.0])
    integers = out / (np.array([1.0, 0.2, 6.0]) / 127)
    np.testing.assert_allclose(integers, np.round(integers), atol=1e-3)
    wide = Last(8, per_axis=False, symmetric=True, narrow_range=False)
    ends = wide.build(given.shape, "wide", layer)
    wide(given, True, ends)
    assert float(ends["min_var"]) == pytest.approx(-6.0)
    assert float(ends["max_var"]) == pytest.approx(6.0 * 127 / 128, rel=1e-3)


def test_the_fixed_quantizer_and_one_of_ones_own():
    fixed = quantizers.FixedQuantizer(2, 0.0, 3.0, False)
    given = np.array([-1.0, 0.4, 1.6, 9.0], "float32")
    out = keras.ops.convert_to_numpy(fixed(given, True, fixed.build((4,), "x", layers.Layer())))
    assert out.tolist() == [0.0, 0.0, 2.0, 3.0]
    assert quantizers.FixedQuantizer.from_config(fixed.get_config()) == fixed
    assert keras.ops.convert_to_numpy(Elsewhere()(given, True, {})).tolist()[-1] == 6.0
    with pytest.raises(TypeError, match="abstract"):
        quantizers.Quantizer()


def test_schemes_and_registries():
    eight = quantization.default_8bit
    scheme = eight.Default8BitQuantizeScheme()
    assert isinstance(scheme, quantization.QuantizeScheme)
    registry = scheme.get_quantize_registry()
    assert isinstance(registry, eight.Default8BitQuantizeRegistry)
    assert isinstance(registry, quantization.QuantizeRegistry)
    layer = small.network().get_layer("hidden")
    assert registry.supports(layer) and not registry.supports(small.network())
    config = registry.get_quantize_config(layer)
    ((weight, quantizer),) = config.get_weights_and_quantizers(layer)
    assert weight is layer.kernel and quantizer == Last(8, True, True, True)
    with pytest.raises(InputError, match="a layer"):
        registry.get_quantize_config(3)
    transform = scheme.get_layout_transformer()
    assert isinstance(transform, eight.Default8BitQuantizeLayoutTransform)
    assert isinstance(transform, quantization.QuantizeLayoutTransform)
    assert transform.apply("model", {}) == ("model", {})
    with pytest.raises(RecipeError, match="disable_per_axis"):
        eight.Default8BitQuantizeScheme(disable_per_axis=True)


def test_n_bit_schemes(tmp_path):
    n_bit = quantization.experimental.default_n_bit
    annotated = quantization.quantize_annotate_model(small.network())
    scheme = n_bit.DefaultNBitQuantizeScheme(num_bits_weight=4)
    prepared = quantization.quantize_apply(annotated, scheme)
    assert set(map(tuple, bits(prepared).values())) == {(4,)}
    assert isinstance(scheme.get_layout_transformer(), n_bit.DefaultNBitQuantizeLayoutTransform)
    registry = n_bit.DefaultNBitQuantizeRegistry(num_bits_weight=2)
    layer = small.network().get_layer("hidden")
    quantizer = registry.get_quantize_config(layer).get_weights_and_quantizers(layer)[0][1]
    assert quantizer.num_bits == 2
    for wrong in ({"num_bits_weight": 1}, {"num_bits_activation": 4}, {"disable_per_axis": True}):
        with pytest.raises(RecipeError, match="DefaultNBitQuantize"):
            n_bit.DefaultNBitQuantizeScheme(**wrong)


class HeadInFour(quantization.QuantizeRegistry):
    """Four bits for the head, nothing for others."""

    def get_quantize_config(self, layer):
        return FourBits() if layer.name == "head" else None


class HeadScheme(quantization.QuantizeScheme):
    """A scheme of one's own."""

    transform = None

    def get_layout_transformer(self):
        return self.transform

    def get_quantize_registry(self):
        return HeadInFour()


def test_a_scheme_of_ones_own():
    annotated = quantization.quantize_annotate_model(small.network())
    prepared = quantization.quantize_apply(annotated, HeadScheme())
    assert bits(prepared) == {"quant_head": {4}}

    class Rewriting(quantization.QuantizeLayoutTransform):
        def apply(self, model, layer_quantize_map):
            return model, layer_quantize_map

    scheme = HeadScheme()
    scheme.transform = Rewriting()
    with pytest.raises(RecipeError, match="layout transformer"):
        quantization.quantize_apply(annotated, scheme)


def test_prune_preserving_scheme(tmp_path):
    combine = tfmot.experimental.combine
    kind = quantization.collab_opts.Default8BitPrunePreserveQuantizeScheme
    assert combine.Default8BitPrunePreserveQuantizeScheme is kind
    sparse = tfmot.sparsity.keras.strip_pruning(
        tfmot.sparsity.keras.prune_low_magnitude(small.network())
    )
    prepared = quantization.quantize_apply(quantization.quantize_annotate_model(sparse), kind())
    small.fit(prepared)
    before = small.kernels(sparse)
    for name, value in small.kernels(ls.strip(prepared)).items():
        if name != "quant_depthwise":
            plain = before[name.removeprefix("quant_")]
            assert ((value == 0) == (plain == 0)).all() and (value == 0).mean() == 0.5
    artifact = ls.export(prepared, tmp_path / "sparse.tflite", quantize="int8")
    zeros = {kernel.layer: kernel.zeros / kernel.size for kernel in artifact.manifest.kernels}
    assert zeros["quant_hidden"] == zeros["quant_conv"] == 0.5


def test_cluster_preserving_scheme_and_its_strip(tmp_path):
    combine = tfmot.experimental.combine
    pruned = tfmot.sparsity.keras.prune_low_magnitude(small.network())
    model = tfmot.sparsity.keras.strip_pruning(pruned)
    clustered = tfmot.clustering.keras.cluster_weights(model, 6, preserve_sparsity=True)
    plain = tfmot.clustering.keras.strip_clustering(clustered)
    scheme = combine.Default8BitClusterPreserveQuantizeScheme()
    assert (
        scheme.preserve_sparsity
        and not combine.Default8BitClusterPreserveQuantizeScheme(
            preserve_sparsity=False
        ).preserve_sparsity
    )
    annotated = quantization.quantize_annotate_model(plain)
    prepared = small.fit(quantization.quantize_apply(annotated, scheme))
    stripped = combine.strip_clustering_cqat(prepared)
    assert small.same(prepared, stripped, atol=1e-6)
    kinds = {type(link).__name__ for link in holder_of(stripped.layers[-1]).links}
    assert "Codebook" not in kinds and "Grid" in kinds
    artifact = ls.export(stripped, tmp_path / "clustered.tflite", quantize="int8")
    kernels = {kernel.layer: kernel for kernel in artifact.manifest.kernels}
    for name in ("quant_conv", "quant_hidden", "quant_head"):
        assert kernels[name].unique <= 6
    assert kernels["quant_hidden"].zeros / kernels["quant_hidden"].size >= 0.5
    with pytest.raises(ModelError, match="trained quantized"):
        combine.strip_clustering_cqat(plain)
    with pytest.raises(ModelError, match="a Keras 3 model"):
        combine.strip_clustering_cqat(3)


def test_what_is_not_supported_says_what_to_use():
    with pytest.raises(InputError, match="calibrate"):
        quantization.fix_input_output_range(small.network())
    with pytest.raises(InputError, match="int8_float_io"):
        quantization.remove_input_range(small.network())
    rooms = [
        quantization.graph_transformations.model_transformer,
        quantization.graph_transformations.transforms,
        quantization.default_8bit.default_8bit_transforms,
        quantization.experimental.default_n_bit.default_n_bit_transforms,
    ]
    for room in rooms:
        for name in room.__all__:
            with pytest.raises(InputError, match=f"tfmot's {name}.*quantize_apply"):
                getattr(room, name)()
            with pytest.raises(InputError, match="quantize_annotate_layer"):
                type("Own", (getattr(room, name),), {})
