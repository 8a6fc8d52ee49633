"""How a strength grows over training: functions of the step, from 0 to 1 of the way.

A schedule says when; what it goes to (a sparsity, say) is the technique's. `fraction(step)` works
on Python numbers and on tensors inside a compiled step alike, and so does `due(step)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras import ops

from litesmith.errors import RecipeError
from litesmith.options import Option, number, whole_number
from litesmith.parametrize import counting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(Option):
    """Base of the schedules.

    Args:
        begin_step: training step, counted from 0, at which it starts; before it nothing is done.
        frequency: training steps from one update to the next.
    """

    family: ClassVar[str] = "schedule"

    begin_step: int = 0
    frequency: int = 100

    def __post_init__(self) -> None:
        whole_number("schedule begin_step", self.begin_step, least=0)
        whole_number("schedule frequency", self.frequency, least=1)

    @property
    def last_step(self) -> int:
        """The step at which the full strength is reached."""
        return self.begin_step

    def fraction(self, step: Any) -> Any:
        """Share of the full strength at a step, 0 to 1.

        Args:
            step: training step, a number or an int32 tensor; taken to be `begin_step` or later.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fraction(step)")

    def due(self, step: Any) -> Any:
        """Whether an update falls on this step.

        Args:
            step: training step, a number or an int32 tensor.
        """
        regular = counting.divides(self.frequency, step - self.begin_step)
        return counting.both(step >= self.begin_step, regular)

    def is_due(self, step: Any) -> Any:
        """`due`; schedules from elsewhere are given a tensor, whatever the step is.

        Args:
            step: training step, a number or an int32 tensor.

        Returns:
            A bool, or a boolean tensor.
        """
        if isinstance(step, int) and type(self).due.__module__ != __name__:
            step = ops.convert_to_tensor(step, "int32")
        return self.due(step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """Full strength from `begin_step` on; updates go on with training.

    Args:
        begin_step: training step (batch), counted from 0, at which it starts.
        frequency: training steps from one update to the next.

    Raises:
        RecipeError: a number out of its range.
    """

    name: ClassVar[str] = "constant"

    def fraction(self, step: Any) -> Any:
        """1."""
        return 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ramp(Schedule):
    end_step: int
    initial: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("schedule end_step", self.end_step, least=0)
        if self.end_step <= self.begin_step:
            raise RecipeError(
                "schedule end_step",
                expected=f"a step after begin_step ({self.begin_step})",
                received=self.end_step,
                fix="use Constant(begin_step=…) for a schedule of one step",
            )
        number("schedule initial", self.initial, least=0.0, below=1.0)

    @property
    def last_step(self) -> int:
        """The step at which the full strength is reached."""
        return self.end_step

    def progress(self, step: Any) -> Any:
        """Share of the way from `begin_step` to `end_step`, 0 to 1."""
        way = (ops.cast(step, "float32") - self.begin_step) / (self.end_step - self.begin_step)
        return ops.clip(way, 0.0, 1.0)

    def due(self, step: Any) -> Any:
        """Whether an update falls on this step: the last falls on `end_step`, then none."""
        inside = counting.both(super().due(step), step <= self.end_step)
        return counting.either(inside, counting.same(step, self.end_step))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolynomialDecay(_Ramp):
    """1 − (1 − initial)·(1 − progress)^power.

    With power 3 this is the gradual pruning of Zhu and Gupta, "To prune, or not to prune" (2017):
    fast at first, where there is much to prune, and slow towards the end.

    Args:
        begin_step: training step at which it starts.
        end_step: training step at which the full strength is reached.
        initial: share of the full strength at `begin_step`, 0 up to 1.
        power: exponent, above 0.
        frequency: training steps from one update to the next.

    Raises:
        RecipeError: a number out of its range, or an end before the beginning.
    """

    name: ClassVar[str] = "polynomial"

    power: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule power", self.power, above=0.0)

    def fraction(self, step: Any) -> Any:
        """Share of the full strength at a step."""
        return 1.0 - (1.0 - self.initial) * (1.0 - self.progress(step)) ** self.power


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineDecay(_Ramp):
    """1 − (1 − initial)·(1 + cos(π·progress))/2: slow at both ends (Loshchilov and Hutter, 2017).

    Args:
        begin_step: training step at which it starts.
        end_step: training step at which the full strength is reached.
        initial: share of the full strength at `begin_step`, 0 up to 1.
        frequency: training steps from one update to the next.

    Raises:
        RecipeError: a number out of its range, or an end before the beginning.
    """

    name: ClassVar[str] = "cosine"

    def fraction(self, step: Any) -> Any:
        """Share of the full strength at a step."""
        remaining = (1.0 + ops.cos(3.141592653589793 * self.progress(step))) / 2.0
        return 1.0 - (1.0 - self.initial) * remaining
