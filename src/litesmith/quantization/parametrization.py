"""The grid of a weight: state, and what follows training."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from litesmith.parametrize import Parametrization, counting, tell
from litesmith.quantization import core

# Every step at first, then every tenth: following closely costs more than it gives.
FIRST_STEPS, PERIOD = 10, 10
MOMENTUM = 0.9


@keras.saving.register_keras_serializable("litesmith")
class Grid(Parametrization):
    """w_used = round(w ÷ s) · s, with a scale for each output channel or one for all.

    With eight bits s follows the largest weight at each call and there is no state; with fewer it
    is that of least squared error, looked for again every so many steps.

    Args:
        bits: 2 to 8.
        channels: the kernel's axes that have scales of their own; none of them: one for all.
        folded: whether it is about the kernel as it is after the BatchNorm before it is folded in.
        key: under which it tells its scale to the layers that add a bias.
        keep: whether no weight becomes zero that was not (after pruning).
        shared: whether all channels share a scale (after clustering).
        freeze: training step from which on the scale stays; None never.
        learned: whether the optimizer trains the scale (Esser et al., "Learned step size
            quantization", 2020) where it is kept and not shared.
    """

    fields = ("bits", "channels", "key", "keep", "shared", "freeze", "learned")

    def __init__(
        self,
        *,
        bits: int,
        channels: tuple[int, ...],
        folded: bool = False,
        key: str = "",
        keep: bool = False,
        shared: bool = False,
        freeze: int | None = None,
        learned: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.bits, self.channels, self.key = bits, tuple(channels), key
        self.keep, self.shared, self.freeze, self._folded = keep, shared, freeze, folded
        self.learned = learned

    @property
    def folded(self) -> bool:
        """Whether it is about the folded kernel: where all channels share a scale, for one."""
        return self._folded or self.shared

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        config = super().get_config()
        return {**config, "channels": list(self.channels), "folded": self._folded}

    @property
    def reduced(self) -> tuple[int, ...]:
        """Axes that share a scale."""
        kept = () if self.shared else self.channels
        return tuple(axis for axis in range(len(self.shape)) if axis not in kept)

    @property
    def searched(self) -> bool:
        """Whether the scale is looked for, and kept."""
        return self.bits < 8

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """Shape of the scale: that of the kernel, 1 along the axes that share one."""
        return tuple(1 if axis in self.reduced else size for axis, size in enumerate(self.shape))

    def follow(self, earlier: list[Parametrization]) -> None:
        """Zeros that come from pruning stay as many, values that come from clustering as few."""
        self.keep = any(link.makes_zeros for link in earlier)
        self.shared = any(link.makes_few for link in earlier)

    def create_state(self) -> None:
        """A scale a channel and the count of training calls, where the scale is looked for."""
        if self.searched:
            # One scale or many is decided after the state has been made: room for many.
            kept = tuple(s if a in self.channels else 1 for a, s in enumerate(self.shape))
            self.scale = self.state("scale", kept, "ones")
            self.count = self.state("count", (), "zeros", "int32")
            if self.learned:
                self.growth = self.state("growth", kept, trainable=True)

    @property
    def _learns(self) -> bool:
        return self.learned and self.searched and not self.shared

    def start(self, weight: np.ndarray) -> np.ndarray | None:
        """The scale of the weight as it is; what nothing depends on is cut to what it reaches."""
        if self.felt is None and not self.searched:
            return None
        known = weight if self.felt is None else np.where(self.felt, weight, 0.0)
        choose = core.best_scale if self.searched else core.grid_scale
        scale = choose(ops.convert_to_tensor(known), self.bits, self.reduced)
        if self.searched:
            self.scale.assign(ops.broadcast_to(scale, self.scale.shape))
        if self.felt is None:
            return None
        end = ops.convert_to_numpy(scale) * core.limit(self.bits)
        return np.where(self.felt, weight, np.clip(weight, -end, end))

    def scale_of(self, weight: Any) -> Any:
        """The scale in inference; of `scale_shape`, or that of `channels`."""
        if self._learns:
            return ops.copy(self.scale) * ops.exp(ops.copy(self.growth))
        if self.searched:
            return ops.copy(self.scale)
        return core.grid_scale(ops.cast(weight, "float32"), self.bits, self.reduced)

    def transform(self, weight: Any, training: bool) -> Any:
        """The weight on its grid."""
        stored = ops.cast(ops.stop_gradient(weight), "float32")
        scale = self.scale_of(stored)
        if training and self.searched:
            if self._learns:
                counting.counted(self.count, counting.calls(self.count))
            else:
                scale = self._followed(stored, scale)
        if self.key:
            tell(self.key, ops.stop_gradient(scale))
            tell(self.key + ":folded", self.folded)
        if self._learns:
            return self._with_gradient_of_scale(weight, scale)
        used = core.to_grid(stored, scale, self.bits, self.keep) * scale
        return core.straight_through(ops.cast(used, weight.dtype), weight)

    def _with_gradient_of_scale(self, weight: Any, scale: Any) -> Any:
        """Rounded; the scale gets round(w/s) − w/s inside of the grid, and its end outside."""
        end = float(core.limit(self.bits))
        members = math.prod(self.shape) / max(1, math.prod(self.scale_shape))
        scale = core.slowed(scale, 1.0 / math.sqrt(members * end))
        ratio = ops.cast(weight, "float32") / scale
        whole = core.to_grid(ops.cast(weight, "float32"), scale, self.bits, self.keep)
        whole = core.straight_through(whole, ops.clip(ratio, -end, end))
        return ops.cast(whole * scale, weight.dtype)

    def _followed(self, stored: Any, scale: Any) -> Any:
        count = counting.calls(self.count)
        step = count // self.calls_per_step
        due = counting.divides(PERIOD, step)
        if self.freeze is not None:
            due = counting.both(due, step < self.freeze)
        counting.counted(self.count, count)
        if due is False:
            return scale
        shape = self.scale.shape

        def search() -> Any:
            found = core.best_scale(stored, self.bits, self.reduced)
            return ops.broadcast_to(found, shape)

        scale = counting.choose(due, search, lambda: scale)
        self.scale.assign(scale)
        return scale

    def progress(self) -> dict[str, Any]:
        """The scale, the mean over the channels, and training steps seen, where they are kept."""
        if not self.searched:
            return {}
        scale = float(ops.convert_to_numpy(self.scale_of(None)).mean())
        steps = int(ops.convert_to_numpy(self.count)) // self.calls_per_step
        return {"scale": scale, "steps": steps}
