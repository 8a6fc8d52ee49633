"""What is computed in integers where only some layers are quantized, and behind biases of zero."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.export import flatbuffer

RNG = np.random.default_rng(3)
X = RNG.normal(size=(64, 8, 8, 3)).astype("float32")


def network():
    """Two convolutions that are added, a dense layer; all biases are zero, as when made."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(
        layers.AveragePooling2D(2)(inputs)
    )
    second = layers.Conv2D(8, 3, padding="same", name="second")(first)
    hidden = layers.ReLU()(layers.Add()([first, second]))
    hidden = layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(inputs, layers.Dense(4, name="last")(hidden))


def computed_in(path):
    """Type of what each operator gives, in order."""
    graph = flatbuffer.read(path.read_bytes()).subgraphs[0]
    return [
        (operator.name, graph.tensors[operator.outputs[0]].type)
        for operator in graph.operators
        if operator.name not in ("QUANTIZE", "DEQUANTIZE")
    ]


WHOLE, FLOAT = "INT8", "FLOAT32"


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "where, types",
    [
        (None, [WHOLE] * 6),
        ("last", [FLOAT] * 5 + [WHOLE]),
        ("second", [FLOAT, FLOAT, WHOLE, WHOLE, WHOLE, FLOAT]),
        ("first", [WHOLE, WHOLE, FLOAT, WHOLE, WHOLE, FLOAT]),
    ],
    ids=["all", "last", "second", "first"],
)
def test_operators_without_weights_go_with_what_they_take(where, types, tmp_path):
    prepared = ls.prepare(network(), ls.Quantize(where=where), calibration=X)
    path = tmp_path / "model.tflite"
    ls.export(ls.strip(prepared), path, quantize="int8_float_io")
    names = ["AVERAGE_POOL_2D", "CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"]
    assert computed_in(path) == list(zip(names, types, strict=True))
    found = ls.fidelity(prepared, X)  # with whole inputs, as training simulates them
    assert found.signal_to_noise >= 40
    assert all(each.within >= 0.99 for each in found.tensors)


def test_hard_sigmoid_is_in_integers_as_a_layer_and_inside_of_one(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    hidden = layers.Conv2D(8, 3, activation="relu")(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(hidden)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(gate)
    hidden = layers.Activation("hard_sigmoid")(layers.Multiply()([hidden, gate]))
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(hidden)))
    prepared = ls.prepare(model, ls.Quantize(), calibration=X)
    prepared.compile("sgd", "mse")
    prepared.fit(X[:32], np.zeros((32, 4)), verbose=0)
    path = tmp_path / "model.tflite"
    ls.export(ls.strip(prepared), path, quantize="int8", strict=True)
    assert {kind for _, kind in computed_in(path)} == {WHOLE}
    found = ls.fidelity(prepared, X)
    assert min(each.signal_to_noise for each in found.tensors) >= 30
