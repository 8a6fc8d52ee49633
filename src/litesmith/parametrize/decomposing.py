"""Layers that LiteRT computes in several steps, so that a tensor lies between ("mid").

- A BatchNorm that nothing takes in is a product and a sum, and so is a Rescaling.
- swish is x · sigmoid(x), and hard sigmoid min(max(x + 3, 0), 6) ÷ 6, also as a layer's activation
  function.
- A separable convolution is a depthwise one and a 1×1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from litesmith.parametrize import internals

layers = keras.layers
Change = Callable[[Any], Any]
Step = Callable[[Any], Any]
Finish = Callable[[Any, Any], Any]
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)


def norm_factors(layer: Any) -> tuple[Any, Any]:
    """A BatchNorm in inference, or a Rescaling, as x · factor + shift: both, float32."""
    if isinstance(layer, layers.Rescaling):
        pair = (layer.scale, layer.offset)
        return tuple(ops.convert_to_tensor(each, "float32") for each in pair)

    def read(variable: Any) -> Any:
        return ops.cast(ops.copy(variable), "float32")

    with internals.without_autocast():
        factor = ops.rsqrt(read(layer.moving_variance) + layer.epsilon)
        if layer.scale:
            factor = factor * read(layer.gamma)
        shift = -read(layer.moving_mean) * factor
        if layer.center:
            shift = shift + read(layer.beta)
    return factor, shift


def is_norm(layer: Any) -> bool:
    """Whether a layer's output is a product and a sum, channel by channel, along the last axis."""
    if isinstance(layer, layers.Rescaling):
        return True
    if not isinstance(layer, layers.BatchNormalization) or layer.input_spec is None:
        return False
    return layer.axis in (-1, layer.input_spec.ndim - 1)


def is_separable(layer: Any) -> bool:
    """Whether a layer is a depthwise convolution and a 1×1."""
    return isinstance(layer, _SEPARABLE)


def between(function: Any) -> tuple[Step, Finish] | None:
    """The two steps of an activation function; None where it is one.

    Returns:
        What makes the tensor that lies between of the input, and what makes the output of the
        input and that.
    """
    return _STEPS.get(inspect.unwrap(function)) if callable(function) else None


def in_steps(function: Any, value: Any, change: Change) -> Any:
    """What an activation function of two steps gives, what lies between being changed."""
    steps = between(function)
    assert steps is not None
    first, second = steps
    return second(value, ops.cast(change(first(value)), value.dtype))


_STEPS: dict[Any, tuple[Step, Finish]] = {
    keras.activations.silu: (ops.sigmoid, lambda value, gate: value * gate),
    keras.activations.hard_sigmoid: (
        lambda value: ops.relu6(value + 3.0),
        lambda value, gate: gate / 6.0,
    ),
}


def depthwise(layer: Any, inputs: Any) -> Any:
    """What lies between the two steps of a separable convolution."""
    return ops.depthwise_conv(
        inputs,
        layer.depthwise_kernel,
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )


def separable(layer: Any, inputs: Any, change: Change) -> Any:
    """What a separable convolution gives, what lies between being changed."""
    outputs = ops.conv(
        change(depthwise(layer, inputs)),
        layer.pointwise_kernel,
        strides=1,
        padding="valid",
        data_format=layer.data_format,
    )
    if layer.use_bias:
        size = layer.rank + 2
        axis = size - 1 if layer.data_format == "channels_last" else 1
        form = [-1 if each == axis else 1 for each in range(size)]
        outputs = ops.add(outputs, ops.reshape(layer.bias, form))
    return outputs if layer.activation is None else layer.activation(outputs)
