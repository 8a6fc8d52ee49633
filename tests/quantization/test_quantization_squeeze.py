"""Squeeze-excite, whose squeeze of few channels may be zero or positive altogether."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.quantization import fidelity
from tests.quantization import small

DEAD = keras.initializers.Constant(-50.0)
BIAS = keras.initializers.Constant(0.7)


def squeeze_excite(x, apart=False, dead=True):
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    bias = DEAD if dead else "zeros"
    activation = None if apart else "relu"
    y = layers.Conv2D(2, 1, activation=activation, bias_initializer=bias, name="squeeze")(y)
    y = layers.ReLU(name="squeezed")(y) if apart else y
    y = layers.Conv2D(channels, 1, activation="sigmoid", bias_initializer=BIAS, name="excite")(y)
    return layers.Multiply(name="scaled")([x, y])


def convolved(x):
    return layers.ReLU()(layers.Conv2D(8, 3, strides=2, padding="same")(x))


def transposed(x):
    return layers.Conv2DTranspose(4, 2, strides=2, name="transposed")(x)


def mobile(x):
    x = layers.Activation("hard_swish")(layers.Conv2D(8, 3, padding="same")(x))
    x = layers.BatchNormalization()(x)  # nothing it folds into
    return transposed(squeeze_excite(convolved(x)))


BODIES = {
    "alone": lambda x: squeeze_excite(convolved(x)),
    "relu apart": lambda x: squeeze_excite(convolved(x), apart=True),
    "transposed": lambda x: transposed(squeeze_excite(convolved(x))),
    "hard swish, norm, transposed": mobile,
}


def make(body):
    keras.utils.set_random_seed(1)
    inputs = layers.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(body(inputs))
    return keras.Model(inputs, layers.Dense(small.CLASSES, activation="softmax", name="head")(x))


@pytest.mark.parametrize("body", BODIES)
def test_a_squeeze_that_died_is_exported(tmp_path, body):
    x, _ = small.data()
    prepared = ls.prepare(make(BODIES[body]), ls.Quantize(), calibration=x)
    # export says so where LiteRT refuses the file.
    artifact = ls.export(prepared, tmp_path / "model.tflite", quantize="int8", strict=True)
    found = fidelity(prepared, x, artifact=artifact)
    assert found.agreement == 1.0 and found.last.signal_to_noise >= 30, str(found)
    assert min(each.within for each in found.tensors) >= 0.99, str(found)


@pytest.mark.parametrize("apart", [False, True])
def test_the_range_is_that_behind_a_relu_that_changes_nothing_yet(tmp_path, apart):
    model = make(lambda x: squeeze_excite(convolved(x), apart, dead=False))
    kernel = model.get_layer("squeeze").kernel
    random = np.random.default_rng(1)
    kernel.assign(random.uniform(0.1, 0.5, kernel.shape))  # of positive numbers
    prepared = ls.prepare(model, ls.Quantize())
    prepared.get_layer("squeeze").kernel.assign([[[[-0.4, 0.4]] * 8]])
    x, y = small.data()
    small.train(prepared, x, y, epochs=1)
    artifact = ls.export(prepared, tmp_path / "model.tflite", quantize="int8", strict=True)
    found = fidelity(prepared, x, artifact=artifact)
    layer = "squeezed" if apart else "squeeze"
    assert (layer, "out") in {(each.layer, each.kind) for each in found.tensors}
    assert min(each.within for each in found.tensors) >= 0.99, str(found)
