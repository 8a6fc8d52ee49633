"""One way to run a model, whatever it is: a Keras model or a `.tflite`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from litesmith.errors import ModelError
from litesmith.evaluation.specs import TensorSpec


@runtime_checkable
class Runner(Protocol):
    """What runs a model on batches of numpy arrays; a context manager.

    Attributes:
        name: what the model is called.
        source: where it came from, for errors and reports.
        inputs: what it takes, in order; empty where the model does not tell.
        outputs: what it gives, in order.
        batch_size: samples a batch that suit it.
    """

    name: str
    source: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_size: int

    def predict(self, inputs: Any) -> list[np.ndarray]:
        """All outputs for one batch (array, dict by name, or list), as real numbers."""
        ...

    def close(self) -> None:
        """Free what it holds; it may be called twice."""
        ...

    def __enter__(self) -> Runner: ...

    def __exit__(self, *exception: object) -> None: ...


def runner(model: Any, *, num_threads: int | None = None) -> Runner:
    """Open a model for prediction.

    Args:
        model: a `keras.Model`; the path of a `.keras`, `.h5` or `.tflite` file or of a SavedModel
            folder (converted to a float `.tflite` first); an `Artifact` or a `FloatModel` of
            `litesmith.export`; or a `Runner`, which is returned as it is.
        num_threads: processor cores a `.tflite` may use; default all. Keras uses its backend's.

    Returns:
        A runner, to be used as a context manager.

    Raises:
        ModelError: there is no such file, it cannot be read, or it is no model at all.
    """
    if isinstance(model, Runner):
        return model
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.Model):
        return _keras_runner(model)
    content = getattr(model, "content", None)
    if isinstance(content, bytes):  # a FloatModel
        from litesmith.evaluation.litert_runner import LitertRunner

        return LitertRunner(content, num_threads=num_threads)
    if isinstance(model, (str, os.PathLike)):
        return _open(model, num_threads)
    raise ModelError(
        "model",
        expected="a Keras model, a path, an Artifact or a Runner",
        received=type(model).__name__,
    )


def _open(source: str | os.PathLike[str], num_threads: int | None) -> Runner:
    path = Path(source)
    if path.suffix == ".tflite":
        from litesmith.evaluation.litert_runner import LitertRunner

        return LitertRunner(path, num_threads=num_threads)
    if path.is_dir():
        from litesmith.evaluation.litert_runner import LitertRunner
        from litesmith.export import convert

        content = convert(path).content
        return LitertRunner(content, num_threads=num_threads, name=path.name)
    from litesmith.models import load

    model = load(os.fspath(source))
    return _keras_runner(model, source=os.fspath(source), name=path.stem)


def _keras_runner(model: Any, **options: str) -> Runner:
    from litesmith.evaluation.keras_runner import KerasRunner

    return KerasRunner(model, **options)
