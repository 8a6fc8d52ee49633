"""What `loss = "auto"` stands for."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from litesmith.errors import StudyError
from litesmith.study.losses import Head, heads, loss_for

layers = keras.layers
pytestmark = pytest.mark.every_backend


def model(*tail, inputs=4):
    return keras.Sequential([keras.Input((inputs,)), *tail])


def kind(built):
    return heads(built, np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4))[0].kind


def test_heads_by_their_layer():
    assert kind(model(layers.Dense(3, activation="softmax"))) == "softmax"
    assert kind(model(layers.Dense(1, activation="sigmoid"))) == "sigmoid"
    assert kind(model(layers.Dense(3))) == "linear"
    assert kind(model(layers.Dense(3), layers.Softmax())) == "softmax"
    assert kind(model(layers.Dense(1), layers.Activation("sigmoid"))) == "sigmoid"
    nested = model(layers.Dense(5), model(layers.Dense(3, activation="softmax"), inputs=5))
    assert kind(nested) == "softmax"


def test_heads_by_their_values():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return keras.ops.softmax(self.dense(x))

    assert kind(Subclassed()) == "softmax"
    inputs = keras.Input((4,))
    assert kind(keras.Model(inputs, keras.ops.sigmoid(layers.Dense(1)(inputs)))) == "sigmoid"
    assert kind(keras.Model(inputs, layers.Dense(3)(inputs) * 2.0)) == "linear"


def test_several_outputs():
    inputs = keras.Input((4,))
    built = keras.Model(
        inputs,
        {
            "label": layers.Dense(3, activation="softmax", name="label")(inputs),
            "value": layers.Dense(1, name="value")(inputs),
        },
    )
    found = heads(built, np.zeros((2, 4), np.float32))
    assert sorted(head.kind for head in found) == ["linear", "softmax"]
    labels = {"label": np.array([0, 1]), "value": np.array([0.5, 1.5])}
    chosen = loss_for("auto", found, labels)
    assert {key: type(value).__name__ for key, value in chosen.items()} == {
        "label": "SparseCategoricalCrossentropy",
        "value": "MeanSquaredError",
    }
    with pytest.raises(StudyError, match="expected labels for 2 outputs, received labels for 1"):
        loss_for("auto", found, np.array([0, 1]))


def test_dicts_are_paired_by_name():
    inputs = keras.Input((4,))
    built = keras.Model(
        inputs,
        {
            "value": layers.Dense(1, name="x")(inputs),
            "label": layers.Dense(3, activation="softmax", name="y")(inputs),
        },
    )
    found = heads(built, np.zeros((2, 4), np.float32))
    assert {head.name: head.kind for head in found} == {"value": "linear", "label": "softmax"}
    values, classes = np.array([0.5, 1.5]), np.array([0, 1])
    for labels in ({"value": values, "label": classes}, {"label": classes, "value": values}):
        chosen = loss_for("auto", found, labels)
        assert {key: type(value).__name__ for key, value in chosen.items()} == {
            "label": "SparseCategoricalCrossentropy",
            "value": "MeanSquaredError",
        }
    message = "expected labels for the outputs label, value, received labels for x, y"
    with pytest.raises(StudyError, match=message):
        loss_for("auto", found, {"x": values, "y": classes})


INTEGERS = np.array([0, 1, 2, 1])
BINARY = np.array([0, 1, 1, 0])
ONE_HOT = np.eye(3, dtype=np.float32)[INTEGERS]


@pytest.mark.parametrize(
    ("output", "units", "labels", "loss", "from_logits"),
    [
        ("softmax", 3, INTEGERS, "SparseCategoricalCrossentropy", False),
        ("softmax", 3, INTEGERS[:, None], "SparseCategoricalCrossentropy", False),
        ("linear", 3, INTEGERS, "SparseCategoricalCrossentropy", True),
        ("softmax", 3, ONE_HOT, "CategoricalCrossentropy", False),
        ("linear", 3, ONE_HOT, "CategoricalCrossentropy", True),
        ("sigmoid", 3, ONE_HOT, "BinaryCrossentropy", False),
        ("linear", 3, ONE_HOT * 7.5, "MeanSquaredError", None),
        ("sigmoid", 1, BINARY, "BinaryCrossentropy", False),
        ("sigmoid", 1, BINARY[:, None].astype("float32"), "BinaryCrossentropy", False),
        ("linear", 1, BINARY, "BinaryCrossentropy", True),
        ("linear", 1, np.array([0.5, 2.0]), "MeanSquaredError", None),
        ("linear", 1, np.array([7, 2]), "MeanSquaredError", None),
    ],
)
def test_auto(output, units, labels, loss, from_logits):
    chosen = loss_for("auto", [Head("out", output, (units,))], labels)
    assert type(chosen).__name__ == loss
    if from_logits is not None:
        assert chosen.get_config()["from_logits"] is from_logits


def test_pixelwise_classes():
    chosen = loss_for("auto", [Head("mask", "softmax", (4, 4, 3))], np.zeros((2, 4, 4), np.uint8))
    assert type(chosen).__name__ == "SparseCategoricalCrossentropy"


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        (Head("out", "softmax", (3,)), np.array([0, 3]), "class numbers from 0 to 2 for 'out'"),
        (Head("out", "softmax", (3,)), np.array([0.5, 0.1]), "one label for each of 'out''s"),
        (Head("out", "softmax", (3,)), np.zeros((4, 2)), "received float64 labels of shape"),
        (Head("out", "softmax", (3,)), np.full((2, 3), 5.0), "rows that sum to 1"),
        (Head("out", "sigmoid", (1,)), np.array([0, 9]), "0 and 1 for the sigmoid output 'out'"),
        (Head("out", "linear", (1,)), np.zeros((4, 2)), "one label for each"),
    ],
)
def test_labels_that_do_not_fit(head, labels, message):
    with pytest.raises(StudyError) as caught:
        loss_for("auto", [head], labels)
    assert message in str(caught.value)


def test_a_loss_by_name():
    assert loss_for("mse", [Head("out", "linear", (1,))], INTEGERS) == "mse"
    with pytest.raises(StudyError, match="did you mean 'mean_squared_error'"):
        loss_for("mean_square_error", [Head("out", "linear", (1,))], INTEGERS)
