"""Quantization as pure math: grids of weights, parameters of activations, rounding as LiteRT does.

Integers are kept as floats, so that everything runs inside a compiled training step. Scales are
multiplied by the inverse of a constant, not divided by it: that is what compilers make of it, and a
scale has to be the same to the last bit wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# No scale is smaller: litert-quantizer's own bound on a range.
SMALLEST = 1e-9
# Ends of the grid that are tried for weights of few bits, as shares of the largest weight.
SHARES = np.concatenate([np.linspace(0.3, 1.0, 29), [1.1, 1.25]]).astype("float32")


def limit(bits: int) -> int:
    """The largest integer of a symmetric grid of narrow range: 127, 7, 1 for 8, 4, 2 bits."""
    return 2 ** (bits - 1) - 1


def grid_scale(weight: Any, bits: int, reduced: Sequence[int]) -> Any:
    """The scale that puts the largest weight at the end of the grid.

    Args:
        weight: tensor.
        bits: of the grid.
        reduced: axes that share a scale.

    Returns:
        Scale, with axes of size 1 where they are shared.
    """
    largest = ops.max(ops.abs(weight), axis=tuple(reduced), keepdims=True)
    return ops.maximum(largest, SMALLEST) * (1.0 / limit(bits))


def best_scale(weight: Any, bits: int, reduced: Sequence[int]) -> Any:
    """The scale of least squared error among `SHARES` of the one of `grid_scale`.

    With few bits it pays to clip the largest weights (Banner et al., "Post-training 4-bit
    quantization of convolution networks for rapid-deployment", 2019).

    Args:
        weight: tensor.
        bits: of the grid.
        reduced: axes that share a scale.
    """
    reduced = tuple(reduced)
    whole = grid_scale(weight, bits, reduced)
    shares = ops.convert_to_tensor(SHARES)

    def step(number: Any, found: tuple[Any, Any]) -> tuple[Any, Any]:
        best, least = found
        scale = whole * shares[number]
        used = to_grid(weight, scale, bits) * scale
        error = ops.sum(ops.square(used - weight), axis=reduced, keepdims=True)
        better = ops.less(error, least)
        return ops.where(better, scale, best), ops.where(better, error, least)

    # A loop, so that the compiled step has these operators once.
    start = whole, ops.full_like(whole, np.inf)
    return ops.fori_loop(0, len(SHARES), step, start)[0]


def to_grid(weight: Any, scale: Any, bits: int, keep: bool = False) -> Any:
    """The integers nearest to weight ÷ scale.

    Args:
        weight: tensor.
        scale: broadcasts to it.
        bits: of the grid.
        keep: what is not zero does not become zero: after pruning the zeros are counted.
    """
    end = float(limit(bits))
    whole = ops.clip(ops.round(weight / scale), -end, end)
    if keep:
        lost = ops.logical_and(ops.equal(whole, 0.0), ops.not_equal(weight, 0.0))
        whole = ops.where(lost, ops.sign(weight), whole)
    return whole


def apart(value: Any) -> Any:
    """The value, where a compiler would join the operators on both sides of it, and round once.

    It makes one of two constant factors in a row, and of a product and a sum.
    """
    return ops.where(ops.equal(value, value), value, ops.zeros_like(value))


def straight_through(used: Any, weight: Any) -> Any:
    """`used`, with the gradient of `weight`; w + stop(used − w) would not be exact in floats."""
    return ops.stop_gradient(used) + (weight - ops.stop_gradient(weight))


def slowed(value: Any, factor: float) -> Any:
    """The value, with its gradient multiplied by a factor."""
    return ops.stop_gradient(value) + factor * (value - ops.stop_gradient(value))


def integer_range(bits: int) -> tuple[float, float]:
    """Smallest and largest integer of an activation."""
    return float(-(2 ** (bits - 1))), float(2 ** (bits - 1) - 1)


def parameters(low: Any, high: Any, bits: int) -> tuple[Any, Any]:
    """Scale and zero point of an activation, as litert-quantizer has them.

    Args:
        low: smallest value, a scalar.
        high: largest value.
        bits: 8 (any zero point) or 16 (symmetric).
    """
    least, most = integer_range(bits)
    if bits == 16:
        bound = ops.maximum(ops.maximum(ops.abs(low), ops.abs(high)), SMALLEST)
        return bound * (1.0 / most), ops.zeros_like(bound)
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    scale = ops.maximum(high - low, SMALLEST) * (1.0 / (most - least))
    return scale, ops.round(least - low / scale)


def span_of_grid(scale: Any, zero: Any, bits: int) -> tuple[Any, Any]:
    """The numbers of the smallest and the largest integer."""
    least, most = integer_range(bits)
    return (least - zero) * scale, (most - zero) * scale


def rounded_in_training(value: Any, scale: Any, low: Any, high: Any, bits: int) -> Any:
    """Rounded; what lies outside of the range gets no gradient."""
    if keras.backend.backend() == "tensorflow":  # one fused operator; elsewhere XLA fuses
        return keras.quantizers.fake_quant_with_min_max_vars(value, low, high, num_bits=bits)
    inside = ops.clip(value, low, high)
    rounded = ops.round((inside - low) / scale) * scale + low
    return straight_through(rounded, inside)


def parameters_of_constant(value: Any, bits: int) -> tuple[Any, Any]:
    """Scale and zero point of a constant that a sum or a product takes.

    litert-quantizer finds these by itself, in float32; it divides by 255, which may be a bit off
    what a product with the inverse gives.

    Args:
        value: tensor, the constant.
        bits: 8 or 16.
    """
    low, high = ops.min(value), ops.max(value)
    if bits == 16:
        return parameters(low, high, bits)
    least, most = integer_range(bits)
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    bound = ops.maximum(high - low, SMALLEST)
    # By a constant no compiler would divide.
    scale = bound / ops.where(ops.equal(bound, bound), most - least, 1.0)
    return scale, ops.round(least - low / scale)


def ends_of_grid(low: float, high: float, bits: int) -> tuple[float, float]:
    """The range, in float64, that gives exactly the scale and zero point of `parameters`.

    Args:
        low: smallest value.
        high: largest value.
        bits: 8 or 16.
    """
    least, most = integer_range(bits)
    one = np.float32(1.0)
    low32, high32, smallest = np.float32(low), np.float32(high), np.float32(SMALLEST)
    if bits == 16:
        bound = max(abs(low32), abs(high32), smallest) * (one * np.float32(1.0 / most))
        return -most * float(bound), most * float(bound)
    low32, high32 = min(low32, 0 * one), max(high32, 0 * one)
    scale = max(high32 - low32, smallest) * np.float32(1.0 / (most - least))
    zero = float(np.rint(np.float32(least) - low32 / scale))
    return (least - zero) * float(scale), (most - zero) * float(scale)


def fake_quantize(value: Any, scale: Any, zero: Any, bits: int) -> Any:
    """What is left of a value after it has been an integer: rounded to the nearest even, clipped.

    Args:
        value: tensor.
        scale: a scalar.
        zero: the zero point, a scalar.
        bits: 8 or 16.
    """
    least, most = integer_range(bits)
    whole = ops.clip(ops.round(value / scale) + zero, least, most)
    return (whole - zero) * scale


def on_grid(bias: Any, scale: Any) -> Any:
    """A bias as the multiple of its scale (of input times weight) that int32 holds."""
    return ops.round(bias / scale) * scale


def round_half_away(value: Any) -> Any:
    """Rounded to the nearest, halves away from zero."""
    return ops.sign(value) * ops.floor(ops.abs(value) + 0.5)


def mean_of_integers(value: Any, scale: Any, zero: Any) -> Any:
    """A mean of values on a grid, on the grid as LiteRT's average pool puts it there.

    It rounds the mean of the integers, zero point included, halves away from zero. A window of odd
    size has no halves; that of even size gets its halves exactly, but for the floats' own rounding.

    Args:
        value: tensor, the mean.
        scale: of the grid, a scalar.
        zero: its zero point, a scalar.
    """
    mean = value / scale + zero
    return (round_half_away(mean + 1e-4 * ops.sign(mean)) - zero) * scale


def sum_of_integers(one: Any, first: Any, other: Any, second: Any, scale: Any) -> Any:
    """The integers of a sum of two tensors, less their zero point, as XNNPACK computes them.

    Each scale ÷ `scale` becomes a whole number of at most 21 bits with a shift that both share; the
    sum of the products is shifted back, halves up (`xnn_init_qs8_add_minmax_params`).

    Args:
        one: tensor, on its grid.
        first: the scale of that one, a scalar.
        other: another tensor, on its grid; or what is subtracted, negative.
        second: its scale.
        scale: of the result.

    Returns:
        Float tensor of whole numbers, not clipped.
    """
    ratios = first / scale, second / scale
    exponent = ops.floor(ops.log2(ops.maximum(*ratios)))
    # log2 of a float32 may be off at a power of two.
    share = ops.maximum(*ratios) / ops.power(2.0, exponent)
    exponent = exponent + ops.where(share >= 2.0, 1.0, 0.0) - ops.where(share < 1.0, 1.0, 0.0)
    # The smallest shift is 13 there: the ratios are below 256.
    shift = ops.clip(20.0 - exponent, 1.0, 30.0)
    power = ops.round(ops.power(2.0, shift))
    factors = [ops.cast(ops.round(ratio * power), "int32") for ratio in ratios]
    whole = [ops.cast(ops.round(t / s), "int32") for t, s in ((one, first), (other, second))]
    total = whole[0] * factors[0] + whole[1] * factors[1]
    power = ops.cast(power, "int32")
    return ops.cast(ops.floor_divide(total + ops.floor_divide(power, 2), power), "float32")


def round_twice(value: Any, multiplier: Any) -> Any:
    """A product of an accumulator and a multiplier below 1 as LiteRT's own kernels round it.

    They keep 31 bits of the multiplier's fraction, round (halves up), shift right by its exponent,
    and round again (halves away from zero): gemmlowp's fixed-point multiplication. int4
    convolutions are computed by them.

    Args:
        value: accumulator × multiplier, exact as far as float32 goes.
        multiplier: input scale × weight scale ÷ output scale; broadcasts to `value`.
    """
    shift = ops.maximum(-ops.floor(ops.log2(multiplier)) - 1.0, 0.0)
    power = ops.round(ops.power(2.0, shift))
    return round_half_away(ops.floor(value * power + 0.5) / power)
