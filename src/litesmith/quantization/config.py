"""`Quantize`: how many bits, and how ranges follow training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import keras
import numpy as np

from litesmith import timeline
from litesmith.errors import RecipeError
from litesmith.options import number, whole_number
from litesmith.parametrize import Kernel
from litesmith.quantization import core
from litesmith.quantization.parametrization import MOMENTUM, Grid
from litesmith.technique import BY_DEFAULT, Plan, Technique, Wiring

# Where a study lays the recipe out, ranges stay as they are in the last part of training.
FROZEN_SHARE = 0.75


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantize(Technique):
    """Quantization-aware training (Jacob et al., "Quantization and training of neural networks for
    efficient integer-arithmetic-only inference", 2018).

    Weights pass through the grid that LiteRT will store, activations through the rounding it will
    do. Which activations those are is asked of the graph that LiteRT will have. Several of them in
    one recipe are rules: the first that takes a layer decides its bits.

    Args:
        where: see `Technique`; by default every kernel that LiteRT has in integers, depthwise
            ones too. A layer that no `Quantize` of the recipe takes stays float.
        weights: bits, 2 to 8: symmetric, of narrow range (−127…127, −7…7, −1…1), with a scale for
            each output channel.
        activations: bits, 8 or 16; None leaves activations in float.
        freeze: training step from which on ranges and scales stay as they are, or, below 1, the
            share of the run; None never, but three quarters of the run where a study lays the
            recipe out.
        freeze_batch_norm: the same for BatchNorms, which then compute as in inference; None never.
        ranges: "moving_average" follows what comes by; "learned" has the optimizer train the ends
            of each range from where the first ten steps have put them, and the scales of weights of
            fewer than eight bits (Esser et al., "Learned step size quantization", 2020).
        momentum: of the moving average of an activation's smallest and largest value; it is taken
            every tenth step.

    Raises:
        RecipeError: a field is out of its range.
    """  # noqa: D205

    name: ClassVar[str] = "quantize"
    asks_scales: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True

    weights: int = 8
    activations: int | None = 8
    freeze: float | None = None
    freeze_batch_norm: float | None = None
    ranges: Literal["moving_average", "learned"] = "moving_average"
    momentum: float = MOMENTUM

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("quantize: weights", self.weights, least=2, most=8)
        if self.activations not in (8, 16, None) or isinstance(self.activations, bool):
            raise RecipeError(
                "quantize: activations", expected="8, 16 or None", received=self.activations
            )
        for field in ("freeze", "freeze_batch_norm"):
            value = getattr(self, field)
            if isinstance(value, float):
                number(f"quantize: {field}", value, least=0.0, below=1.0)
            elif value is not None:
                whole_number(f"quantize: {field}", value, least=0)
        if self.ranges not in ("moving_average", "learned"):
            raise RecipeError(
                "quantize: ranges",
                expected="'moving_average' or 'learned'",
                received=self.ranges,
            )
        number("quantize: momentum", self.momentum, least=0.0, below=1.0)

    @property
    def simulates(self) -> bool:
        """Whether the prepared model rounds what `strip` no longer does."""
        return self.activations is not None

    def field_to_dict(self, field: str, value: Any) -> Any:
        """One field's value as a file has it: TOML has no word for None."""
        if field == "activations" and value is None:
            return "none"
        return super().field_to_dict(field, value)

    @classmethod
    def field_from_dict(cls, field: str, value: Any) -> Any:
        """One field's value from a file."""
        if field == "activations" and value == "none":
            return None
        return super().field_from_dict(field, value)

    def selects(self, kernel: Kernel) -> bool:
        """Whether `where`, or the default, is about this kernel."""
        if self.where is None:
            return kernel.kind in BY_DEFAULT | {"depthwise"}
        return super().selects(kernel)

    def plan(self, kernels: Sequence[Kernel]) -> list[Plan]:
        """The grid of each kernel, or why it is skipped."""
        return [self._plan(kernel) for kernel in kernels]

    def _plan(self, kernel: Kernel) -> Plan:
        if kernel.kind in ("embedding", "other"):
            return Plan(kernel, reason="LiteRT has no integer kernel with a grid of its own for it")
        before = kernel.scale is not None and kernel.scale.before
        if before and kernel.scale.reason:
            return Plan(kernel, reason=kernel.scale.reason)
        channels = kernel.layout.outputs
        scales = int(np.prod([kernel.shape[axis] for axis in channels]))
        detail = {"bits": self.weights, "scales": scales}
        settings = {"folded": before, "channels": channels}
        return Plan(kernel, settings=settings, detail=detail)

    def parametrization(self, plan: Plan, name: str, calls_per_step: int) -> Grid:
        """The grid of one kernel."""
        return Grid(
            name=name,
            shape=plan.kernel.shape,
            calls_per_step=calls_per_step,
            bits=self.weights,
            channels=plan.settings["channels"],
            folded=plan.settings["folded"],
            key=plan.settings.get("key", ""),
            freeze=self.freeze,  # type: ignore[arg-type]  # settled
            learned=self.ranges == "learned",
        )

    @classmethod
    def wire(
        cls,
        model: keras.Model,
        taken: Sequence[tuple[Technique, Mapping[int, Plan]]],
    ) -> Wiring:
        """The taps that round activations, and the keys by which scales find them."""
        from litesmith.quantization.wiring import wire

        return wire(model, taken)

    def broken_promise(self, values: np.ndarray, plan: Plan, *, finished: bool) -> str | None:
        """No more levels than the grid has: in each channel, or over all of them."""
        allowed = 2 * core.limit(self.weights) + 1
        if values.shape != plan.kernel.shape:
            channels = plan.detail["scales"]
            most = allowed if values.dtype.kind == "i" else allowed * channels
            found = len(np.unique(values))
            return None if found <= most else f"{found} levels where {most} are allowed"
        axes = plan.settings.get("channels", plan.kernel.layout.outputs)
        rows = np.moveaxis(values, axes, range(len(axes)))
        rows = rows.reshape(int(np.prod(rows.shape[: len(axes)])), -1)
        worst = max((len(np.unique(row)) for row in rows), default=0)
        if worst > allowed:
            return f"{worst} levels in a channel where {allowed} are allowed"
        return None

    @property
    def warmth(self) -> float:
        """Rounding to four bits or more wants small steps; fewer have farther to go."""
        return 0.5 if self.weights >= 4 else 2.0

    def laid_out(self, steps: int, after: int = 0) -> Self:
        """With ranges that stay in the last quarter of the run, where nothing else is said."""
        if steps < 1:
            return self
        share = timeline.settled(FROZEN_SHARE, steps, after) if self.freeze is None else self.freeze
        return dataclasses.replace(self, freeze=share).settled(steps)

    @property
    def span(self) -> tuple[int, int | None]:
        """Until ranges and scales stay."""
        return 0, None if isinstance(self.freeze, float) else self.freeze

    @property
    def label(self) -> str:
        """Bits of weights and activations."""
        activations = "float" if self.activations is None else f"{self.activations}-bit"
        return f"{self.weights}-bit weights, {activations} activations"

    def settled(self, steps: int | None) -> Self:
        """With steps where it has shares of a run.

        Raises:
            RecipeError: it has shares, and nobody has told of how many steps.
        """
        shares = {
            field: value
            for field in ("freeze", "freeze_batch_norm")
            if isinstance(value := getattr(self, field), float)
        }
        if not shares:
            return self
        if steps is None:
            field, value = next(iter(shares.items()))
            raise RecipeError(
                f"quantize: {field}",
                expected="a training step, or the number of steps to come",
                received=f"{value}, a share of a run of unknown length",
                fix="pass steps= to prepare",
            )
        counted: dict[str, Any] = {field: round(each * steps) for field, each in shares.items()}
        return dataclasses.replace(self, **counted)
