"""Hard swish, x · min(max(x + 3, 0), 6) ÷ 6, as LiteRT computes it: 16-bit whole numbers.

Its kernel multiplies two fixed-point numbers of 16 bits, and rounds five times on the way, so that
what it gives is off by one here and there from the rounded function. Each step is that of
`tflite::reference_ops::HardSwish`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from litesmith.parametrize import Tap, Use, told
from litesmith.quantization import core
from litesmith.quantization.calibrating import watching

_MOST, _LEAST = 2**15 - 1, -(2**15)


def hard_swish(whole: Any, given: Any, wanted: Any) -> Any:
    """The integers of hard swish, less their zero point.

    Args:
        whole: those of what it takes, less their zero point.
        given: their scale, a scalar.
        wanted: the scale of the result, a scalar.

    Returns:
        Float tensor of whole numbers, not clipped.
    """
    fine = ops.cast(whole, "int32") * 128
    factor, power = _fixed_point(given / 128.0 / wanted)
    scaled = _high_product(fine, factor, rounded=True)
    slope, shift = _fixed_point(given / 128.0 * (2.0**15 / 3.0))
    up = ops.maximum(shift, 0)
    # All but the last bit before the product, the last one after it.
    share = _shifted_left(fine, ops.maximum(up - 1, 0))
    share = _high_product(share, slope, rounded=True)
    share = ops.where(up > 0, _shifted_left(share, ops.ones_like(up)), share)
    share = _shifted_right(share, ops.maximum(-shift, 0))
    share = ops.floor_divide(share + 2**15, 2)
    product = _high_product(share, scaled, rounded=False)
    result = ops.where(
        power <= 0,
        _shifted_right(product, ops.maximum(-power, 0)),
        product * _power_of_two(ops.maximum(power, 0)),
    )
    return ops.cast(result, "float32")


def _fixed_point(number: Any) -> tuple[Any, Any]:
    """A positive number as q · 2^e ÷ 2^15, 2^14 ≤ q < 2^15: both, int32."""
    exponent = ops.floor(ops.log2(number)) + 1.0
    share = number / ops.power(2.0, exponent)
    # log2 of a float32 may be off at a power of two.
    exponent = exponent + ops.where(share >= 1.0, 1.0, 0.0) - ops.where(share < 0.5, 1.0, 0.0)
    share = number / ops.power(2.0, exponent)
    factor = ops.minimum(ops.floor(share * 2.0**15 + 0.5), float(_MOST))
    return ops.cast(factor, "int32"), ops.cast(exponent, "int32")


def _power_of_two(exponent: Any) -> Any:
    return ops.cast(ops.round(ops.power(2.0, ops.cast(exponent, "float32"))), "int32")


def _high_product(one: Any, other: Any, *, rounded: bool) -> Any:
    """Twice the product's upper 16 bits: rounded, halves away from zero, or cut."""
    product = one * other
    size = ops.abs(product) + (2**14 if rounded else 0)
    # The nudge of a negative product is one smaller: halves go to zero there.
    size = size - (ops.cast(product < 0, "int32") if rounded else 0)
    return ops.sign(product) * ops.floor_divide(size, 2**15)


def _shifted_left(value: Any, bits: Any) -> Any:
    """Saturating, so that no bit above the 16th is needed."""
    wide = ops.cast(value, "float32") * ops.cast(_power_of_two(bits), "float32")
    return ops.cast(ops.clip(wide, float(_LEAST), float(_MOST)), "int32")


def _shifted_right(value: Any, bits: Any) -> Any:
    """Rounded, halves away from zero."""
    half = ops.floor_divide(_power_of_two(bits), 2)
    return ops.sign(value) * ops.floor_divide(ops.abs(value) + half, _power_of_two(bits))


@keras.saving.register_keras_serializable("litesmith")
class HardSwish(Tap):
    """Stands at the whole call of a layer that is nothing but hard swish.

    Args:
        given: the key of the scale of what it takes.
        wanted: that of the result.
    """

    fields = ("given", "wanted")

    def __init__(self, *, given: str, wanted: str, **options: Any):
        super().__init__(**options)
        self.given, self.wanted = given, wanted

    def begin(self, layer: keras.layers.Layer, training: bool) -> _HardSwishUse:
        """One call."""
        return _HardSwishUse(self, training)


class _HardSwishUse(Use):
    def __init__(self, tap: HardSwish, training: bool):
        self.tap, self.training = tap, training

    def run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In inference, where both scales are known, what LiteRT gives."""
        given, wanted = told(self.tap.given), told(self.tap.wanted)
        if self.training or watching() or given is None or wanted is None:
            return original(*args, **kwargs)
        inputs = ops.cast(args[0] if args else kwargs["inputs"], "float32")
        # Before anything was observed scales say nothing.
        known = ops.logical_and(given[0] > 2 * core.SMALLEST, wanted[0] > 2 * core.SMALLEST)
        scales = [ops.where(known, each[0], ops.ones_like(each[0])) for each in (given, wanted)]
        whole = ops.clip(ops.round(inputs / scales[0]), -255.0, 255.0)
        found = hard_swish(whole, *scales) * scales[1]
        exact = original(*args, **kwargs)
        return ops.where(known, ops.cast(found, exact.dtype), exact)
