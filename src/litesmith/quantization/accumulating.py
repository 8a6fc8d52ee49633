"""What LiteRT makes of accumulators, which are whole numbers: products, means, sums, biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from litesmith.parametrize import norm_factors, told
from litesmith.quantization import core


def requantized(value: Any, scale: Any, result: dict[str, Any]) -> Any:
    """The result of an operator as its accumulator, a whole number, gives it.

    Float sums are off the whole numbers by some rounding; what is left of it would now and then
    end on the other side of a half, and in a deep network that grows.
    """
    step = told(result["weight"] + ":step")
    if step is None or int(np.prod(step.shape)) not in (1, int(value.shape[-1])):
        return value
    whole = ops.round(value / step)
    multiplier = step / scale
    if result["twice"]:
        return core.round_twice(whole * multiplier, multiplier) * scale
    return ops.round(whole * multiplier) * scale


def bias_of(layer: Any, product: dict[str, Any] | None) -> dict[str, Any]:
    """What makes a layer's bias: `{"factor", "shift"}` of a BatchNorm, `{"bias"}`, or nothing."""
    if product is not None and product["norm"]:
        factor, shift = norm_factors(layer)
        return {"factor": factor, "shift": shift}
    if product is not None and product.get("bare"):
        return {}
    bias = getattr(layer, "bias", None)
    if bias is None:
        return {}
    bias = ops.cast(ops.copy(bias), "float32")
    row = None if product is None else product.get("row")
    return {"bias": bias if row is None else bias[row]}


def averaged(value: Any, scale: Any, zero: Any, about: dict[str, Any]) -> Any:
    """A mean as LiteRT computes it, in float32: Σ·factor + what the zero points come to.

    The sum is that of the integers as they are stored. The product is large where the input's zero
    point is, so that its rounding decides what is a half.
    """
    given = told(about["input"])
    if given is None:
        return value
    count = float(about["count"])
    # Two constant factors in a row would be made one, which is a bit off.
    factor = given[0] / (ops.maximum(scale, core.SMALLEST / 65536.0) * count)
    stored = ops.round(value / given[0] * count) + count * given[1]
    shifted = core.apart(stored * factor) + (zero - given[1] * count * factor)
    return (ops.round(shifted) - zero) * scale


def multiplied(value: Any, scale: Any, keys: Sequence[str]) -> Any:
    """A product of two tensors as LiteRT computes it: that of the integers times one factor."""
    one, other = (told(key) for key in keys)
    if one is None or other is None:
        return value
    # At most 255², which floats are near enough to.
    step = one[0] * other[0]
    return ops.round(ops.round(value / step) * (step / scale)) * scale


def summed(value: Any, scale: Any, operands: Any) -> Any:
    """A sum as XNNPACK computes it, where no activation has cut it."""
    if operands is None:
        return value
    (one, first), (other, second) = operands
    plain = one + other
    if len(plain.shape) != len(value.shape):
        return value
    exact = core.sum_of_integers(one, first, other, second, scale) * scale
    return ops.where(ops.abs(value - plain) < 0.25 * scale, exact, value)


def stored_scale(made: dict[str, Any], weight: Any, product: dict[str, Any], folded: bool) -> Any:
    """The scale of a weight as the file has it, a value a channel, flat.

    Times that of the input it is what one unit of the accumulator stands for. LiteRT multiplies in
    this order, in float32; another one ends on the other side of a half now and then.

    Args:
        made: what `bias_of` gave.
        weight: the weight's scale.
        product: of the `Range` behind it.
        folded: whether that is the scale of the weight as it is after folding.
    """
    scale = ops.reshape(weight, (-1,))
    if "gain" in product:
        scale = core.apart(core.apart(scale) * product["gain"])
    if "factor" not in made or folded:
        return scale
    scale = scale * ops.abs(made["factor"])
    return ops.where(scale > 0, scale, ops.ones_like(scale))


def moved_bias(made: dict[str, Any], step: Any, before: Any, added: float = 0.0) -> Any:
    """How far a bias is from its grid.

    Args:
        made: what `bias_of` gave.
        step: what one unit of the accumulator stands for, a value a channel.
        before: the bias of the layer that the BatchNorm follows, or None.
        added: what the file's bias is larger by.
    """
    if "factor" in made:
        bias = core.apart(made["shift"]) + added if added else made["shift"]
        if before is not None:
            bias = bias + ops.reshape(before, (-1,)) * made["factor"]
        return core.on_grid(bias, step) - bias
    if "bias" not in made:
        return ops.zeros(())
    bias = made["bias"] + added if added else made["bias"]
    size = int(np.prod(bias.shape))
    if int(np.prod(step.shape)) not in (1, size):
        return ops.zeros_like(bias)
    step = ops.reshape(ops.broadcast_to(step, (size,)), bias.shape)
    return core.on_grid(bias, step) - bias
