"""`UpdatePruningStep` and `PruningSummaries`."""

from __future__ import annotations

from typing import Any

import keras

from litesmith.parametrize import mark_subclassed
from litesmith.tfmot.summaries import Figures


class UpdatePruningStep(keras.callbacks.Callback):
    """Accepted, and not needed: a pruned layer counts its training steps itself.

    Only a subclassed model on JAX, where Keras does not tell its layers that they train, wants it.
    """

    def set_model(self, model: keras.Model) -> None:
        """Have a subclassed model tell its layers."""
        super().set_model(model)
        mark_subclassed(model)

    def on_epoch_end(self, batch: Any, logs: dict[str, Any] | None = None) -> None:
        """Nothing; loops written by hand call it by this name of its argument, as tfmot has it."""


class PruningSummaries(keras.callbacks.TensorBoard):
    """`keras.callbacks.TensorBoard`, and the sparsity of each pruned weight.

    Tags are `LAYER/WEIGHT/sparsity`, 0…1, in the folder `metrics` of `log_dir`; steps are the
    optimizer's, and each epoch has a point at its beginning, as in tfmot, the last one more.

    Args:
        log_dir: folder of the event files.
        update_freq: of the losses and metrics, see `keras.callbacks.TensorBoard`.
        **kwargs: further arguments of that.

    Raises:
        InputError: TensorBoard is not installed, or `log_dir` is no name.
    """

    def __init__(self, log_dir: str, update_freq: str | int = "epoch", **kwargs: Any):
        self._figures = Figures("PruningSummaries", log_dir, "metrics")
        super().__init__(log_dir=log_dir, update_freq=update_freq, **kwargs)

    def _write(self) -> None:
        self._figures.write(self.model, ("sparsity",), int(self.model.optimizer.iterations))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """A point for each pruned weight."""
        super().on_epoch_begin(epoch, logs)
        self._write()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """A last point, and the file is closed."""
        super().on_train_end(logs)
        self._write()
        self._figures.close()
