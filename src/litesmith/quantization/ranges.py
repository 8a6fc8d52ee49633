"""The range of an activation, and the bias that is added where it comes by."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from litesmith.parametrize import Tap, Use, counting, is_cell, norm_factors, tell, told
from litesmith.quantization import accumulating, core
from litesmith.quantization.calibrating import watch, watching
from litesmith.quantization.parametrization import FIRST_STEPS, MOMENTUM, PERIOD

# While a converter traces: asks whether a tap is an operator there; None while there is none.
_for_converter: contextvars.ContextVar[Callable[[Any], bool] | None] = contextvars.ContextVar(
    "converter", default=None
)


@contextlib.contextmanager
def for_converter(wanted: Callable[[Any], bool]) -> Iterator[None]:
    """Within the body activations pass through TensorFlow's own fake-quantization operators.

    TensorFlow's converter takes ranges from those; biases and requantization are its business.

    Args:
        wanted: whether a `Range` becomes an operator; where none is, what comes by stays float.
    """
    token = _for_converter.set(wanted)
    try:
        yield
    finally:
        _for_converter.reset(token)


@keras.saving.register_keras_serializable("litesmith")
class Range(Tap):
    """The range of an activation, and the rounding that goes with it.

    Args:
        bits: 8 or 16; None where the tensor is not rounded here.
        key: under which scale and zero point are told, where it has a range of its own.
        source: the key of the range it shares, where it has none of its own.
        low, high: the range, where it is fixed.
        table: whether it is that of an Embedding's table, which is looked up.
        product: what the bias that has been added here is rounded to: `{"weight", "input"}`, the
            keys of the scales, whether a BatchNorm makes the bias, `"norm"`, whether there is none,
            `"bare"`, or which row of the layer's it is, `"row"`; what the file's kernel is
            multiplied by beside, `"gain"`, as by a Rescaling before it; and what the file's bias
            has taken up of the operator behind it, `"added"`.
        norm: whether it is the product of a BatchNorm that is computed in two steps; then what
            comes by is the sum, and factor and shift are integers, too.
        tells: a key under which the layer's bias is told to the BatchNorm that takes it over.
        requantized: `{"from", "to"}`, the keys of two scales, where the layer takes the tensor in
            the scale of what it gives.
        freeze: training step from which on the range stays; None never.
        result: of an operator with a kernel: `{"weight", "twice"}`, the kernel's key and whether
            it is rounded twice, as int4 convolutions are.
        momentum: of the moving average.
        learned: whether the optimizer trains the ends, from where the first steps have put them.
        mean: whether an average pool made it, which rounds halves of its integers away from zero.
        averaged: of a mean with a scale of its own: `{"input", "count"}`, the key of what it takes
            and how many of those make one.
        multiplied: of a product of two tensors: the keys of their scales.
        summed: a key under which the two that were added here are told.
    """

    fields = (
        "bits",
        "key",
        "source",
        "low",
        "high",
        "table",
        "product",
        "norm",
        "tells",
        "freeze",
        "result",
        "requantized",
        "momentum",
        "learned",
        "mean",
        "averaged",
        "multiplied",
        "summed",
    )

    def __init__(
        self,
        *,
        bits: int | None = None,
        key: str = "",
        source: str = "",
        low: float | None = None,
        high: float | None = None,
        table: bool = False,
        product: dict[str, Any] | None = None,
        norm: bool = False,
        tells: str = "",
        freeze: int | None = None,
        result: dict[str, Any] | None = None,
        requantized: dict[str, str] | None = None,
        momentum: float = MOMENTUM,
        learned: bool = False,
        mean: bool = False,
        averaged: dict[str, Any] | None = None,
        multiplied: Sequence[str] = (),
        summed: str = "",
        **options: Any,
    ):
        super().__init__(**options)
        self.bits, self.key, self.source, self.low, self.high = bits, key, source, low, high
        dicts = {"product": product, "result": result, "requantized": requantized}
        dicts |= {"averaged": averaged}
        for name, value in dicts.items():
            object.__setattr__(self, name, value)  # past Keras's tracking of dicts
        self.norm, self.tells, self.freeze, self.momentum = norm, tells, freeze, momentum
        self.learned, self.table, self.mean, self.summed = learned, table, mean, summed
        self.multiplied = tuple(multiplied)

    @property
    def observes(self) -> bool:
        """Whether it has a range of its own that follows what comes by."""
        own = self.low is None and not self.source and not self.table
        return self.bits is not None and own

    def create_state(self) -> None:
        """Smallest and largest value, and the count of training calls."""
        if self.observes:
            self.range = self.state("range", (2,), aggregation="mean")
            self.count = self.state("count", (), "zeros", "int32")
            self.grid = counting.Remembered(self._grid, (self.range,))
            if self.learned:
                self.growth = self.state("growth", (2,), trainable=True)

    def _grid(self) -> tuple[Any, ...]:
        """Scale, zero point, and the ends of what is not cut, of the range as it is stored."""
        ends = ops.copy(self.range)
        scale, zero = core.parameters(ends[0], ends[1], self.bits or 8)
        return (scale, zero, *core.span_of_grid(scale, zero, self.bits or 8))

    def set_range(self, low: float, high: float) -> None:
        """Set the range, from calibration."""
        self.range.assign(ops.convert_to_tensor([low, high], "float32"))

    def ends(self) -> tuple[float, float]:
        """The range, as numbers; (0, 0) where there is none yet."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        if self.table:
            return 0.0, 0.0
        ends = ops.copy(self.range)
        if self.learned:
            ends = ends * ops.exp(ops.copy(self.growth))
        low, high = ops.convert_to_numpy(ends)
        return float(low), float(high)

    def begin(self, layer: keras.layers.Layer, training: bool) -> _RangeUse:
        """Read range, count and bias."""
        return _RangeUse(self, layer, training)

    def progress(self) -> dict[str, Any]:
        """The range, and training steps seen."""
        if not self.observes:
            return {}
        steps = int(ops.convert_to_numpy(self.count)) // self.calls_per_step
        return {"range": self.ends(), "steps": steps}


class _RangeUse(Use):
    """One call of the layer that a `Range` is at."""

    def __init__(self, tap: Range, layer: keras.layers.Layer, training: bool):
        self.tap, self.layer, self.training = tap, layer, training
        self.changed = self.counts = False
        self.grid: Any = None  # that of the range that was read, where it is remembered
        # The steps of a recurrent cell have one range, which follows what all of them have seen.
        self.several: list[Any] | None = [] if is_cell(layer) and training else None
        if tap.observes:
            self.range = ops.copy(tap.range)
            self.count = counting.calls(tap.count) if training else 0
            self.growth = ops.exp(ops.copy(tap.growth)) if tap.learned else None
            self.grid = tap.grid.known() if training and not tap.learned else None
        if tap.key and tap.observes and not training:
            # What the layer takes may be wanted in the scale of what it gives.
            ends = self.range if self.growth is None else self.range * self.growth
            tell(tap.key, core.parameters(ends[0], ends[1], tap.bits or 8))
        if tap.table:
            rows = ops.cast(ops.copy(layer.embeddings), "float32")
            self.range = ops.stack([ops.min(rows), ops.max(rows)])
            self.growth = None
        self.bias = accumulating.bias_of(layer, tap.product) if tap.product and not training else {}
        if tap.tells and getattr(layer, "bias", None) is not None:
            tell(tap.tells, ops.cast(ops.copy(layer.bias), "float32"))

    def apply(self, value: Any) -> Any:
        """Bias on its grid, then rounding."""
        tap, dtype = self.tap, value.dtype
        if watching():
            # The range of a BatchNorm in two steps is that of its product.
            watch(tap, value - norm_factors(self.layer)[1] if tap.norm else value)
            return value
        value = ops.cast(value, "float32")
        wanted = _for_converter.get()
        if wanted is not None and not self.training:
            rounded = self._as_operator(value)
            return ops.cast(rounded if wanted(tap) else value, dtype)
        if tap.requantized and not self.training:
            value = self._in_the_scale_of_the_output(value)
        if tap.product and not self.training:
            value = self._with_bias_on_grid(value)
        if tap.norm:
            value = self._norm_in_steps(value)
        elif tap.bits is not None:
            value = self._rounded(value)
        return ops.cast(value, dtype)

    def constant(self, value: Any) -> Any:
        """A constant of an operator that is no product of a kernel: it has a range of its own."""
        if self.training or watching() or self.tap.bits is None:
            return value
        numbers = ops.cast(ops.convert_to_tensor(value), "float32")
        scale, zero = core.parameters_of_constant(numbers, self.tap.bits)
        return ops.cast(core.fake_quantize(numbers, scale, zero, self.tap.bits), value.dtype)

    def _as_operator(self, value: Any) -> Any:
        """Through an operator that TensorFlow's converter knows; not so BatchNorm's products."""
        tap = self.tap
        if tap.norm or tap.bits is None:
            return value
        if tap.source:
            shared = told(tap.source)
            if shared is None:
                return value
            scale, zero = shared
        else:
            low, high = tap.low, tap.high
            if low is None or high is None:
                ends = self.range if self.growth is None else self.range * self.growth
                # Before anything was observed: what tfmot starts with.
                known = ends[1] > ends[0]
                low, high = ops.where(known, ends[0], -6.0), ops.where(known, ends[1], 6.0)
            scale, zero = core.parameters(
                ops.convert_to_tensor(low), ops.convert_to_tensor(high), tap.bits
            )
            if tap.key:
                tell(tap.key, (scale, zero))
        least, most = core.integer_range(tap.bits)
        low, high = (least - zero) * scale, (most - zero) * scale
        return keras.quantizers.fake_quant_with_min_max_vars(value, low, high, num_bits=tap.bits)

    def _in_the_scale_of_the_output(self, value: Any) -> Any:
        """Integers of one scale as integers of another: the ratio has eight bits of fraction."""
        keys = self.tap.requantized or {}
        had, wanted = told(keys.get("from")), told(keys.get("to"))
        if had is None or wanted is None:
            return value
        ratio = ops.round(256.0 * had[0] / wanted[0])
        return ops.floor(ops.round(value / had[0]) * ratio / 256.0 + 0.5) * wanted[0]

    def _with_bias_on_grid(self, value: Any) -> Any:
        product = self.tap.product
        assert product is not None
        given, weight = told(product["input"]), told(product["weight"])
        if given is None or weight is None:
            return value
        folded = bool(told(product["weight"] + ":folded"))
        step = accumulating.stored_scale(self.bias, weight, product, folded) * given[0]
        tell(product["weight"] + ":step", step)
        before = told(product["weight"] + ":bias")
        return value + accumulating.moved_bias(self.bias, step, before, product.get("added", 0.0))

    def _norm_in_steps(self, value: Any) -> Any:
        factor, shift = (ops.stop_gradient(each) for each in norm_factors(self.layer))
        bits = self.tap.bits or 8

        shift = ops.convert_to_tensor(shift)
        product = value - shift
        if self.training:
            return self._rounded(product) + shift
        about_factor, about_shift = (
            core.parameters_of_constant(each, bits) for each in (factor, shift)
        )
        tell(f"{self.tap.key}:factor", about_factor)
        whole = core.fake_quantize(factor, *about_factor, bits)
        ratio = whole / ops.where(factor == 0, ops.ones_like(factor), factor)
        product = self._rounded(product * ratio)
        shift = core.fake_quantize(shift, *about_shift, bits)
        if self.tap.key:
            operands = (product, told(self.tap.key)[0]), (shift, about_shift[0])
            tell(f"{self.tap.key}:sum", operands)
        return product + shift

    def _rounded(self, value: Any) -> Any:
        tap = self.tap
        assert tap.bits is not None
        span: Sequence[Any] = ()
        if tap.source:
            shared = told(tap.source)
            if shared is None:
                return value
            scale, zero = shared
        else:
            if self.training and tap.observes:
                self._observe(value)
            if self.grid is not None and not self.changed:
                scale, zero, *span = self.grid
            else:
                if tap.low is not None:
                    low, high = ops.convert_to_tensor(tap.low), ops.convert_to_tensor(tap.high)
                else:
                    ends = self.range if self.growth is None else self.range * self.growth
                    low, high = ends[0], ends[1]
                scale, zero = core.parameters(low, high, tap.bits)
                scale, zero = ops.stop_gradient(scale), ops.stop_gradient(zero)
            if tap.key:
                tell(tap.key, (scale, zero))
        if self.training and tap.observes and tap.learned:
            # This one has gradients for the ends, too.
            low, high = ops.minimum(low, 0.0), ops.maximum(high, 1e-6)
            rounded = keras.quantizers.fake_quant_with_min_max_vars(value, low, high, tap.bits)
            if self.several is None:
                return rounded
            return ops.where(self.range[1] > self.range[0], rounded, value)
        if self.training:
            low, high = span or core.span_of_grid(scale, zero, tap.bits)
            rounded = core.rounded_in_training(value, scale, low, high, tap.bits)
            if self.several is None or not tap.observes:
                return rounded
            return ops.where(self.range[1] > self.range[0], rounded, value)
        if tap.result:
            value = accumulating.requantized(value, scale, tap.result)
        if tap.mean:
            value = core.mean_of_integers(value, scale, zero)
        if tap.averaged:
            value = accumulating.averaged(value, scale, zero, tap.averaged)
        if tap.multiplied:
            value = accumulating.multiplied(value, scale, tap.multiplied)
        if tap.summed and tap.bits == 8:
            value = accumulating.summed(value, scale, told(tap.summed))
        rounded = core.fake_quantize(value, scale, zero, tap.bits)
        if not tap.observes:
            return rounded
        # Before anything was observed there is nothing to round to.
        return ops.where(self.range[1] > self.range[0], rounded, value)

    def _observe(self, value: Any) -> None:
        if self.several is None:
            self._follow([ops.stop_gradient(value)])
        else:
            self.several.append(ops.stop_gradient(value))

    def _follow(self, values: list[Any]) -> None:
        tap = self.tap
        step = self.count // tap.calls_per_step
        due = step < FIRST_STEPS
        if not tap.learned:
            due = counting.either(due, counting.divides(PERIOD, step))
        if tap.freeze is not None:
            due = counting.both(due, step < tap.freeze)
        current = self.range

        def follow() -> Any:
            lows, highs = [ops.min(each) for each in values], [ops.max(each) for each in values]
            if len(values) > 1:
                lows, highs = [ops.min(ops.stack(lows))], [ops.max(ops.stack(highs))]
            seen = ops.stack([lows[0], highs[0]])
            fresh = ops.equal(current[0], current[1])
            average = current + (1.0 - tap.momentum) * (seen - current)
            return ops.where(fresh, seen, average)

        self.counts = True
        if due is not False:
            self.range = counting.choose(due, follow, lambda: current)
            self.changed = True

    def finish(self) -> None:
        """Store range and count."""
        if self.several:
            self._follow(self.several)
        if self.changed:
            self.tap.range.assign(self.range)
        if self.counts:
            counting.counted(self.tap.count, self.count)
