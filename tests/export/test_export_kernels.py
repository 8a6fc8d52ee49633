from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from litesmith.export import convert, flatbuffer


def _pruned(model, share, seed=0, values=None):
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        if value.ndim > 1:
            if values is not None:
                value = random.choice(values, value.shape)
            weight.assign(np.where(random.random(value.shape) < share, 0, value))
        elif "gamma" in weight.path or "variance" in weight.path:
            weight.assign(random.uniform(0.5, 1.5, value.shape) * random.choice([-1, 1]) ** 2)
        elif "beta" in weight.path or "mean" in weight.path:
            weight.assign(random.normal(0, 0.2, value.shape))


def _net():
    inputs = layers.Input((12, 12, 1))
    x = inputs
    for filters in (4, 8, 8, 8):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(x))
    x = layers.Conv2D(8, 1)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(1)(layers.Dense(8)(layers.Dense(8)(x))))


@pytest.mark.parametrize(
    ("share", "values"),
    [(0.8, None), (0.95, None), (0.8, [-0.5, 0.5]), (0.95, [0.25]), (0.0, [0.25])],
)
def test_zero_heavy_kernels_of_few_values(share, values):
    model = _net()
    _pruned(model, share, values=values)
    float_model = convert(model)
    tensors = {
        t.name: t.data for g in flatbuffer.read(float_model.content).subgraphs for t in g.tensors
    }
    for weight in model.weights:
        if len(weight.shape) < 2:
            continue
        value = keras.ops.convert_to_numpy(weight)
        found = [k for k in float_model.kernels if k.variable == weight.path]
        if not value.any():
            continue  # a kernel of zeros is nowhere and everywhere
        assert len(found) == 1, weight.path
        (kernel,) = found
        assert (tensors[kernel.tensor] == 0).sum() == (value == 0).sum()
        layer = weight.path.split("/")[0]
        # Told apart from its look-alikes by value, or else by the names around it.
        if not kernel.tensor.startswith("arith"):
            assert layer in kernel.tensor or share == 0


def test_negative_and_dead_channels_fold():
    inputs = layers.Input((6, 6, 2))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, use_bias=False)(inputs))
    model = keras.Model(inputs, x)
    model.get_layer("bn").gamma.assign([1.0, -2.0, 0.0, 0.5])
    float_model = convert(model)
    (kernel,) = float_model.kernels
    assert kernel.folded and kernel.shape == (4, 3, 3, 2)


def test_a_layer_used_twice_has_a_tensor_for_each_folding():
    inputs = layers.Input((6, 6, 2))
    shared = layers.Conv2D(2, 3, padding="same", use_bias=False, name="shared")
    x = shared(inputs)
    x = layers.BatchNormalization(name="first")(x)
    x = layers.BatchNormalization(name="second")(shared(layers.ReLU()(x)))
    model = keras.Model(inputs, x)
    model.get_layer("first").gamma.assign([2.0, 3.0])
    model.get_layer("second").gamma.assign([0.5, 0.7])
    float_model = convert(model)
    assert [kernel.layer for kernel in float_model.kernels] == ["shared", "shared"]
    assert float_model.unmapped == ()


def test_a_single_weight_a_channel_is_told_by_name():
    inputs = layers.Input((4, 4, 3))
    x = layers.DepthwiseConv2D(1, use_bias=False, name="scale")(inputs)
    x = layers.Conv2D(3, 3, name="conv")(layers.ReLU()(x))
    float_model = convert(keras.Model(inputs, x))
    assert [kernel.layer for kernel in float_model.kernels] == ["scale", "conv"]


def test_an_unused_kernel_is_unmapped():
    class Branchy(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Dense(2), layers.Dense(3)

        def call(self, x, training=False):
            return self.used(x) + (0 if not training else keras.ops.mean(self.unused(x)))

    model = Branchy()
    model(np.ones((1, 4), "float32"), training=True)
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a local class")
    float_model = convert(model)
    assert len(float_model.kernels) == 1
    assert len(float_model.unmapped) == 1
