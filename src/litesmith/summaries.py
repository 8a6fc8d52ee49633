"""Progress of the techniques in TensorBoard: sparsity, clusters in use, whatever one tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras

from litesmith.errors import InputError, ModelError
from litesmith.parametrize import holder_of, is_parametrized, outermost_layers


def progress(model: keras.Model) -> dict[str, float]:
    """What training has come to so far, weight by weight.

    Args:
        model: a prepared model.

    Returns:
        Figures by `LAYER/WEIGHT/FIGURE`: `conv2d/kernel/sparsity` (0…1),
        `conv2d/kernel/clusters_used`; empty for a model that was not prepared.
    """
    figures: dict[str, float] = {}
    for path, layer in outermost_layers(model):
        if not is_parametrized(layer):
            continue
        for target, chain in holder_of(layer).chains():
            for link in chain:
                for name, value in link.progress().items():
                    if name != "steps" and isinstance(value, (int, float)):
                        figures[f"{path}/{target['suffix']}/{name}"] = float(value)
    return figures


class Summaries(keras.callbacks.Callback):
    """Writes the techniques' progress for TensorBoard, once an epoch.

    It is for looking only: techniques follow training without it.

        prepared.fit(train, epochs=3, callbacks=[ls.Summaries("logs")])

    Args:
        log_dir: folder of the event files; it may be the one `keras.callbacks.TensorBoard` has.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str]):
        super().__init__()
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise InputError(
                "Summaries",
                expected="TensorBoard, which writes the event files",
                received=str(error),
                fix='pip install "litesmith[tensorboard]"',
            ) from error
        self.log_dir = Path(log_dir)
        self._make: Any = Writer
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the file.

        Raises:
            ModelError: the model was not prepared.
        """
        if not any(is_parametrized(layer) for _, layer in outermost_layers(self.model)):
            raise ModelError(
                f"Summaries: model {self.model.name!r}",
                expected="a model that was prepared",
                received="one without a parametrized layer",
                fix="call prepare(model, recipe) first",
            )
        self._writer = self._make(str(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """One point a figure; steps are epochs, counted from 0 as Keras does."""
        for name, value in progress(self.model).items():
            self._writer.add_scalar(f"litesmith/{name}", value, epoch)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        self._writer.close()
