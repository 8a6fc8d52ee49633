"""The distances that distillation lessens, against numpy; how outputs are read."""

import keras
import numpy as np
import pytest
from keras import layers

from litesmith.distillation import core
from litesmith.distillation.outputs import read_as
from litesmith.errors import ModelError

pytestmark = pytest.mark.every_backend
RNG = np.random.default_rng(3)
ours, theirs = RNG.normal(0, 2, (2, 16, 5)).astype("float32")


def number(value):
    return float(keras.ops.convert_to_numpy(value))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_classes(temperature):
    p, q = softmax(theirs / temperature), softmax(ours / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
    for kinds in [(a, b) for a in ("logits", "softmax") for b in ("logits", "softmax")]:
        student = softmax(ours) if kinds[0] == "softmax" else ours
        teacher = softmax(theirs) if kinds[1] == "softmax" else theirs
        found = number(core.soft_loss(student, teacher, kinds, temperature))
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_bits(temperature):
    p, q = sigmoid(theirs / temperature), sigmoid(ours / temperature)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    found = core.soft_loss(
        sigmoid(ours), theirs, ("sigmoid", "sigmoid_logits"), temperature=temperature
    )
    assert number(found) == pytest.approx(temperature**2 * kl.mean(), rel=1e-4)


def test_numbers_and_features():
    expected = np.square(ours - theirs).mean()
    values = core.soft_loss(ours, theirs, ("values", "values"), 7.0)
    assert number(values) == pytest.approx(expected, rel=1e-5)
    assert number(core.feature_loss(ours, theirs)) == pytest.approx(expected, rel=1e-5)


def test_who_agrees_has_nothing_to_learn_and_what_is_sure_is_finite():
    for kind in core.FAMILIES:
        same = softmax(ours) if kind == "softmax" else sigmoid(ours)
        assert abs(number(core.soft_loss(same, same, (kind, kind), 2.0))) < 1e-5
    sure = np.eye(5, dtype="float32")
    for kind in ("softmax", "sigmoid"):
        assert np.isfinite(number(core.soft_loss(sure, sure[::-1], (kind, kind), 1.0)))


def ending(activation, units=3, **options):
    return keras.Sequential([layers.Input((4,)), layers.Dense(units, activation, **options)])


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
READ = [
    ("softmax", "softmax", None, ("softmax", "softmax")),
    ("softmax", None, "sparse_categorical_crossentropy", ("softmax", "logits")),
    (None, "softmax", LOGITS, ("logits", "softmax")),
    ("sigmoid", None, "binary_crossentropy", ("sigmoid", "sigmoid_logits")),
    (None, None, keras.losses.BinaryCrossentropy(from_logits=True), ("sigmoid_logits",) * 2),
    (None, None, "mse", ("values", "values")),
    (None, None, keras.losses.Huber(), ("values", "values")),
    (None, None, keras.losses.categorical_crossentropy, ("logits", "logits")),
]


@pytest.mark.parametrize("student, teacher, loss, expected", READ)
def test_how_an_output_is_read(student, teacher, loss, expected):
    found = read_as(ending(student), ending(teacher), ("auto",), 1, loss, ["a"])
    assert found == [expected]


def test_what_cannot_be_read_or_compared():
    with pytest.raises(ModelError, match="gives logits.*write outputs='logits'"):
        read_as(ending(None), ending(None), ("auto",), 1, None, ["a"])
    assert read_as(ending(None), ending(None), ("logits",), 1, None, ["a"])[0][0] == "logits"
    with pytest.raises(ModelError, match="one that ends in sigmoid"):
        read_as(ending("softmax"), ending("sigmoid"), ("auto",), 1, None, ["a"])
    with pytest.raises(ModelError, match="one for each of 1 outputs"):
        read_as(ending("softmax"), ending("softmax"), ("softmax", "values"), 1, None, ["a"])
