"""Figures of single weights for TensorBoard, at steps of the caller's choosing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from litesmith.errors import InputError
from litesmith.parametrize import is_parametrized, outermost_layers, used_weights
from litesmith.summaries import progress


class Figures:
    """Writes figures and histograms of the weights of a prepared model.

    Args:
        what: the public class, for errors.
        log_dir: folder of the event files.
        inside: a folder in it, or "".

    Raises:
        InputError: TensorBoard is not installed, or `log_dir` is no name.
    """

    def __init__(self, what: str, log_dir: Any, inside: str = ""):
        if not isinstance(log_dir, (str, os.PathLike)) or not os.fspath(log_dir):
            raise InputError(f"{what}: log_dir", expected="the name of a folder", received=log_dir)
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise InputError(
                what,
                expected="TensorBoard, which writes the event files",
                received=str(error),
                fix='pip install "litesmith[tensorboard]"',
            ) from error
        self._make: Any = Writer
        self._folder = Path(log_dir) / inside
        self._writer: Any = None
        self._events: Any = None

    @property
    def writer(self) -> Any:
        """The open file."""
        if self._writer is None:
            self._writer = self._make(str(self._folder))
        return self._writer

    def write(self, model: keras.Model, names: tuple[str, ...], step: int) -> None:
        """One point a figure.

        Args:
            model: the model.
            names: of the figures (`Parametrization.progress`) to write.
            step: where.
        """
        for name, value in progress(model).items():
            if name.rpartition("/")[2] in names:
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def histograms(self, model: keras.Model, prefix: str, step: int) -> None:
        """The weights in use, one histogram each, 64 bins from the smallest to the largest."""
        for path, layer in outermost_layers(model):
            if not is_parametrized(layer):
                continue
            for variable, used in used_weights(layer):
                values = keras.ops.convert_to_numpy(used).astype(np.float64).ravel()
                self._histogram(f"{prefix}{path}/{variable.name}", values, step)

    def _histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.histogram import metadata
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        from tensorboard.util.tensor_util import make_tensor_proto

        if self._events is None:
            self._events = EventFileWriter(str(self._folder), filename_suffix=".histograms")
        counts, edges = np.histogram(values, bins=64)
        bins = np.stack([edges[:-1], edges[1:], counts.astype(np.float64)], axis=1)
        value = Summary.Value(
            tag=tag,
            tensor=make_tensor_proto(bins, dtype=np.float64),
            metadata=metadata.create_summary_metadata(display_name=tag, description=""),
        )
        event = Event(step=step, wall_time=time.time(), summary=Summary(value=[value]))
        self._events.add_event(event)
        self._events.flush()

    def close(self) -> None:
        """Closes the files."""
        for each in (self._writer, self._events):
            if each is not None:
                each.close()
        self._writer = self._events = None
