"""Clusters hold where BatchNorm is folded in: who scales a kernel, training, strip, the files."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.export import convert
from litesmith.export.codebooks import merge_rounded
from litesmith.parametrize import find_kernels, find_scales
from litesmith.testing import promises
from tests.clustering.small import chain, norm

to_numpy = keras.ops.convert_to_numpy
RNG = np.random.default_rng(5)


@keras.saving.register_keras_serializable("tests")
class LayerScale(layers.Layer):
    """As ConvNeXt has it: its variable has no name of its own."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.gamma


FOLDED = {
    "layer scale": ((4, 4, 6), lambda: [layers.Dense(8), LayerScale()]),
    "conv": ((6, 6, 4), lambda: [layers.Conv2D(6, 3, use_bias=False), norm(), layers.ReLU()]),
    "bias": ((6, 6, 4), lambda: [layers.Conv2D(6, 3), norm(), layers.Conv2D(8, 1), norm()]),
    "dilated": ((8, 8, 4), lambda: [layers.Conv2D(6, 3, dilation_rate=2), norm()]),
    "grouped": ((6, 6, 4), lambda: [layers.Conv2D(6, 3, groups=2), norm()]),
    "depthwise": ((6, 6, 4), lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2), norm()]),
    "separable": ((6, 6, 4), lambda: [layers.SeparableConv2D(6, 3), norm()]),
    "transposed": ((6, 6, 4), lambda: [layers.Conv2DTranspose(6, 3, strides=2), norm()]),
    "one": ((8, 4), lambda: [layers.Conv1D(6, 3), norm()]),
    "three": ((5, 5, 5, 4), lambda: [layers.Conv3D(6, 3), norm()]),
    "dense": ((8,), lambda: [layers.Dense(6), norm(), layers.Dense(5)]),
    "sequence": ((5, 8), lambda: [layers.Dense(6), norm()]),
    "einsum": ((5, 8), lambda: [layers.EinsumDense("abc,cd->abd", (5, 6), bias_axes="d"), norm()]),
    "dropout": ((6, 6, 4), lambda: [layers.Conv2D(6, 3), layers.Dropout(0.5), norm()]),
    "no gamma": ((6, 6, 4), lambda: [layers.Conv2D(6, 3), norm(scale=False)]),
    "no beta": ((6, 6, 4), lambda: [layers.Conv2D(6, 3), norm(center=False)]),
    "before": ((8,), lambda: [layers.Dense(8, "relu"), norm(), layers.Dense(6)]),
    "nested": ((6, 6, 4), lambda: [keras.Sequential([layers.Conv2D(6, 3), norm()])]),
}


@pytest.mark.parametrize("name", FOLDED)
def test_no_more_values_than_clusters_in_the_tflite_and_in_the_plain_model(name):
    shape, parts = FOLDED[name]
    model = chain(shape, *parts())
    prepared = ls.prepare(model, ls.Cluster(clusters=5, where=".*"))
    assert not prepared.report.skipped or all(e.variable == "" for e in prepared.report.skipped)
    x = RNG.normal(size=(8, *shape)).astype("float32")
    stripped = ls.strip(prepared)
    expected = to_numpy(prepared(x))
    off = np.abs(to_numpy(stripped(x)) - expected).max()
    assert off <= 1e-5 * np.abs(expected).max()
    for kernel in find_kernels(stripped):
        assert len(np.unique(kernel.value())) <= 5
    float_model = convert(stripped)
    assert not list(
        promises.broken_in_file(
            prepared,
            ls.Recipe.of(ls.Cluster(clusters=5, where=".*")),
            float_model,
            float_model.content,
        )
    )


@pytest.mark.parametrize("name", ["before", "conv", "depthwise", "dense"])
def test_codebooks_of_a_channel_hold_in_the_tflite(name):
    shape, parts = FOLDED[name]
    recipe = ls.Recipe.of(ls.Cluster(clusters=3, granularity=ls.PerChannel(), where=".*"))
    prepared = ls.prepare(chain(shape, *parts()), recipe)
    float_model = convert(ls.strip(prepared))
    assert not list(promises.broken_in_file(prepared, recipe, float_model, float_model.content))
    stored = promises.kernels_in_file(float_model, float_model.content).values()
    for values in stored:
        assert values.size > 3
        # LiteRT's channels are first, but last in a depthwise kernel.
        rows = np.moveaxis(values, -1, 0) if name == "depthwise" else values
        assert max(len(np.unique(row)) for row in rows) <= 3


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "technique", [ls.Cluster(clusters=16), ls.Quantize(weights=4), ls.Quantize()]
)
def test_units_that_never_fire_have_no_say(technique):
    # A BatchNorm divides them by √ε alone: folded, their weights are by far the largest.
    model = chain((40,), layers.Dense(64, "relu"), norm(), layers.Dense(24))
    first, scale, last = model.layers[1:]
    for weight, value in zip(scale.weights, (1.0, 0.5, 0.4, 1.0), strict=True):
        weight.assign(np.full(weight.shape, value))
    dead = np.arange(64) % 4 == 0
    kernel, bias = to_numpy(first.kernel).copy(), to_numpy(first.bias).copy()
    kernel[:, dead], bias[dead] = 0.0, -1.0
    first.set_weights([kernel, bias])
    scale.moving_variance.assign(np.where(dead, 1e-30, 1.0))
    scale.moving_mean.assign(np.where(dead, 0.0, 0.4))
    prepared = ls.prepare(model, technique)
    x = RNG.normal(size=(64, 40)).astype("float32")
    wrong = to_numpy(prepared(x)) - to_numpy(model(x))
    # Also in the mean: a unit that never fires is a constant, which the bias takes up.
    assert wrong.std() < 0.2 * to_numpy(model(x)).std()
    np.testing.assert_allclose(
        to_numpy(ls.strip(prepared)(x)), to_numpy(prepared(x)), rtol=1e-3, atol=1e-3
    )


def test_stock_clustering_of_the_stored_kernel_would_not_hold():
    # What the promise is worth: the same values clustered without regard to BatchNorm.
    shape, parts = FOLDED["conv"]
    model = chain(shape, *parts())
    kernel = find_kernels(model)[0]
    values = kernel.value()
    steps = np.linspace(values.min(), values.max(), 5, dtype="float32")
    kernel.variable.assign(steps[np.abs(values[..., None] - steps).argmin(-1)])
    float_model = convert(model)
    (stored,) = promises.kernels_in_file(float_model, float_model.content).values()
    assert len(np.unique(stored)) > 5


def scale_of(model, layer):
    kernels = [k for k in find_kernels(model) if k.path == layer]
    found = find_scales(model, kernels).get(id(kernels[0].variable))
    return found and (found.layer.name, found.reason)


@pytest.mark.every_backend
def test_who_scales_a_kernel():
    inputs = keras.Input((6, 6, 4))
    direct = norm(name="direct")(layers.Conv2D(4, 3, padding="same", name="a")(inputs))
    relu = norm()(layers.Conv2D(4, 3, padding="same", activation="relu", name="b")(direct))
    two = layers.Conv2D(4, 3, padding="same", name="c")(relu)
    both = layers.Add()([two, norm()(two)])
    padded = norm()(layers.ZeroPadding2D()(layers.Conv2D(4, 3, name="d")(both)))
    out = layers.Conv2D(4, 3, name="e")(padded)
    shared = norm(name="shared")
    one = shared(layers.Conv2D(4, 1, name="f")(out))
    other = shared(layers.Conv2D(4, 1, name="g")(out))
    model = keras.Model(inputs, [layers.Add()([one, other]), out])
    assert scale_of(model, "a") == ("direct", "")
    for plain in "bcde":
        assert scale_of(model, plain) is None, plain
    assert scale_of(model, "f") == ("shared", "'shared', which scales it, scales other layers, too")
    report = ls.Recipe(ls.Cluster(clusters=4)).check(model)
    assert {e.layer: e.reason for e in report.skipped}.keys() == {"f", "g"}


class Unlike(keras.Model):
    """Convolutions whose BatchNorm only the calls tell."""

    def __init__(self):
        super().__init__(name="unlike")
        self.norm = norm(name="its_norm")
        self.other = norm(name="other_norm")
        self.conv = layers.Conv2D(4, 3, name="conv")
        self.free = layers.Conv2D(4, 3, name="free")

    def call(self, inputs, training=None):
        hidden = keras.ops.relu(self.norm(self.conv(inputs), training=training))
        return self.other(keras.ops.relu(self.free(hidden)), training=training)

    def get_config(self):
        return {}


@pytest.mark.every_backend
def test_a_subclassed_model_is_watched():
    model = Unlike()
    model(np.zeros((1, 8, 8, 3), "float32"))
    assert scale_of(model, "conv") == ("its_norm", "")
    assert scale_of(model, "free") is None


@pytest.mark.every_backend
def test_batch_norm_and_dropout_train_while_clustering():
    # Stock clustering runs every wrapped layer in inference mode.
    model = chain((6, 6, 4), layers.Conv2D(6, 3), norm(name="bn"), layers.Dropout(0.5))
    model.get_layer("bn").moving_variance.assign(np.full(6, 50.0))
    prepared = ls.prepare(model, ls.Cluster(clusters=4))
    before = [to_numpy(v).copy() for v in prepared.get_layer("bn").weights]
    x = RNG.normal(size=(64, 6, 6, 4)).astype("float32")
    one, two = (to_numpy(prepared(x, training=True)) for _ in range(2))
    assert (one != two).any()  # dropout draws
    assert (to_numpy(prepared(x)) == to_numpy(prepared(x))).all()
    prepared.compile("adam", "mse", jit_compile=keras.backend.backend() == "jax")
    prepared.fit(x, one, epochs=2, verbose=0)
    after = [to_numpy(v) for v in prepared.get_layer("bn").weights]
    moved = [(a != b).any() for a, b in zip(before, after, strict=True)]
    assert moved == [True] * 4  # gamma, beta, moving mean, and a moving variance that was far off


@pytest.mark.every_backend
def test_training_multiplies_by_the_scale_of_inference():
    model = chain((6, 6, 4), layers.Conv2D(6, 3), norm(name="bn", momentum=0.0))
    x = RNG.normal(size=(256, 6, 6, 4)).astype("float32")
    variance = to_numpy(model.layers[1](x)).var(axis=(0, 1, 2))
    model.get_layer("bn").moving_variance.assign(1.2 * variance)
    model.get_layer("bn").gamma.assign([-1.0, 1.2, 1.4, -1.6, 1.8, 2.0])
    prepared = ls.prepare(model, ls.Cluster(clusters=3))
    trained = to_numpy(prepared(x, training=True))
    prepared.get_layer("bn").moving_variance.assign(1.2 * variance)  # as in that step
    predicted = to_numpy(prepared(x))  # the moving mean is now the batch's
    assert np.abs(trained - predicted).max() <= 1e-4 * np.abs(predicted).max()
    gamma = np.abs(to_numpy(prepared.get_layer("bn").gamma))
    # Plain BatchNorm would have brought each channel to γ, whatever its few values make of it.
    assert np.abs(trained.std(axis=(0, 1, 2)) / gamma - 1).max() > 0.02


@pytest.mark.parametrize("preset", ["int8", "dynamic_int8", "weight_int8", "weight_int4"])
def test_integers_are_as_few_as_the_clusters_over_the_whole_tensor(tmp_path, preset):
    shape = (8, 8, 4)
    parts = [layers.Conv2D(16, 3), norm(), layers.ReLU(), layers.DepthwiseConv2D(3), norm()]
    parts += [layers.Conv2D(24, 1), norm(), layers.Flatten(), layers.Dense(10)]
    model = chain(shape, *parts)
    prepared = ls.prepare(model, ls.Cluster(clusters=6, where=".*"))
    x = RNG.normal(size=(32, *shape)).astype("float32")
    artifact = ls.export(
        prepared,
        tmp_path / "a.tflite",
        quantize=preset,
        calibration=x if preset == "int8" else None,
    )
    assert len(artifact.manifest.kernels) == 4
    for kernel in artifact.manifest.kernels:
        assert kernel.unique <= 6, kernel


def test_groups_of_channels_share_a_scale_and_others_do_not(tmp_path):
    model = chain((8, 8, 4), layers.Conv2D(16, 3), norm(), layers.Flatten(), layers.Dense(4))
    technique = ls.Cluster(clusters=6, granularity=ls.PerChannelGroup(8))
    artifact = ls.export(
        ls.prepare(model, technique), tmp_path / "a.tflite", quantize="weight_int8"
    )
    assert artifact.manifest.kernels[0].unique <= 12


def test_a_plain_model_keeps_its_scales(tmp_path):
    model = chain((8, 8, 4), layers.Conv2D(16, 3), norm(), layers.ReLU())
    artifact = ls.export(model, tmp_path / "a.tflite", quantize="weight_int8")
    from litesmith.export.flatbuffer import read

    (kernel,) = [
        t
        for t in read(artifact.path.read_bytes()).subgraphs[0].tensors
        if t.name == artifact.manifest.kernels[0].tensor
    ]
    assert len(np.unique(kernel.scale)) == 16


def test_only_roundings_are_merged():
    values = np.repeat(np.float32([0.1, 0.2, -3]), 50)
    rounded = np.nextafter(values, np.float32(np.inf) * np.tile([1, -1], 75).astype("float32"))
    mixed = np.concatenate([values, rounded])
    merged = merge_rounded(mixed)
    assert len(np.unique(mixed)) == 9 and len(np.unique(merged)) == 3
    assert np.abs(merged - mixed).max() < 1e-6
    assert merge_rounded(values) is None
    crowd = np.float32(1) + np.arange(5000, dtype="float32") * np.float32(2e-7)
    assert merge_rounded(crowd) is None


def test_a_codebook_a_channel_for_convolutions_without_bias():
    # Stock clustering by channel skips them, with a warning about something else.
    model = chain((8, 8, 4), layers.Conv2D(6, 3, use_bias=False), norm(), layers.ReLU())
    technique = ls.Cluster(clusters=3, granularity=ls.PerChannel())
    prepared = ls.prepare(model, technique)
    assert [entry.status for entry in prepared.report.entries] == ["done"]
    float_model = convert(ls.strip(prepared))
    (stored,) = promises.kernels_in_file(float_model, float_model.content).values()
    channels = stored.reshape(6, -1)  # OHWI
    assert max(len(np.unique(channel)) for channel in channels) == 3
    assert len(np.unique(stored)) > 3


@pytest.mark.every_backend
def test_statistics_keep_up_without_feedback():
    # Keras's momentum of 0.99 would leave the moving mean a hundred steps behind; and a channel
    # whose γ is tiny, so that its few values are far too large, must not scale itself away.
    model = chain((6, 6, 4), layers.Conv2D(6, 3), norm(name="bn", momentum=0.99))
    x = np.random.default_rng(7).normal(size=(256, 6, 6, 4)).astype("float32")
    own = to_numpy(model.layers[1](x)).var(axis=(0, 1, 2))
    model.get_layer("bn").moving_variance.assign(own)
    prepared = ls.prepare(model, ls.Cluster(clusters=3))
    bn = prepared.get_layer("bn")
    prepared(x, training=True)  # means of the values in use
    bn.moving_mean.assign(bn.moving_mean + 100.0)
    for _ in range(200):
        prepared(x, training=True)
    used = keras.Model(prepared.inputs[0], prepared.layers[1].output)
    outputs = to_numpy(used(x))
    mean, spread = outputs.mean(axis=(0, 1, 2)), outputs.std(axis=(0, 1, 2))
    assert (np.abs(to_numpy(bn.moving_mean) - mean) < 0.1 * spread).all()
    # Estimated from the batch's by the weights' energies, for inputs that are independent.
    assert to_numpy(bn.moving_variance) == pytest.approx(own, rel=0.1)
