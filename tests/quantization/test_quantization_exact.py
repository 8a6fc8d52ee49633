"""Every tensor of the file is, integer by integer, what the prepared model computes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import litesmith as ls
from litesmith.evaluation import predict
from litesmith.parametrize import holder_of, is_parametrized, telling
from litesmith.quantization import accumulating, core, fidelity
from tests.quantization import small

pytestmark = pytest.mark.every_backend


def everything():
    """What convolutional networks are made of: scaled inputs, swish, squeeze and excite, sums."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((8, 8, 3))
    x = layers.Rescaling(1 / 4, offset=0.1, name="rescaling")(inputs)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.1, 1.9], name="normalized")(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(x)
    x = layers.BatchNormalization(momentum=0.8)(x)
    x = layers.Activation("swish", name="swish")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(8, 1, name="excite")(layers.Conv2D(4, 1, activation="relu")(gate))
    x = layers.Multiply(name="excited")([x, layers.ReLU(6.0)(gate + 3.0) * (1.0 / 6.0)])
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    y = layers.ReLU(6.0, name="between")(layers.BatchNormalization(momentum=0.8)(y))
    y = layers.Conv2D(8, 1, use_bias=False, name="narrow")(y)
    x = layers.Add(name="sum")([x, layers.BatchNormalization(momentum=0.8)(y)])
    y = layers.Conv2D(8, 3, padding="same", name="last")(x)
    x = layers.Add()([x, y])
    x = layers.ReLU(name="joined")(layers.BatchNormalization(momentum=0.8)(x))  # in two steps
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(4, name="head")(x))


def scaled():
    """A Rescaling that the converter folds into the kernel behind it."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((8, 8, 3))
    x = layers.Rescaling(1 / 16)(inputs)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(momentum=0.8)(x))
    return keras.Model(inputs, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x)))


def branches():
    """Concatenations in one another, and what is made in their scale; each begins with a ReLU."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((8, 8, 3))

    def block(x, width, name):
        x = layers.ReLU()(x)  # the file has one for all that take the same
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))

    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.BatchNormalization(momentum=0.8)(x)
    inner = layers.Concatenate(name="inner")([block(x, 4, "one"), block(x, 6, "two")])
    pooled = block(layers.AveragePooling2D(3, strides=1, padding="same")(x), 4, "three")
    added = layers.Add()([block(x, 4, "five"), block(x, 4, "six")])
    x = layers.Concatenate(name="outer")([inner, block(x, 5, "four"), pooled, added])
    x = layers.GlobalAveragePooling2D()(block(x, 8, "last"))
    return keras.Model(inputs, layers.Dense(4, name="head")(x))


def recurrent():
    """Cells with a bias that is added behind a product, and one that returns all its steps."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((5, 6))
    x = layers.LSTM(6, return_sequences=True, name="lstm")(inputs)
    x = layers.GRU(6, return_sequences=True, name="gru")(x)
    return keras.Model(inputs, layers.Dense(4, name="head")(layers.SimpleRNN(6, name="plain")(x)))


def trained(make):
    model = ls.prepare(make(), ls.Quantize())
    x, y = small.data(tuple(model.inputs[0].shape[1:]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    jit = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.Adam(1e-2), loss, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)  # else TensorFlow traces the step twice
    model.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0)
    return model, x


@pytest.mark.parametrize(
    "make", [everything, scaled, branches, recurrent], ids=lambda make: make.__name__
)
def test_every_tensor_is_the_same(tmp_path, make):
    prepared, x = trained(make)
    assert prepared.report.notes == ()
    artifact = ls.export(prepared, tmp_path / "model.tflite", quantize="int8")
    assert not artifact.manifest.float_operators
    found = fidelity(prepared, x, artifact=artifact)
    tensors = found.tensors
    if make is branches:  # what the outer concatenation rounds is not rounded before it
        names = [tensor.layer for tensor in tensors]
        tensors = tensors[names.index("outer") :]
    assert len(tensors) >= (1 if make is recurrent else 3)
    # XLA divides by a scale as it likes, which is a bit off in what lies on a half.
    least = 0.98 if keras.backend.backend() == "jax" else 1.0
    assert all(tensor.equal >= least for tensor in tensors), str(found)
    # What is compiled for `predict` computes the same.
    compiled = prepared.predict(x, batch_size=16, verbose=0)
    off = np.abs(compiled - np.asarray(predict(artifact, x)[0]))
    assert (off <= 1e-5 * np.abs(compiled).max()).mean() >= least


def test_a_norm_trained_a_little_is_told_from_its_product(tmp_path):
    prepared, _ = trained(scaled)
    model = ls.strip(prepared)
    norm = next(each for each in model.layers if isinstance(each, layers.BatchNormalization))
    norm.beta.assign(np.linspace(-1e-4, 1e-4, 8))
    x, y = small.data()
    again = ls.prepare(model, ls.Quantize(), calibration=x)
    # By now the two are far apart, and the range has to be that of the sum.
    next(each for each in again.layers if each.name == norm.name).beta.assign(np.full(8, 0.5))
    artifact = ls.export(again, tmp_path / "model.tflite", quantize="int8")
    assert not artifact.manifest.float_operators and not any(
        "computed in float" in note for note in artifact.manifest.notes
    )


@pytest.mark.parametrize("first, second, scale", [(0.1, 0.1, 0.2), (0.013, 1.7, 0.9), (2, 3, 0.05)])
def test_sums_are_shifted_as_xnnpack_does(first, second, scale):
    random = np.random.default_rng(2)
    one, other = random.integers(-255, 256, (2, 5000))
    exponent = int(np.floor(np.log2(max(first, second) / scale)))
    shift = 20 - exponent
    factors = [int(np.rint(np.float32(each) / np.float32(scale) * 2.0**shift)) for each in
               (first, second)]  # fmt: skip
    whole = [(int(a) * factors[0] + int(b) * factors[1] + (1 << (shift - 1))) >> shift
             for a, b in zip(one, other, strict=True)]  # fmt: skip
    tensors = [
        ops.convert_to_tensor((whole_one * np.float32(each)).astype("float32"))
        for whole_one, each in ((one, first), (other, second))
    ]
    scales = [ops.convert_to_tensor(np.float32(each)) for each in (first, second, scale)]
    found = core.sum_of_integers(tensors[0], scales[0], tensors[1], scales[1], scales[2])
    assert np.array_equal(ops.convert_to_numpy(found), whole)


def compiled(function, *values):
    """What a function gives, compiled as this backend compiles a step."""
    tensors = [ops.convert_to_tensor(np.asarray(value, "float32")) for value in values]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        ways = [tf.function(function), tf.function(function, jit_compile=True)]
    elif keras.backend.backend() == "jax":
        import jax

        ways = [jax.jit(function)]
    else:
        ways = [function]
    return [ops.convert_to_numpy(way(*tensors)) for way in ways]


def test_the_zero_point_decides_a_half_of_a_mean():
    scale, wanted = 0.031674616038799286, 0.009195840917527676
    integers = np.array([162, -162, 486, 100, 0])

    def mean(value, scale, zero, wanted, other):
        telling.tell("taken", (scale, zero))
        about = {"input": "taken", "count": 36}
        return accumulating.averaged(value, wanted, other, about) / wanted

    values = (integers / 36).astype("float32") * np.float32(scale)
    for found in compiled(mean, values, scale, -119, wanted, -101):
        # As LiteRT gave them; 162 · scale ÷ wanted ÷ 36 is 15.50003.
        assert np.rint(found).tolist() == [15, -16, 47, 10, 0]


def test_a_product_is_that_of_the_integers():
    one, other = np.meshgrid(np.arange(-255, 256), np.arange(256))
    one, other = one.ravel().astype("float32"), other.ravel().astype("float32")
    gate = np.float32(1 / 256)
    scale = wanted = np.float32(0.008892484940588474)  # so that one in 256 lies on a half
    exact = np.rint(one * other * (scale * gate / wanted))
    plain = np.rint((one * scale) * (other * gate) / wanted)
    assert not np.array_equal(plain, exact)  # or this would show nothing

    def product(first, second, one, other, wanted):
        telling.tell("one", (one, None))
        telling.tell("other", (other, None))
        value = first * one * (second * other)
        return accumulating.multiplied(value, wanted, ("one", "other")) / wanted

    for found in compiled(product, one, other, scale, gate, wanted):
        assert np.array_equal(np.rint(found), exact)


def test_a_sum_in_the_scale_of_a_concatenation_is_rounded_where_it_is_made(tmp_path):
    inputs = layers.Input((8, 8, 3))
    x = layers.Add(name="sum")([layers.ReLU(name="relu")(inputs), inputs])
    x = layers.Concatenate(name="joined")([x, layers.Conv2D(2, 1)(inputs)])
    x = layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x))
    x, model = small.data()[0][..., :3], keras.Model(inputs, x)
    prepared = ls.prepare(model, ls.Quantize(), calibration=x)
    for layer in prepared.layers:
        for _, tap in holder_of(layer).taps() if is_parametrized(layer) else ():
            if getattr(tap, "observes", False):  # so that every fourth sum lies on a half
                step = 2.0**-3 if layer.name == "joined" else 2.0**-5
                tap.set_range(-128 * step, 127 * step)
    artifact = ls.export(prepared, tmp_path / "model.tflite", quantize="int8")
    tensors = fidelity(prepared, x, artifact=artifact).tensors
    assert [tensor.equal for tensor in tensors if tensor.layer == "joined"] == [1.0]


def test_a_constant_has_the_scale_that_the_quantizer_gives_it():
    constants = np.random.default_rng(5).normal(size=(300, 7)).astype("float32")
    bounds = np.maximum(constants.max(1), 0) - np.minimum(constants.min(1), 0)

    def scales(values):
        return ops.stack([core.parameters_of_constant(row, 8)[0] for row in ops.unstack(values)])

    for found in compiled(scales, constants):
        assert np.array_equal(found, bounds / np.float32(255))


@pytest.mark.parametrize("bits", [8, 16])
def test_ends_of_a_grid_give_its_scale_to_the_last_bit(bits):
    for low, high in np.random.default_rng(3).uniform([-9, 0], [1, 7], (200, 2)):
        low, high = float(np.float32(low)), float(np.float32(high))
        scale, zero = core.parameters(ops.convert_to_tensor(low), ops.convert_to_tensor(high), bits)
        least, most = core.ends_of_grid(low, high, bits)
        levels = 255.0 if bits == 8 else 2 * 32767.0
        assert np.float32((most - least) / levels) == np.float32(ops.convert_to_numpy(scale))
        if bits == 8:
            assert np.rint(-128 - least / ((most - least) / levels)) == float(zero)
