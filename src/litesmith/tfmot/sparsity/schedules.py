"""tfmot's pruning schedules, and their way to litesmith's."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

import litesmith.schedules as ours
from litesmith.errors import RecipeError
from litesmith.granularity import Granularity, NOfM
from litesmith.options import number, whole_number
from litesmith.parametrize import Kernel
from litesmith.pruning import Prune
from litesmith.technique import Plan


class PruningSchedule(abc.ABC):
    """When masks are made anew, and how sparse they are: a function of the training step.

    A subclass defines `__call__` and `get_config`. It runs inside the compiled training step, so it
    computes with `keras.ops` (or the backend's own operations).
    """

    @abc.abstractmethod
    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Whether to prune, and how far.

        Args:
            step: training step, counted from 0, an int32 scalar tensor.

        Returns:
            Whether the masks are made anew at this step, a bool or scalar tensor; and the share of
            zeros, 0 up to 1, a number or scalar tensor.
        """

    def _should_prune_in_step(
        self, step: Any, begin_step: int, end_step: int, frequency: int
    ) -> Any:
        """Whether a step is one of each `frequency` in `begin_step` … `end_step` (-1: no end)."""
        due = ops.logical_and(
            ops.greater_equal(step, begin_step),
            ops.equal((ops.cast(step, "int32") - begin_step) % frequency, 0),
        )
        if end_step < 0:
            return due
        return ops.logical_and(due, ops.less_equal(step, end_step))

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving: `{"class_name": …, "config": {…}}`, or just them."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """What `get_config` wrote."""
        return cls(**config.get("config", config))


def _check(name: str, sparsity: Any, field: str) -> None:
    number(f"{name}: {field}", sparsity, least=0.0, below=1.0, fix="80 % is 0.8")


def _check_steps(name: str, begin_step: Any, frequency: Any) -> None:
    whole_number(f"{name}: begin_step", begin_step, least=0)
    whole_number(f"{name}: frequency", frequency, least=1)


@keras.saving.register_keras_serializable("litesmith.tfmot")
class ConstantSparsity(PruningSchedule):
    """The same share of zeros from a step on.

    Args:
        target_sparsity: share of zeros, 0 up to 1.
        begin_step: training step at which pruning starts.
        end_step: training step after which masks stay as they are; -1 for never.
        frequency: training steps from one renewal of the masks to the next.

    Raises:
        RecipeError: one is out of its range.
    """

    def __init__(
        self, target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100
    ):
        _check("ConstantSparsity", target_sparsity, "target_sparsity")
        _check_steps("ConstantSparsity", begin_step, frequency)
        whole_number("ConstantSparsity: end_step", end_step, least=-1)
        if end_step != -1 and end_step < begin_step:
            raise RecipeError(
                "ConstantSparsity: end_step",
                expected=f"-1, or a step from begin_step ({begin_step}) on",
                received=end_step,
            )
        self.target_sparsity, self.begin_step = target_sparsity, begin_step
        self.end_step, self.frequency = end_step, frequency

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Whether to prune, and how far; see `PruningSchedule`."""
        due = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        return due, ops.convert_to_tensor(self.target_sparsity, "float32")

    def get_config(self) -> dict[str, Any]:
        """Class and constructor arguments."""
        names = ("target_sparsity", "begin_step", "end_step", "frequency")
        config = {name: getattr(self, name) for name in names}
        return {"class_name": type(self).__name__, "config": config}


@keras.saving.register_keras_serializable("litesmith.tfmot")
class PolynomialDecay(PruningSchedule):
    """From one share of zeros to another (Zhu and Gupta, "To prune, or not to prune", 2017).

    s = final + (initial − final) · (1 − (step − begin) ÷ (end − begin))^power.

    Args:
        initial_sparsity: share of zeros at `begin_step`, 0 up to 1.
        final_sparsity: share of zeros at `end_step`.
        begin_step: training step at which pruning starts.
        end_step: training step at which the final sparsity is reached.
        power: exponent.
        frequency: training steps from one renewal of the masks to the next.

    Raises:
        RecipeError: one is out of its range.
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ):
        _check("PolynomialDecay", initial_sparsity, "initial_sparsity")
        _check("PolynomialDecay", final_sparsity, "final_sparsity")
        _check_steps("PolynomialDecay", begin_step, frequency)
        whole_number("PolynomialDecay: end_step", end_step, least=0)
        number("PolynomialDecay: power", power, above=0.0)
        if end_step <= begin_step:
            raise RecipeError(
                "PolynomialDecay: end_step",
                expected=f"a step after begin_step ({begin_step})",
                received=end_step,
                fix="train for a step or more: end_step is often steps per epoch × epochs",
            )
        self.initial_sparsity, self.final_sparsity = initial_sparsity, final_sparsity
        self.begin_step, self.end_step = begin_step, end_step
        self.power, self.frequency = power, frequency

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Whether to prune, and how far; see `PruningSchedule`."""
        way = (ops.cast(step, "float32") - self.begin_step) / (self.end_step - self.begin_step)
        rest = (1.0 - ops.clip(way, 0.0, 1.0)) ** self.power
        sparsity = self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest
        due = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        # The last renewal is at the end, also where that is no multiple of `frequency`.
        return ops.logical_or(due, ops.equal(step, self.end_step)), sparsity

    def get_config(self) -> dict[str, Any]:
        """Class and constructor arguments."""
        names = (
            "initial_sparsity",
            "final_sparsity",
            "begin_step",
            "end_step",
            "power",
            "frequency",
        )
        config = {name: getattr(self, name) for name in names}
        return {"class_name": type(self).__name__, "config": config}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Followed(ours.Schedule):
    """A `PruningSchedule` as a schedule of ours; its fraction is the sparsity itself.

    Args:
        schedule: the tfmot-style schedule.
    """

    name: ClassVar[str] = "tfmot"

    schedule: Any = None

    @property
    def last_step(self) -> int:
        """The step at which the full strength is reached, where the schedule tells."""
        end = getattr(self.schedule, "end_step", None)
        begin = getattr(self.schedule, "begin_step", 0)
        return end if isinstance(end, int) and end > 0 else begin

    def fraction(self, step: Any) -> Any:
        """The sparsity at a step."""
        return ops.cast(self.schedule(step)[1], "float32")

    def due(self, step: Any) -> Any:
        """Whether masks are made anew at a step."""
        return ops.cast(self.schedule(step)[0], "bool")

    def field_to_dict(self, field: str, value: Any) -> Any:
        """One field's value as JSON has it."""
        if field == "schedule":
            return keras.saving.serialize_keras_object(value)
        return super().field_to_dict(field, value)

    @classmethod
    def field_from_dict(cls, field: str, value: Any) -> Any:
        """One field's value from JSON."""
        if field == "schedule" and isinstance(value, dict):
            return keras.saving.deserialize_keras_object(value)
        return super().field_from_dict(field, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneFollowing(Prune):
    """`Prune` by a schedule whose values are sparsities, of which the largest is not known.

    Args:
        sparsity: not used; the schedule tells.
    """

    name: ClassVar[str] = "tfmot_prune"

    sparsity: float | None = 0.0

    def _counts(self, kernels: Sequence[Kernel]) -> list[int]:
        return [self._units(kernel) for kernel in kernels]

    def _plan(self, kernel: Kernel, zeros: int) -> Plan:
        plan = super()._plan(kernel, zeros)
        detail = {"weights": plan.detail["weights"], "schedule": self._kind}
        return dataclasses.replace(plan, detail=detail)

    @property
    def _kind(self) -> str:
        return type(getattr(self.schedule, "schedule", None)).__name__

    def broken_promise(self, values: np.ndarray, plan: Plan, *, finished: bool) -> str | None:
        """Nothing was promised but what the schedule says."""
        return None


def technique(schedule: PruningSchedule, granularity: Granularity) -> Prune:
    """The technique that prunes by a tfmot-style schedule.

    Args:
        schedule: the schedule.
        granularity: what is zero or kept as one.

    Raises:
        RecipeError: it is no schedule, or does not go with the granularity.
    """
    if not isinstance(schedule, PruningSchedule):
        raise RecipeError(
            "prune_low_magnitude: pruning_schedule",
            expected="a PruningSchedule, such as ConstantSparsity(0.5, begin_step=0)",
            received=schedule,
        )
    known = type(schedule) in (ConstantSparsity, PolynomialDecay)
    if isinstance(granularity, NOfM):
        # As in tfmot: the pattern says how many, the schedule when.
        if not known:
            raise RecipeError(
                "prune_low_magnitude: sparsity_m_by_n",
                expected="ConstantSparsity or PolynomialDecay, which tell when",
                received=type(schedule).__name__,
            )
        every = ours.Constant(begin_step=schedule.begin_step, frequency=schedule.frequency)  # type: ignore[attr-defined]
        return Prune(granularity=granularity, schedule=every)
    if isinstance(schedule, ConstantSparsity) and known and schedule.end_step == -1:
        return Prune(
            sparsity=schedule.target_sparsity,
            schedule=ours.Constant(begin_step=schedule.begin_step, frequency=schedule.frequency),
            granularity=granularity,
        )
    if isinstance(schedule, PolynomialDecay) and known:
        initial, final = schedule.initial_sparsity, schedule.final_sparsity
        if initial < final:
            decay = ours.PolynomialDecay(
                begin_step=schedule.begin_step,
                end_step=schedule.end_step,
                initial=initial / final,
                power=schedule.power,
                frequency=schedule.frequency,
            )
            return Prune(sparsity=final, schedule=decay, granularity=granularity)
    return PruneFollowing(schedule=Followed(schedule=schedule), granularity=granularity)
