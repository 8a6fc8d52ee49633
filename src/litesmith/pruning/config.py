"""`Prune`: what to prune, how far, how, and when."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from litesmith.errors import RecipeError
from litesmith.granularity import Granularity, NOfM, Unstructured, granularity_from
from litesmith.options import number
from litesmith.parametrize import Kernel
from litesmith.pruning.core import canonical_shape, layer_adaptive, share_out, to_canonical
from litesmith.pruning.parametrization import Mask, unit_scores
from litesmith.schedules import Constant, PolynomialDecay, Schedule
from litesmith.technique import Plan, Technique

# Share of a training run in which a schedule laid out by `laid_out` prunes; then the rest of the
# run recovers.
PRUNING_SHARE = 0.4
# With fewer masks than these from begin to end, a schedule cuts too much at once.
FEWEST_CHANGES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(Technique):
    """Magnitude pruning (Han et al., 2015; gradual: Zhu and Gupta, 2017) to an exact sparsity.

    The weights of smallest magnitude are zero wherever the layer uses them; the stored ones stay,
    so that a weight can come back when the mask is made anew. Of n weights exactly
    round(sparsity · n) are zero, ties broken by position.

    Args:
        where: see `Technique`.
        sparsity: share of zeros, 0 up to 1. Not needed with `NOfM`, which implies it.
        schedule: when; None prunes in full from the first step on.
        granularity: what is zero or kept as one: `Unstructured()`, `NOfM(2, 4)`, `PerBlock(4)`,
            `PerChannel()`.
        ranking: "layer" gives each kernel the same sparsity; "global" ranks the weights of all
            kernels together, once, when the model is prepared, and gives each kernel its share;
            "lamp" does so by each weight's part in what its kernel keeps, w² ÷ the sum of the
            squares that are no smaller (Lee et al., "Layer-adaptive sparsity for the
            magnitude-based pruning", 2021), which does not depend on a kernel's scale. None is
            "layer", but "lamp" where a study lays the recipe out: that costs the least accuracy
            (docs/decisions.md).
        gradient: "masked" stops the gradient of pruned weights; "dense" lets it through, so that
            they go on learning and can grow back (straight-through; Evci et al., 2020, discuss
            growth by gradient).

    Raises:
        RecipeError: a field is out of its range.
    """

    name: ClassVar[str] = "prune"
    breaks: ClassVar[Mapping[str, str]] = {
        "prune": "a second mask changes the number of zeros",
        "cluster": "new zeros are one value more than the clusters",
        "quantize": "the grid is made for the weights as they were",
    }

    sparsity: float | None = None
    schedule: Schedule | None = None
    granularity: Granularity = Unstructured()
    ranking: Literal["layer", "global", "lamp"] | None = None
    gradient: Literal["masked", "dense"] = "masked"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "granularity", granularity_from(self.granularity))
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            object.__setattr__(self, "schedule", Schedule.from_dict(self.schedule))
        self._check_sparsity()
        choices_of = {"ranking": ("layer", "global", "lamp"), "gradient": ("masked", "dense")}
        for field, choices in choices_of.items():
            value = getattr(self, field)
            if value not in choices and not (field == "ranking" and value is None):
                raise RecipeError(
                    f"prune: {field}",
                    expected=" or ".join(map(repr, choices)),
                    received=value,
                )
        if self.ranking not in (None, "layer") and isinstance(self.granularity, NOfM):
            raise RecipeError(
                "prune: ranking",
                expected="'layer' with n:m sparsity, which is the same in every group",
                received=self.ranking,
            )

    def _check_sparsity(self) -> None:
        implied = self.granularity.sparsity if isinstance(self.granularity, NOfM) else None
        if self.sparsity is None:
            if implied is None:
                raise RecipeError(
                    "prune: sparsity",
                    expected="a number from 0 and below 1",
                    received="none",
                    fix="write sparsity=0.8 for 80 % zeros",
                )
            object.__setattr__(self, "sparsity", implied)
        number("prune: sparsity", self.sparsity, least=0.0, below=1.0, fix="80 % is 0.8")
        if implied is not None and not math.isclose(self.sparsity or 0.0, implied):
            raise RecipeError(
                "prune: sparsity",
                expected=f"{implied:g}, which the n:m granularity implies, or none",
                received=self.sparsity,
            )

    @classmethod
    def field_from_dict(cls, field: str, value: Any) -> Any:
        """One field's value from JSON."""
        if field == "schedule" and value is not None:
            return Schedule.from_dict(value)
        if field == "granularity":
            return Granularity.from_dict(value)
        return super().field_from_dict(field, value)

    def plan(self, kernels: Sequence[Kernel]) -> list[Plan]:
        """How many units each kernel loses, or why it is skipped."""
        reasons = [self._refusal(kernel) for kernel in kernels]
        taken = [k for k, reason in zip(kernels, reasons, strict=True) if not reason]
        counts = iter(self._counts(taken))
        return [
            Plan(kernel, reason=reason) if reason else self._plan(kernel, next(counts))
            for kernel, reason in zip(kernels, reasons, strict=True)
        ]

    def _refusal(self, kernel: Kernel) -> str:
        shape = canonical_shape(kernel.shape, kernel.layout.outputs, kernel.layout.inputs)
        return self.granularity.refuses(*shape) or ""

    def _scores(self, kernel: Kernel) -> np.ndarray:
        layout = kernel.layout
        scores = unit_scores(kernel.value(), self.granularity, layout.outputs, layout.inputs)
        return np.asarray(scores, np.float32).ravel()

    def _counts(self, kernels: Sequence[Kernel]) -> list[int]:
        assert self.sparsity is not None
        if isinstance(self.granularity, NOfM):
            return [self.granularity.m - self.granularity.n] * len(kernels)
        units = [self._units(kernel) for kernel in kernels]
        if self.ranking in (None, "layer") or not kernels:
            # One unit stays: a kernel of zeros cuts the network in two.
            return [min(round(self.sparsity * count), count - 1) for count in units]
        sizes = [math.prod(k.shape) // count for k, count in zip(kernels, units, strict=True)]
        scores = [self._scores(kernel) for kernel in kernels]
        if self.ranking == "lamp":
            scores = [layer_adaptive(each) for each in scores]
        return share_out(scores, sizes, self.sparsity)

    def _units(self, kernel: Kernel) -> int:
        shape = unit_scores(
            np.empty(kernel.shape, np.float32),
            self.granularity,
            kernel.layout.outputs,
            kernel.layout.inputs,
        ).shape
        return math.prod(shape)

    def _plan(self, kernel: Kernel, zeros: int) -> Plan:
        weights = math.prod(kernel.shape)
        if isinstance(self.granularity, NOfM):
            dropped = weights // self.granularity.m * zeros
        else:
            dropped = weights // self._units(kernel) * zeros
        detail = {"sparsity": dropped / weights, "zeros": dropped, "weights": weights}
        return Plan(kernel, settings={"zeros": zeros}, detail=detail)

    def parametrization(self, plan: Plan, name: str, calls_per_step: int) -> Mask:
        """The mask of one kernel."""
        return Mask(
            name=name,
            shape=plan.kernel.shape,
            calls_per_step=calls_per_step,
            zeros=plan.settings["zeros"],
            schedule=self.schedule or Constant(),
            granularity=self.granularity,
            gradient=self.gradient,
            outputs=plan.kernel.layout.outputs,
            inputs=plan.kernel.layout.inputs,
        )

    def broken_promise(self, values: np.ndarray, plan: Plan, *, finished: bool) -> str | None:
        """Exactly as many zeros as reported; in each group, for n:m."""
        zeros, asked = int((values == 0).sum()), plan.detail["zeros"]
        if zeros != asked if finished else zeros > asked:
            return f"{zeros} zeros where {asked} were asked"
        if isinstance(self.granularity, NOfM) and values.shape == plan.kernel.shape and finished:
            layout = plan.kernel.layout
            view = np.asarray(to_canonical(values, layout.outputs, layout.inputs))
            kept = (view.reshape(-1, self.granularity.m) != 0).sum(axis=1)
            if (kept > self.granularity.n).any():
                return f"{int(kept.max())} of {self.granularity.m} kept"
        return None

    def resume(self, kernel: Kernel, detail: Mapping[str, Any]) -> tuple[Technique, Plan] | None:
        """With as many zeros, from the first step on."""
        if isinstance(self.granularity, NOfM):
            units = self.granularity.m - self.granularity.n
        else:
            units = detail["zeros"] * self._units(kernel) // detail["weights"]
        return dataclasses.replace(self, schedule=None), self._plan(kernel, units)

    @property
    def keeps_zeros(self) -> bool:
        """They are the smallest weights there are."""
        return True

    @property
    def span(self) -> tuple[int, int | None]:
        """From the schedule's first step to its last."""
        schedule = self.schedule or Constant()
        return schedule.begin_step, schedule.last_step

    @property
    def label(self) -> str:
        """The share of zeros."""
        if isinstance(self.granularity, NOfM):
            return f"{self.granularity.n} of {self.granularity.m} weights kept"
        return f"{self.sparsity:.4g} of the weights zero"

    def laid_out(self, steps: int, after: int = 0) -> Self:
        """With a cubic schedule along the run and a ranking over the model, where none is set."""
        changes: dict[str, Any] = {}
        if self.ranking is None and not isinstance(self.granularity, NOfM):
            changes["ranking"] = "lamp"
        end = round(PRUNING_SHARE * steps)
        if self.schedule is None and end >= 1:
            changes["schedule"] = PolynomialDecay(end_step=end, frequency=_frequency(end))
        return dataclasses.replace(self, **changes) if changes else self

    def notes(self, steps: int | None) -> list[str]:
        """A schedule that ends after training does; one that is gradual in name only."""
        if self.schedule is None:
            return []
        found = []
        begin, last = self.schedule.begin_step, self.schedule.last_step
        every = self.schedule.frequency
        if steps is not None and last >= max(steps, 1):
            found.append(
                f"prune: the schedule reaches {self.sparsity:.0%} at step {last}, "
                f"but training ends after {steps} steps: shorten it or train longer"
            )
        changes = -(-(last - begin) // every)
        if 0 < changes < FEWEST_CHANGES and every > 1:
            times = f"{changes} times" if changes > 1 else "once"
            found.append(
                f"prune: between step {begin} and {last} masks are made anew {times} only, since "
                f"frequency={every}: with frequency={_frequency(last - begin)} it is gradual"
            )
        return found


def _frequency(steps: int) -> int:
    """Steps from one mask to the next, with which a ramp of so many is smooth."""
    return max(1, steps // 50)
