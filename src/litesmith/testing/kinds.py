"""The kinds of model that the contract is checked on: small, with the constructions that break.

Each has a layer of every sort its kind stands for, BatchNorm statistics that move, and input
channels in multiples of four, so that blocks and n:m sparsity have something to take.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

SAMPLES, CLASSES = 48, 3


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        name: what it is called.
        build: makes the model; the same weights after the same seed.
        shape: of one input sample.
        whole: whether Keras can save it whole when it is prepared.
        dropout: whether its training draws random numbers.
        h5: whether Keras can load it from `.h5`.
    """

    name: str
    build: Callable[[], keras.Model]
    shape: tuple[int, ...]
    whole: bool = True
    dropout: bool = False
    h5: bool = True

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and integer labels, always the same."""
        random = np.random.default_rng(7)
        inputs = random.normal(size=(SAMPLES, *self.shape)).astype("float32")
        return inputs, random.integers(0, CLASSES, SAMPLES)

    def make(self) -> keras.Model:
        """The model, from seed 1."""
        keras.utils.set_random_seed(1)
        return self.build()


@keras.saving.register_keras_serializable("litesmith_testing")
class Scale(layers.Layer):
    """A custom layer with a `kernel` of its own and no get_config."""

    def build(self, input_shape: Any) -> None:
        """Make a square kernel."""
        size = input_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(size, size))

    def call(self, inputs: Any) -> Any:
        """One matrix product."""
        return keras.ops.matmul(inputs, self.kernel)


@keras.saving.register_keras_serializable("litesmith_testing")
class Block(layers.Layer):
    """A custom layer made of layers, with an activity loss inside."""

    def __init__(self, units: int = 8, **options: Any):
        super().__init__(**options)
        self.units = units
        self.first = layers.Dense(units, activation="relu", activity_regularizer="l2")
        self.norm = layers.BatchNormalization()
        self.second = layers.Dense(units)

    def build(self, input_shape: Any) -> None:
        """Build what is inside."""
        self.first.build(input_shape)
        inner = (*input_shape[:-1], self.units)
        self.norm.build(inner)
        self.second.build(inner)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Dense, BatchNorm, Dense."""
        return self.second(self.norm(self.first(inputs), training=training))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("litesmith_testing")
class Subclassed(keras.Model):
    """A subclassed model."""

    def __init__(self, width: int = 8, **options: Any):
        super().__init__(**options)
        self.width = width
        self.convolution = layers.Conv2D(width, 3, padding="same", use_bias=False)
        self.norm = layers.BatchNormalization()
        self.pool = layers.GlobalAveragePooling2D()
        self.blocks = [layers.Dense(width, activation="relu") for _ in range(2)]
        self.head = layers.Dense(CLASSES, activation="softmax")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Convolution, pooling, dense layers."""
        hidden = self.pool(keras.ops.relu(self.norm(self.convolution(inputs), training=training)))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "width": self.width}


def _convolution(inputs: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    hidden = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(inputs)
    return layers.ReLU()(layers.BatchNormalization()(hidden))


def _head(inputs: Any) -> Any:
    return layers.Dense(CLASSES, activation="softmax", name="head")(inputs)


def _sequential() -> keras.Model:
    return keras.Sequential(
        [
            layers.Input((8, 8, 4)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(8, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def _functional() -> keras.Model:
    inputs = layers.Input((8, 8, 4))
    hidden = _convolution(inputs, 8)
    hidden = layers.Add()([hidden, _convolution(hidden, 8)])
    hidden = layers.Concatenate()([hidden, layers.DepthwiseConv2D(3, padding="same")(hidden)])
    hidden = layers.GlobalAveragePooling2D()(hidden)
    hidden = layers.Dropout(0.2)(layers.Dense(8, activation="relu", name="frozen")(hidden))
    model = keras.Model(inputs, _head(hidden))
    model.get_layer("frozen").trainable = False
    return model


def _operators() -> keras.Model:
    inputs = layers.Input((8, 8, 4))
    hidden = _convolution(inputs, 8)[:, 1:-1] * 2.0 + 1.0
    return keras.Model(inputs, _head(keras.ops.mean(hidden, axis=(1, 2))))


def _nested() -> keras.Model:
    inputs = layers.Input((8, 8, 4))
    features = layers.GlobalAveragePooling2D()(_convolution(inputs, 8))
    encoder = keras.Model(inputs, features, name="encoder")
    top = keras.Sequential([layers.Input((8,)), layers.Dense(8, "relu", name="top")], name="deep")
    outer = layers.Input((8, 8, 4))
    hidden = top(encoder(outer))
    encoder.layers[1].trainable = False
    return keras.Model(outer, _head(layers.BatchNormalization()(hidden)))


def _subclassed() -> keras.Model:
    model = Subclassed(name="subclassed")
    model(np.zeros((1, 8, 8, 4), "float32"))
    return model


def _shared() -> keras.Model:
    inputs = layers.Input((8,))
    twice = layers.Dense(8, activation="relu", name="twice")
    return keras.Model(inputs, _head(layers.Add()([twice(twice(inputs)), inputs])))


def _custom() -> keras.Model:
    inputs = layers.Input((8,))
    hidden = Block(8, name="block")(Scale(name="scale")(inputs))
    return keras.Model(inputs, _head(hidden))


def _recurrent() -> keras.Model:
    inputs = layers.Input((6, 8))
    hidden = layers.LSTM(8, return_sequences=True, name="lstm")(inputs)
    hidden = layers.Bidirectional(layers.GRU(4, return_sequences=True, name="gru"), name="both")(
        hidden
    )
    hidden = layers.TimeDistributed(layers.Dense(8), name="each")(hidden)
    return keras.Model(inputs, _head(layers.SimpleRNN(8, name="plain")(hidden)))


def _attention() -> keras.Model:
    inputs = layers.Input((6, 8))
    hidden = layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    hidden = layers.LayerNormalization()(layers.Add()([hidden, inputs]))
    hidden = layers.EinsumDense("abc,cd->abd", (6, 8), bias_axes="d", name="mix")(hidden)
    return keras.Model(inputs, _head(layers.GlobalAveragePooling1D()(hidden)))


def _convolutions() -> keras.Model:
    inputs = layers.Input((8, 4))
    hidden = layers.Conv1D(8, 3, padding="same", name="one")(inputs)
    hidden = layers.Reshape((4, 2, 8))(hidden)
    hidden = layers.Conv2DTranspose(4, 2, strides=2, name="transposed")(hidden)
    hidden = layers.SeparableConv2D(8, 3, name="separable")(hidden)
    return keras.Model(inputs, _head(layers.GlobalMaxPooling2D()(hidden)))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("sequential", _sequential, (8, 8, 4)),
        Kind("functional", _functional, (8, 8, 4), dropout=True),
        # Keras cannot load operators from its legacy format, with litesmith or without.
        Kind("operators", _operators, (8, 8, 4), h5=False),
        Kind("nested", _nested, (8, 8, 4)),
        Kind("subclassed", _subclassed, (8, 8, 4), whole=False, h5=False),
        Kind("shared layer", _shared, (8,)),
        Kind("custom layer", _custom, (8,)),
        Kind("recurrent", _recurrent, (6, 8)),
        Kind("attention", _attention, (6, 8)),
        Kind("convolutions", _convolutions, (8, 4)),
    )
}
