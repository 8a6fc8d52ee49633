"""Ranges of next to nothing: what LiteRT refuses, or computes wrongly, is made wider."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from litesmith.export import calibrate, convert, export
from litesmith.export.scales import within_limits

from . import zoo

MODELS = {
    "convolution": lambda x: layers.Conv2D(4, 3)(x),
    "depthwise": lambda x: layers.DepthwiseConv2D(3)(x),
    "dense": lambda x: layers.Dense(4)(layers.Flatten()(x)),
    "pooled": lambda x: layers.MaxPooling2D()(layers.Conv2D(4, 3)(x)),
    "both": lambda x: layers.Concatenate()([layers.Conv2D(4, 3)(x), layers.Conv2D(2, 3)(x)]),
    "sum": lambda x: layers.Add()([x, layers.MaxPooling2D(1)(x)]),
    "hard swish": lambda x: layers.Activation("hard_swish")(x),
}


def calibrated(make):
    keras.utils.set_random_seed(1)
    inputs = layers.Input((6, 6, 3), batch_size=1)
    model = keras.Model(inputs, make(inputs))
    x = np.random.default_rng(1).normal(size=(1, 6, 6, 3)).astype("float32")
    float_model = convert(model)
    return model, x, float_model, calibrate(float_model, x)


def tensors(float_model):
    graph = float_model.view.subgraphs[0]
    return [t.name for t in graph.tensors if not t.constant and t.type == "FLOAT32"], graph


@pytest.mark.parametrize("preset", ["int8", "int16x8"])
@pytest.mark.parametrize("kind", MODELS)
def test_an_operator_that_gives_nothing_can_be_run(tmp_path, kind, preset):
    _, _, float_model, ranges = calibrated(MODELS[kind])
    names, graph = tensors(float_model)
    given = {graph.tensors[index].name for index in graph.inputs}
    for end in (0.0, 1e-6):
        dead = {name: (0.0, end) for name in names if name not in given}
        known = dataclasses.replace(ranges, ranges=ranges.ranges | dead)
        export(float_model, tmp_path / "model.tflite", quantize=preset, calibration=known)


def test_a_bias_behind_a_dead_unit_keeps_its_value(tmp_path):
    def make(x):
        y = layers.Conv2D(2, 1, activation="relu", bias_initializer=keras.initializers.Constant(-9))
        z = layers.Conv2D(4, 1, bias_initializer=keras.initializers.Constant(1.5))
        return z(layers.Reshape((3, 12, 2))(y(x)))

    model, x, float_model, ranges = calibrated(make)
    path = tmp_path / "model.tflite"
    export(float_model, path, quantize="int8_float_io", calibration=ranges)
    (found,) = zoo.run(path.read_bytes(), [x]).values()
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(x)), atol=0.01)


def test_ranges_that_are_wide_enough_stay_as_they_are():
    _, _, float_model, known = calibrated(MODELS["both"])
    before = known.for_quantizer(float_model.view)
    after = within_limits(float_model.view, before)
    assert after == before
    assert within_limits(float_model.view, {}) == {}
