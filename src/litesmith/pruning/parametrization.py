"""The mask that follows training: state, and the in-graph update."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from litesmith.granularity import Granularity, NOfM, PerBlock, PerChannel
from litesmith.parametrize import Parametrization, counting
from litesmith.pruning import core
from litesmith.schedules import Schedule


def unit_scores(
    weight: Any, granularity: Granularity, outputs: tuple[int, ...], inputs: tuple[int, ...]
) -> Any:
    """The magnitude of each unit that a granularity drops or keeps as one."""
    view = ops.abs(core.to_canonical(weight, outputs, inputs))
    if isinstance(granularity, PerBlock):
        return core.block_scores(view, granularity.block, granularity.pooling)
    if isinstance(granularity, PerChannel):
        return ops.mean(view, axis=(1, 2) if granularity.axis == -1 else (0, 1))
    return view


@keras.saving.register_keras_serializable("litesmith")
class Mask(Parametrization):
    """w_used = w · mask, with a mask that is made anew from |w| as the schedule says.

    Args:
        zeros: units to drop at full strength; in each group, for n:m.
        schedule: when.
        granularity: what a unit is.
        gradient: "masked" or "dense", see `Prune`.
        outputs: the kernel's output axes.
        inputs: its input axes.
    """

    makes_zeros = True
    fields = ("zeros", "schedule", "granularity", "gradient", "outputs", "inputs")

    def __init__(
        self,
        *,
        zeros: int,
        schedule: Schedule | dict[str, Any],
        granularity: Granularity | dict[str, Any],
        gradient: str = "masked",
        outputs: tuple[int, ...],
        inputs: tuple[int, ...],
        **options: Any,
    ):
        super().__init__(**options)
        self.zeros, self.gradient = zeros, gradient
        self.schedule = schedule if isinstance(schedule, Schedule) else Schedule.from_dict(schedule)
        self.granularity = (
            granularity
            if isinstance(granularity, Granularity)
            else Granularity.from_dict(granularity)
        )
        self.outputs, self.inputs = tuple(outputs), tuple(inputs)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        config = super().get_config()
        config["schedule"] = self.schedule.to_dict()
        config["granularity"] = self.granularity.to_dict()
        config["outputs"], config["inputs"] = list(self.outputs), list(self.inputs)
        return config

    def create_state(self) -> None:
        """The mask, one byte a weight, and the count of training calls."""
        self.mask = self.state("mask", self.shape, "ones", "bool")
        self.count = self.state("count", (), "zeros", "int32")

    def start(self, weight: np.ndarray) -> None:
        """The first mask: a schedule that begins at step 0 holds before the first step."""
        step = ops.zeros((), "int32")
        if self.schedule.begin_step == 0 and float(self.schedule.fraction(step)) > 0:
            self.mask.assign(self.mask_at(ops.convert_to_tensor(weight), step))

    def mask_at(self, weight: Any, step: Any) -> Any:
        """The mask for these weights at this step.

        Args:
            weight: tensor of the kernel's shape.
            step: a number or an int32 tensor, `begin_step` or later.
        """
        step = ops.convert_to_tensor(step, "int32")
        weight = ops.cast(ops.stop_gradient(weight), "float32")
        share = self.schedule.fraction(step)
        zeros = ops.cast(ops.round(ops.cast(share, "float32") * self.zeros), "int32")
        scores = unit_scores(weight, self.granularity, self.outputs, self.inputs)
        if isinstance(self.granularity, NOfM):
            mask = core.keep_n_of_m(scores, self.granularity.m, zeros)
        else:
            mask = core.keep_largest(scores, zeros)
        if isinstance(self.granularity, PerBlock):
            mask = core.spread_blocks(mask, self.granularity.block)
        elif isinstance(self.granularity, PerChannel):
            high, spatial, wide = core.canonical_shape(self.shape, self.outputs, self.inputs)
            column = (-1, 1, 1) if self.granularity.axis == -1 else (1, 1, -1)
            mask = ops.broadcast_to(ops.reshape(mask, column), (high, spatial, max(wide, 1)))
        return core.from_canonical(mask, self.shape, self.outputs, self.inputs)

    def transform(self, weight: Any, training: bool) -> Any:
        """The masked weight; in training the mask is updated first where that is due."""
        mask = ops.copy(self.mask)
        if training:
            count = counting.calls(self.count)
            step = count // self.calls_per_step
            first = counting.divides(self.calls_per_step, count)
            due = counting.both(first, self.schedule.is_due(step))
            if due is not False:
                current = mask
                mask = counting.choose(due, lambda: self.mask_at(weight, step), lambda: current)
                self.mask.assign(mask)
            counting.counted(self.count, count)
        used = ops.where(mask, weight, ops.zeros((), weight.dtype))
        if self.gradient == "dense":
            # w + stop(used − w) would not be exact in floats.
            used = ops.stop_gradient(used) + (weight - ops.stop_gradient(weight))
        return used

    def progress(self) -> dict[str, Any]:
        """Sparsity reached, and training steps seen."""
        mask = ops.convert_to_numpy(self.mask)
        steps = int(ops.convert_to_numpy(self.count)) // self.calls_per_step
        return {"sparsity": float(1.0 - mask.mean()), "steps": steps}

    def unfinished(self) -> str | None:
        """What training ended too early for, or None."""
        steps, last = self.progress()["steps"], self.schedule.last_step
        # Step `last_step` is the one that brings the full strength: it is the (last + 1)-th.
        if last == 0 or steps > last:
            return None
        reached = self.progress()["sparsity"]
        return (
            f"pruning was to end at step {last}, counted from 0, training after {steps} steps: "
            f"{reached:.1%} of the weights are zero"
        )
