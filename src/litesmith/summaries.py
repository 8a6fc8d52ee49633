"""Progress of the techniques in TensorBoard: sparsity, clusters in use, ranges, what one tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras

from litesmith.errors import InputError, ModelError
from litesmith.parametrize import holder_of, inner_layers, is_parametrized, outermost_layers

# What a tap's site is called where people read it.
_SITES = {"in": "input", "out": "output", "pre": "before_activation", "mid": "between"}


def progress(model: keras.Model) -> dict[str, float]:
    """What training has come to so far, weight by weight.

    Args:
        model: a prepared model.

    Returns:
        Figures by `LAYER/WEIGHT/FIGURE`: `conv2d/kernel/sparsity` (0…1),
        `conv2d/kernel/clusters_used`, `conv2d/kernel/scale` (the mean over the channels, of weights
        of fewer than eight bits); and by `LAYER/SITE/FIGURE` the range of each activation that has
        one of its own, in real numbers: `re_lu/output/range_low`, `re_lu/output/range_high`. Empty
        for a model that was not prepared.
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
        if holder_of(layer).has_taps:
            figures.update(_ranges(path, layer))
    return figures


def _ranges(path: str, layer: keras.layers.Layer) -> dict[str, float]:
    """The ends of each range that follows what comes by at a layer."""
    figures = {}
    inner = [name for name, _ in inner_layers(layer, path)]
    for site, tap in holder_of(layer).taps():
        ends = tap.progress().get("range")
        if ends is None:
            continue
        word = _SITES.get(site["kind"], site["kind"])
        number = f"_{site['index']}" if site["index"] else ""
        call = f"/call_{site['call']}" if site["call"] else ""
        place = f"{inner[site['inner']]}/{word}{number}{call}"
        figures[f"{place}/range_low"], figures[f"{place}/range_high"] = map(float, ends)
    return figures


def check_tensorboard() -> Any:
    """The class that writes event files.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise InputError(
            "Summaries",
            expected="TensorBoard, which writes the event files",
            received=str(error),
            fix='pip install "litesmith[tensorboard]"',
        ) from error
    return Writer


class Summaries(keras.callbacks.Callback):
    """Writes the techniques' progress for TensorBoard, once an epoch.

    It is for looking only: techniques follow training without it.

        prepared.fit(train, epochs=3, callbacks=[ls.Summaries("logs")])

    Args:
        log_dir: folder of the event files; it may be the one `keras.callbacks.TensorBoard` has.
        metrics: whether the loss and the metrics of each epoch are written as well, as
            `epoch/NAME`.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str], *, metrics: bool = False):
        super().__init__()
        self.log_dir, self.metrics = Path(log_dir), metrics
        self._make = check_tensorboard()
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
        for name, value in (logs or {}).items() if self.metrics else ():
            self._writer.add_scalar(f"epoch/{name}", float(value), epoch)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        self._writer.close()
