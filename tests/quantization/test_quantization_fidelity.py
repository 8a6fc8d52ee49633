"""The `.tflite` does what training simulated: each defect of the stock tool, mended."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.export.flatbuffer import read
from litesmith.parametrize import holder_of, used_weights
from litesmith.quantization import fidelity
from tests.quantization import small

pytestmark = pytest.mark.every_backend
to_numpy = keras.ops.convert_to_numpy


def exported(prepared, folder, **options):
    options.setdefault("quantize", "int8")
    return ls.export(ls.strip(prepared), folder / "model.tflite", **options)


def kernel_tensor(artifact, layer):
    (entry,) = [each for each in artifact.manifest.kernels if each.layer == layer]
    return small.integers(artifact.path, entry.tensor)


@pytest.mark.parametrize("weights", [8, 4])
def test_the_file_does_what_training_simulated(weights):
    prepared, x, _ = small.trained(ls.Quantize(weights=weights))
    found = fidelity(prepared, x)
    assert found.agreement == 1.0 and found.samples == len(x)
    assert {"first", "sum", "depthwise", "pool", "hidden", "head"} & {
        t.layer for t in found.tensors
    }
    # ReLU's layers are where fused convolutions come out.
    assert len([each for each in found.tensors if each.layer.endswith("_relu")]) == 4
    # A sum that lies on a half may be rounded the other way: how many do depends on the ranges
    # that training ended with, which differ between backends.
    for tensor in found.tensors:
        assert tensor.within >= 0.999 and tensor.equal >= 0.98, str(found)
    assert found.first is None and found.last.layer == "head" and found.last.kind == "pre"


@pytest.mark.parametrize("weights, stored, end", [(8, "INT8", 127), (4, "INT4", 7)])
def test_integers_in_the_file_are_the_trained_grid(tmp_path, weights, stored, end):
    model = small.convolutional()
    x, y = small.data()
    small.train(model, x, y)
    norm = model.layers[2]
    # Folding a negative gamma flips signs.
    gamma = to_numpy(norm.gamma).copy()
    gamma[::3] *= -1
    norm.gamma.assign(gamma)
    prepared = ls.prepare(model, ls.Quantize(weights=weights))
    small.train(prepared, x, y, epochs=1)
    artifact = exported(prepared, tmp_path)
    tensor = kernel_tensor(artifact, "first")
    assert tensor.type == stored and tensor.scale.size == 8
    ((_, used),) = used_weights(prepared.get_layer("first"))
    (link,) = holder_of(prepared.get_layer("first")).chains()[0][1]
    scale = to_numpy(link.scale_of(prepared.get_layer("first").kernel.value))
    whole = np.round(to_numpy(used) / scale)
    assert np.abs(whole).max() <= end
    # HWIO here, OHWI in the file; and the sign of gamma.
    flipped = (
        whole.transpose(3, 0, 1, 2)
        * np.sign(to_numpy(prepared.layers[2].gamma))[:, None, None, None]
    )
    assert np.array_equal(tensor.data, flipped)


def test_depthwise_kernels_have_a_scale_a_channel(tmp_path):
    prepared, _, _ = small.trained(ls.Quantize())
    tensor = kernel_tensor(exported(prepared, tmp_path), "depthwise")
    assert tensor.type == "INT8" and tensor.scale.size == 8 and tensor.axis == 3


def test_a_relu_of_its_own_without_batch_norm_is_no_reason_to_stay_float(tmp_path):
    def make():
        keras.utils.set_random_seed(1)
        inputs = layers.Input((8, 8, 3))
        x = layers.ReLU()(layers.Conv2D(8, 3, name="convolution")(inputs))
        x = layers.ReLU()(layers.Dense(8, name="dense")(layers.GlobalAveragePooling2D()(x)))
        return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))

    prepared, x, _ = small.trained(ls.Quantize(), make)
    for name in ("convolution", "dense", "head"):
        (_, used), *_ = used_weights(prepared.get_layer(name))
        channels = to_numpy(used).reshape(-1, used.shape[-1]).T
        assert all(
            len(np.unique(np.round(c / np.abs(c).max() * 127, 3) % 1)) <= 3 for c in channels
        )
    artifact = exported(prepared, tmp_path)
    assert not artifact.manifest.float_operators
    assert fidelity(prepared, x, artifact=artifact).agreement == 1.0


def test_dense_batch_norm_relu_is_one_integer_operator(tmp_path):
    def make():
        keras.utils.set_random_seed(1)
        inputs = layers.Input((12,))
        x = layers.Dense(16, name="dense", use_bias=False)(inputs)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
        return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))

    prepared, x, _ = small.trained(ls.Quantize(), make)
    artifact = exported(prepared, tmp_path)
    assert artifact.manifest.operators == {"FULLY_CONNECTED": 2, "SOFTMAX": 1}
    assert not artifact.manifest.float_operators
    found = fidelity(prepared, x, artifact=artifact)
    assert found.agreement == 1.0 and found.last.within >= 0.999


def test_ranges_start_from_the_first_batch():
    model = small.convolutional()
    x, y = small.data()
    prepared = ls.prepare(model, ls.Quantize())
    small.train(prepared, x[:16] / 50, y[:16], epochs=1)
    taps = dict((site["kind"], tap) for site, tap in holder_of(prepared.get_layer("first")).taps())
    low, high = taps["in"].ends()
    assert low == pytest.approx(x[:16].min() / 50, rel=1e-5)
    assert high == pytest.approx(x[:16].max() / 50, rel=1e-5)


def test_ranges_follow_and_then_stay():
    x, y = small.data()
    prepared = ls.prepare(small.convolutional(), ls.Quantize(freeze=6))
    small.train(prepared, x, y, epochs=1)  # six steps
    tap = holder_of(prepared.get_layer("first")).taps()[0][1]
    before = tap.ends()
    small.train(prepared, x * 5, y, epochs=1)
    assert tap.ends() == before
    free = ls.prepare(small.convolutional(), ls.Quantize())
    small.train(free, x, y, epochs=1)
    moving = holder_of(free.get_layer("first")).taps()[0][1]
    assert moving.ends() == pytest.approx(before, rel=1e-5)
    small.train(free, x * 5, y, epochs=1)
    assert moving.ends()[1] > 1.5 * before[1]


def test_calibration_data_give_the_first_ranges(tmp_path):
    x, y = small.data()
    model = small.train(small.convolutional(), x, y)
    prepared = ls.prepare(model, ls.Quantize(), calibration=x)
    tap = holder_of(prepared.get_layer("first")).taps()[0][1]
    assert tap.ends() == pytest.approx((x.min(), x.max()), rel=1e-6)
    # Without any training it is post-training quantization, simulated.
    found = fidelity(prepared, x)
    assert found.agreement == 1.0
    plain = model.predict(x, verbose=0).argmax(axis=1)
    assert np.mean(plain == prepared.predict(x, verbose=0).argmax(axis=1)) >= 0.95


def test_without_any_data_there_is_no_integer_file(tmp_path):
    prepared = ls.prepare(small.convolutional(), ls.Quantize())
    with pytest.raises(ls.PresetError, match="seen no data yet.*fit first"):
        exported(prepared, tmp_path)


def test_a_preset_that_contradicts_the_training_is_an_error(tmp_path):
    prepared, _, _ = small.trained(ls.Quantize(), epochs=1)
    for preset in ("dynamic_int8", "int16x8", "weight_int4"):
        with pytest.raises(ls.PresetError, match="trained with 8-bit activations"):
            exported(prepared, tmp_path, quantize=preset)
    assert exported(prepared, tmp_path, quantize="float32").manifest.io == "float32"
    assert exported(prepared, tmp_path, quantize="int8_float_io").manifest.io == "float32"
    assert exported(prepared, tmp_path, io_dtype="uint8").manifest.io == "uint8"


def test_unsigned_edges_change_nothing(tmp_path):
    from litesmith.evaluation import predict

    prepared, x, _ = small.trained(ls.Quantize(), epochs=1)
    signed = predict(exported(prepared, tmp_path), x)[0]
    unsigned = predict(exported(prepared, tmp_path, io_dtype="uint8"), x)[0]
    assert np.array_equal(signed, unsigned)


def test_rules_give_layers_their_bits(tmp_path):
    recipe = ls.Recipe(
        ls.Quantize(where=["first", "head"]),
        ls.Quantize(where="hidden", weights=2),
        ls.Quantize(weights=4),
    )
    prepared, x, _ = small.trained(recipe)
    bits = {entry.layer: entry.detail["bits"] for entry in prepared.report.done}
    assert bits["first"] == bits["head"] == 8 and bits["hidden"] == 2
    assert bits["second"] == bits["wide"] == 4
    artifact = exported(prepared, tmp_path)
    types = {each.layer: each.dtype for each in artifact.manifest.kernels}
    assert types["first"] == types["head"] == types["depthwise"] == "int8"
    assert types["second"] == types["wide"] == types["hidden"] == "int4"
    assert np.abs(kernel_tensor(artifact, "hidden").data).max() == 1
    assert any("2 bits are stored in 4" in note for note in artifact.manifest.notes)
    assert fidelity(prepared, x, artifact=artifact).agreement == 1.0


def test_layers_that_no_rule_takes_stay_float(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize(where="(?!head).*"))
    artifact = exported(prepared, tmp_path)
    assert artifact.manifest.float_operators.get("FULLY_CONNECTED") == 1
    types = {each.layer: each.dtype for each in artifact.manifest.kernels}
    assert types["head"] == "float32" and types["hidden"] == "int8"
    assert fidelity(prepared, x, artifact=artifact).agreement == 1.0


def test_rules_must_agree_about_activations():
    recipe = [ls.Quantize(where="head", activations=16), ls.Quantize()]
    with pytest.raises(ls.RecipeError, match="the same bits in all rules"):
        ls.prepare(small.convolutional(), recipe)


def test_weights_alone(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize(weights=4, activations=None))
    expected = prepared.predict(x, verbose=0)
    stripped = ls.strip(prepared)
    assert np.abs(stripped.predict(x, verbose=0) - expected).max() <= 1e-5
    from litesmith.evaluation import predict

    artifact = ls.export(stripped, tmp_path / "model.tflite", quantize="weight_int4")
    assert np.abs(predict(artifact, x)[0] - expected).max() <= 1e-4
    with pytest.raises(ls.PresetError, match="float activations"):
        ls.export(stripped, tmp_path / "model.tflite", quantize="int8")


def test_weights_alone_have_the_bits_they_were_trained_with(tmp_path):
    from litesmith.evaluation import predict

    ends = ls.Quantize(where=["first", "head"], activations=None)
    mixed = ls.Recipe(ends, ls.Quantize(weights=4, activations=None))
    prepared, x, _ = small.trained(mixed, epochs=1)
    expected = prepared.predict(x, verbose=0)
    for preset in ("weight_int4", "weight_int8"):
        artifact = exported(prepared, tmp_path, quantize=preset)
        assert np.abs(predict(artifact, x)[0] - expected).max() <= 1e-4
        types = {each.layer: each.dtype for each in artifact.manifest.kernels}
        assert types["first"] == types["head"] == types["depthwise"] == "int8"
        assert types["second"] == preset.removeprefix("weight_")
    prepared = ls.prepare(small.convolutional(), ls.Quantize(activations=None))
    for preset, right in (("weight_int4", "weight_int8"), ("dynamic_int4", "dynamic_int8")):
        with pytest.raises(ls.PresetError, match=f"expected '{right}' .* 8-bit weights"):
            exported(prepared, tmp_path, quantize=preset)
    exported(prepared, tmp_path, quantize="weight_int8")


def test_sixteen_bits(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize(activations=16))
    artifact = exported(prepared, tmp_path, quantize="int16x8")
    found = fidelity(prepared, x, artifact=artifact)
    assert found.agreement == 1.0 and found.last.signal_to_noise >= 50


def test_zeros_of_pruning_are_as_many_in_the_file(tmp_path):
    recipe = [ls.Prune(sparsity=0.6), ls.Quantize(weights=4)]
    prepared, _, _ = small.trained(recipe)
    artifact = exported(prepared, tmp_path)
    asked = {e.layer: e.detail["zeros"] for e in prepared.report.done if e.technique == "prune"}
    found = {each.layer: each.zeros for each in artifact.manifest.kernels}
    assert asked and all(found[layer] == zeros for layer, zeros in asked.items())


def test_clusters_are_as_few_in_the_file(tmp_path):
    recipe = [ls.Cluster(clusters=6), ls.Quantize()]
    prepared, x, _ = small.trained(recipe)
    artifact = exported(prepared, tmp_path)
    clustered = {e.layer for e in prepared.report.done if e.technique == "cluster"}
    unique = {each.layer: each.unique for each in artifact.manifest.kernels}
    assert clustered and all(unique[layer] <= 6 for layer in clustered)
    assert fidelity(prepared, x, artifact=artifact).agreement == 1.0


def test_a_loaded_model_exports_what_the_saved_one_would(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize())
    prepared.save(tmp_path / "prepared.keras")
    loaded = keras.saving.load_model(tmp_path / "prepared.keras")
    assert np.array_equal(loaded.predict(x, verbose=0), prepared.predict(x, verbose=0))
    one, other = tmp_path / "one.tflite", tmp_path / "other.tflite"
    ls.export(prepared, one, quantize="int8")
    ls.export(loaded, other, quantize="int8")
    assert one.read_bytes() == other.read_bytes()


class Line(layers.Layer):  # what lies between its operations is no place
    def call(self, inputs):
        return inputs * 2.0 + 1.0


def test_what_ranges_cannot_follow_stays_float_and_is_told(tmp_path):
    def make():
        keras.utils.set_random_seed(1)
        inputs = layers.Input((8, 8, 3))
        x = layers.Conv2D(8, 3, activation="relu", name="convolution")(inputs)
        x = layers.GlobalAveragePooling2D()(Line()(x))
        return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))

    prepared, x, _ = small.trained(ls.Quantize(), make)
    assert any("stay float" in note for note in prepared.report.notes)
    artifact = exported(prepared, tmp_path)
    assert any("computed in float" in note for note in artifact.manifest.notes)
    assert fidelity(prepared, x, artifact=artifact).agreement == 1.0
    with pytest.raises(ls.RecipeError, match="strict"):
        ls.prepare(small.train(make(), *small.data()), ls.Quantize(), strict=True)


def test_layers_that_are_computed_in_steps_are_simulated(tmp_path):
    def make():
        keras.utils.set_random_seed(1)
        inputs = layers.Input((8, 8, 3))
        x = layers.Rescaling(0.5, -0.1)(inputs)
        x = layers.SeparableConv2D(8, 3, padding="same", activation="swish", name="separable")(x)
        y = layers.BatchNormalization(momentum=0.8, name="norm")(x)
        x = layers.Concatenate(name="both")([x, layers.AveragePooling2D(1)(y), y])
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))

    prepared, x, _ = small.trained(ls.Quantize(), make)
    assert not any("stay float" in note for note in prepared.report.notes)
    artifact = exported(prepared, tmp_path)
    assert not artifact.manifest.float_operators
    found = fidelity(prepared, x, artifact=artifact)
    assert found.agreement == 1.0
    by_layer = {each.layer: each for each in found.tensors if each.kind == "out"}
    # XLA fuses the rescaling's product and sum: one value on a half is rounded the other way, and
    # what the next layers make of it may be two quanta off.
    least = 0.999 if keras.backend.backend() == "jax" else 1.0
    for layer in ("separable", "norm", "both"):
        assert by_layer[layer].within >= least and by_layer[layer].equal >= 0.99, str(found)


def test_learned_ranges_and_scales(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize(weights=4, ranges="learned"))
    first = prepared.get_layer("first")
    ((_, tap),) = holder_of(first).taps()
    ((_, (grid,)),) = holder_of(first).chains()
    assert np.abs(to_numpy(tap.growth)).min() > 0 and np.abs(to_numpy(grid.growth)).min() > 0
    found = fidelity(prepared, x)
    assert found.agreement == 1.0 and found.last.within >= 0.999


def test_fidelity_names_the_layer_where_they_part(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize())
    artifact = exported(prepared, tmp_path)
    kernel = prepared.get_layer("depthwise").kernel
    kernel.assign(kernel * -1.0)
    found = fidelity(prepared, x, artifact=artifact)
    assert found.first.layer == "depthwise_relu"
    assert "they part at depthwise_relu" in str(found)
    assert found.to_dict()["first"] == "depthwise_relu"


def test_fidelity_wants_a_prepared_model():
    with pytest.raises(ls.ModelError, match="before strip"):
        fidelity(small.convolutional(), small.data()[0])
    weights_only = ls.prepare(small.convolutional(), ls.Quantize(activations=None))
    with pytest.raises(ls.ModelError, match="activations are float"):
        fidelity(weights_only, small.data()[0])


def test_the_stripped_model_is_plain(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize(), epochs=1)
    stripped = ls.strip(prepared)
    assert not any(type(layer).__module__.startswith("litesmith") for layer in stripped.layers)
    stripped.save(tmp_path / "plain.keras")
    plain = keras.saving.load_model(tmp_path / "plain.keras")
    assert np.array_equal(plain.predict(x, verbose=0), stripped.predict(x, verbose=0))


def test_operators_count():
    prepared, x, _ = small.trained(ls.Quantize(), epochs=1)
    content = ls.convert(prepared).content
    assert len(read(content).subgraphs[0].operators) == 9
