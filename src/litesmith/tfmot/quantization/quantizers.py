"""tfmot's quantizers: how a tensor is rounded, for `QuantizeConfig` and for layers of one's own."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Self

import keras
from keras import ops

from litesmith.options import whole_number

# tfmot's, of the moving average.
EMA_DECAY = 0.999
START = 6.0


class Quantizer(abc.ABC):
    """How a tensor is rounded: variables made by `build`, and the rounding.

    `quantize_apply` takes litesmith's own quantizers, whose rounding the `.tflite` can have; one of
    your own works where you call it.
    """

    @abc.abstractmethod
    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Any:
        """Make the variables.

        Args:
            tensor_shape: shape of the tensor to round.
            name: begins the variables' names.
            layer: whose variables they are.

        Returns:
            Variables by name.
        """

    @abc.abstractmethod
    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        """Round a tensor.

        Args:
            inputs: the tensor.
            training: whether ranges follow what comes by.
            weights: what `build` returned.
            **kwargs: not used.
        """

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """What `get_config` wrote."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(sorted(self.get_config().items()))))


class _Ranged(Quantizer):
    """One with a range that follows what comes by."""

    start: ClassVar[float] = START

    def __init__(self, num_bits: int, per_axis: bool, symmetric: bool, narrow_range: bool):
        whole_number(f"{type(self).__name__}: num_bits", num_bits, least=2, most=16)
        self.num_bits, self.per_axis = num_bits, per_axis
        self.symmetric, self.narrow_range = symmetric, narrow_range

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Any:
        """Make `min_var` and `max_var`, a value each or one for each place of the last axis."""
        shape = (tensor_shape[-1],) if self.per_axis else ()
        return {
            f"{end}_var": layer.add_weight(
                name=f"{name}_{end}",
                shape=shape,
                initializer=keras.initializers.Constant(sign * self.start),
                trainable=False,
            )
            for end, sign in (("min", -1.0), ("max", 1.0))
        }

    def followed(self, low: Any, high: Any, least: Any, most: Any) -> tuple[Any, Any]:
        """The range after a batch.

        Args:
            low: the lower end before.
            high: the upper end before.
            least: the smallest value that came by.
            most: the largest.
        """
        raise NotImplementedError

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        """Round a tensor; in training the range follows first."""
        low, high = weights["min_var"], weights["max_var"]
        if training:
            seen = ops.stop_gradient(inputs)
            axes = tuple(range(len(inputs.shape) - 1)) if self.per_axis else None
            least, most = ops.min(seen, axis=axes), ops.max(seen, axis=axes)
            least, most = ops.minimum(least, 0.0), ops.maximum(most, 0.0)
            if self.symmetric:
                least, most = self._mirrored(least, most)
            ends = self.followed(ops.copy(low), ops.copy(high), least, most)
            low.assign(ends[0])
            high.assign(ends[1])
        return keras.quantizers.fake_quant_with_min_max_vars(
            inputs,
            ops.copy(low),
            ops.copy(high),
            num_bits=self.num_bits,
            narrow_range=self.narrow_range,
            axis=len(inputs.shape) - 1 if self.per_axis else None,
        )

    def _mirrored(self, least: Any, most: Any) -> tuple[Any, Any]:
        """A range about zero; without narrow range it reaches one step further down."""
        end = ops.maximum(-least, most)
        if self.narrow_range:
            return -end, end
        steps = 2**self.num_bits
        further = steps / (steps - 2.0)
        end = ops.maximum(-least / further, most)
        return -end * further, end

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        names = ("num_bits", "per_axis", "symmetric", "narrow_range")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("litesmith.tfmot")
class LastValueQuantizer(_Ranged):
    """The range of the last batch.

    Args:
        num_bits: 2 to 16.
        per_axis: a range for each place of the last axis.
        symmetric: a range about zero.
        narrow_range: leave the smallest integer out: −127…127 instead of −128…127.
    """

    def followed(self, low: Any, high: Any, least: Any, most: Any) -> tuple[Any, Any]:
        """The new ends."""
        return least, most


@keras.saving.register_keras_serializable("litesmith.tfmot")
class MovingAverageQuantizer(_Ranged):
    """A moving average of the batches' ranges, 0.999 of it the one before.

    Args:
        num_bits: 2 to 16.
        per_axis: a range for each place of the last axis.
        symmetric: a range about zero.
        narrow_range: leave the smallest integer out.
    """

    def followed(self, low: Any, high: Any, least: Any, most: Any) -> tuple[Any, Any]:
        """The old ends, moved a thousandth of the way."""
        share = 1.0 - EMA_DECAY
        return low + share * (least - low), high + share * (most - high)


@keras.saving.register_keras_serializable("litesmith.tfmot")
class AllValuesQuantizer(_Ranged):
    """The range of all batches so far.

    Args:
        num_bits: 2 to 16.
        per_axis: a range for each place of the last axis.
        symmetric: a range about zero.
        narrow_range: leave the smallest integer out.
    """

    start = 0.0

    def followed(self, low: Any, high: Any, least: Any, most: Any) -> tuple[Any, Any]:
        """The wider ends."""
        return ops.minimum(low, least), ops.maximum(high, most)


@keras.saving.register_keras_serializable("litesmith.tfmot")
class FixedQuantizer(Quantizer):
    """A range that stays.

    Args:
        num_bits: 2 to 16.
        init_min, init_max: its ends.
        narrow_range: leave the smallest integer out.
    """

    def __init__(self, num_bits: int, init_min: float, init_max: float, narrow_range: bool):
        whole_number("FixedQuantizer: num_bits", num_bits, least=2, most=16)
        self.num_bits, self.narrow_range = num_bits, narrow_range
        self.init_min, self.init_max = init_min, init_max

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Any:
        """Nothing to make."""
        return {}

    def __call__(self, inputs: Any, training: bool, weights: Any, **kwargs: Any) -> Any:
        """Round a tensor."""
        return keras.quantizers.fake_quant_with_min_max_vars(
            inputs,
            self.init_min,
            self.init_max,
            num_bits=self.num_bits,
            narrow_range=self.narrow_range,
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        names = ("num_bits", "init_min", "init_max", "narrow_range")
        return {name: getattr(self, name) for name in names}
