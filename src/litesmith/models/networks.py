"""The models that come with litesmith, `builtin:NAME`. Add one with `@builtin("name")`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

BUILTINS: dict[str, Callable[..., keras.Model]] = {}


def builtin(name: str) -> Callable[[Callable[..., keras.Model]], Callable[..., keras.Model]]:
    """Register a function as `builtin:NAME`.

    Args:
        name: what follows `builtin:`. The function takes keyword arguments with defaults; the
            names `input_shape` and `classes` are filled in from the data where it has them.
    """

    def register(function: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
        BUILTINS[name] = function
        return function

    return register


def _convolution(
    x: Any, filters: int, size: int = 3, strides: int = 1, momentum: float = 0.99
) -> Any:
    x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=momentum)(x))


@builtin("digits")
def digits(
    input_shape: tuple[int, ...] = (8, 8, 1), classes: int = 10, width: int = 16
) -> keras.Model:
    """A small convolutional network for 8×8 digits: 14,618 parameters at the defaults.

    Three 3×3 convolutions with BatchNorm and ReLU, the middle one of stride 2, global average
    pooling, a dense layer with softmax. Trained on `digits` it comes to 98–99 % in seconds.
    BatchNorm's momentum is 0.9, because training here is a few hundred steps: with Keras' 0.99 the
    moving statistics lag: 240 steps of batch 64 came to 18 and 34 % where this has 99 and 98 %.

    Args:
        input_shape: height, width, channels.
        classes: number of classes.
        width: filters of the first convolution; the others have twice as many.
    """
    inputs = keras.Input(tuple(input_shape), name="image")
    x = _convolution(inputs, width, momentum=0.9)
    x = _convolution(x, 2 * width, strides=2, momentum=0.9)
    x = _convolution(x, 2 * width, momentum=0.9)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x), name="digits")


@builtin("reference")
def reference(
    input_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10, width: float = 1.0
) -> keras.Model:
    """The reference network of litesmith's own figures: 84,314 parameters at the defaults.

    A small residual network for 28×28 images: 3×3 convolutions of 16, 32 and 64 filters (each
    with BatchNorm and ReLU, without bias), two of them added to their input, a depthwise one, a
    1×1 of 96, global average pooling, dropout 0.2 and two dense layers.

    Args:
        input_shape: height, width, channels.
        classes: number of classes.
        width: what the number of filters and units is multiplied by; 0.5 is 21,810 parameters.
    """
    small, middle, large, last = (round(width * filters) for filters in (16, 32, 64, 96))
    inputs = keras.Input(tuple(input_shape), name="image")
    x = _convolution(inputs, small)
    x = _convolution(x, middle, strides=2)
    x = layers.Add()([x, _convolution(x, middle)])
    x = _convolution(x, large, strides=2)
    x = layers.Add()([x, _convolution(x, large)])
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = _convolution(x, last, size=1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    x = layers.Dense(large, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x), name="reference")
