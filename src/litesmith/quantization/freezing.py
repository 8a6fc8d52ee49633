"""BatchNorms that stay as they are from some training step on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from litesmith.parametrize import (
    Place,
    Tap,
    Use,
    counting,
    inner_layers,
    norm_factors,
    outermost_layers,
)


@keras.saving.register_keras_serializable("litesmith")
class NormFreeze(Tap):
    """From a training step on, a BatchNorm computes as in inference and its statistics stay.

    What is folded into a kernel then stands still, and the last steps train what will be exported
    (Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018). γ and
    β go on being trained.

    Args:
        freeze: the step.
    """

    fields = ("freeze",)

    def __init__(self, *, freeze: int, **options: Any):
        super().__init__(**options)
        self.freeze = freeze

    def create_state(self) -> None:
        """The count of training calls."""
        self.count = self.state("count", (), "zeros", "int32")

    def begin(self, layer: keras.layers.Layer, training: bool) -> _NormUse:
        """Read count and statistics."""
        return _NormUse(self, layer, training and layer.trainable)

    def progress(self) -> dict[str, Any]:
        """Training steps seen."""
        return {"steps": int(ops.convert_to_numpy(self.count)) // self.calls_per_step}


class _NormUse(Use):
    """One call of a BatchNorm that a `NormFreeze` is at."""

    def __init__(self, tap: NormFreeze, layer: Any, training: bool):
        self.tap, self.layer, self.training, self.changes = tap, layer, training, False
        self.before: list[tuple[keras.Variable, Any]] = []
        if training:
            self.count = counting.calls(tap.count)
            self.frozen = self.count // tap.calls_per_step >= tap.freeze
            self.changes = self.frozen is not False
            if self.changes:
                self.factors = norm_factors(layer)
                self.before = [(each, ops.copy(each)) for each in _statistics(layer)]

    def run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The layer's own call before the step, x · factor + shift from it on."""
        outputs = original(*args, **kwargs)
        if not self.changes:
            return outputs
        inputs = args[0] if args else kwargs["inputs"]
        form = [1] * len(inputs.shape)
        form[self.layer.axis] = -1
        factor, shift = (ops.reshape(each, form) for each in self.factors)
        still = ops.cast(ops.cast(inputs, "float32") * factor + shift, outputs.dtype)
        return counting.select(self.frozen, still, outputs)

    def finish(self) -> None:
        """Take back what the call did to the statistics, and count it."""
        for variable, value in self.before:
            variable.assign(counting.select(self.frozen, value, ops.copy(variable)))
        if self.training:
            counting.counted(self.tap.count, self.count)


def _statistics(layer: Any) -> list[keras.Variable]:
    return [layer.moving_mean, layer.moving_variance]


def frozen_norms(model: keras.Model, freeze: int) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """A tap for each BatchNorm of a model.

    Args:
        model: a plain copy of the model.
        freeze: training step from which on they stay.

    Yields:
        Number of the outermost layer, site and tap.
    """
    for outer_number, (path, outer) in enumerate(outermost_layers(model)):
        for inner_number, (_, layer) in enumerate(inner_layers(outer, path)):
            if isinstance(layer, keras.layers.BatchNormalization):
                place = Place(outer_number, inner_number, "whole")
                name = f"freeze_{outer_number}_{inner_number}"
                yield outer_number, place.site, NormFreeze(name=name, shape=(), freeze=freeze)
