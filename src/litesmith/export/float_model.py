"""One float conversion of a model, from which every preset is derived."""

from __future__ import annotations

import atexit
import dataclasses
import os
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from litesmith import files
from litesmith.children import Child
from litesmith.errors import ChildError, ExportError, ModelError
from litesmith.export import codebooks, edit, flatbuffer, kernels
from litesmith.export.finite import check_finite
from litesmith.export.kernels import Kernel
from litesmith.export.own_classes import main_module, own_classes
from litesmith.export.specs import TensorSpec, specs

_FILES = (".keras", ".h5", ".hdf5", ".tflite")
# Keras keeps the shapes a subclassed model was built for, and forgets the types.
_UNTYPED = (
    "inputs of a subclassed model are taken as float32; for others (token ids) wrap it: "
    "keras.Model(x, model(x)) with x = keras.Input(..., dtype='int32')"
)


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A float `.tflite`, and what is known of where it came from.

    Attributes:
        content: the file's bytes.
        kernels: which of its tensors holds which Keras kernel.
        unmapped: paths of Keras kernels that were not found in it.
        inputs: what it takes.
        outputs: what it gives.
        notes: what the conversion had to work around.
        origin: the recipe and report of a model made by `prepare` or `strip`
            (`litesmith.recipe.Origin`), or None.
        name: the Keras model's name, or the file's.
        backend: the Keras backend the model ran on; None where it came from a file.
        trained: the ranges and grids of a model that was trained quantized (`trained.Trained`).
    """

    content: bytes = field(repr=False)
    kernels: tuple[Kernel, ...]
    unmapped: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()
    origin: Any = None
    name: str = "model"
    backend: str | None = None
    trained: Any = field(default=None, repr=False)

    @cached_property
    def view(self) -> flatbuffer.Flatbuffer:
        """Its tensors and operators, to read."""
        return flatbuffer.read(self.content)

    @cached_property
    def codebook_ranges(self) -> dict[str, dict[str, np.ndarray]]:
        """Ranges of kernels of few values that keep them few (`codebooks.ranges`)."""
        return codebooks.ranges(self.view, codebooks.shared_channels(self))

    @property
    def select_tf_ops(self) -> bool:
        """Whether it needs TensorFlow's own kernels at run time."""
        return _needs_select(self.view)


def convert(model: Any, *, allow_select_tf_ops: bool = False) -> FloatModel:
    """Convert a model to a float `.tflite`, once.

    A prepared model (`litesmith.prepare`) is stripped first. The given model is not changed.

    Args:
        model: a built Keras model on any backend, or the path of a `.keras` or `.h5` file, a
            SavedModel folder, or a float `.tflite`; or what else `models.load` takes, such as
            `path/to/file.py:function`.
        allow_select_tf_ops: fall back to TensorFlow's own kernels for operators LiteRT lacks;
            such a file needs a larger runtime.

    Returns:
        The conversion; its signature carries Keras' names, its batch is dynamic (a model with
        loops that LiteRT cannot keep open may get a batch of 1: see `notes`).

    Raises:
        ModelError: it is no model, was not built, or its file cannot be read.
        ExportError: the converter failed, or an operator is missing in LiteRT.
    """
    if os.environ.get("LITESMITH_CONVERTER"):
        raise ExportError(
            "the script exports again while it is imported to find the model's classes",
            fix="put what it runs under `if __name__ == '__main__':`",
        )
    if isinstance(model, FloatModel):
        return model
    if isinstance(model, str) and _is_named(model):
        from litesmith import models

        model = models.load(model)
    if isinstance(model, (str, os.PathLike)):
        return _from_path(Path(model), allow_select_tf_ops)
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(
            "model",
            expected="a Keras model, or the path of a .keras, .h5, .tflite or SavedModel",
            received=type(model).__name__,
        )
    return _from_keras(model, allow_select_tf_ops)


def _is_named(text: str) -> bool:
    """Whether it is a built-in model, one of keras.applications, or a function that makes one."""
    path = Path(text)
    return ":" in text and path.suffix not in _FILES and not path.exists()


def _from_path(path: Path, allow_select_tf_ops: bool) -> FloatModel:
    if not path.exists():
        raise ModelError(
            str(path),
            expected="a model file",
            received="no such file or folder",
            fix="see that the path is right",
        )
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ModelError(
                str(path),
                expected="a SavedModel folder",
                received="one without saved_model.pb",
                fix="write it with model.export('folder'), or name a model file",
            )
        try:
            content, notes = _call(
                "saved_model", path=str(path), allow_select_tf_ops=allow_select_tf_ops
            )
        except ChildError as error:
            raise ModelError(
                str(path),
                expected="a SavedModel that TensorFlow can convert",
                received=str(error),
                fix="write it again with model.export('folder')",
            ) from error
        check_finite(flatbuffer.read(content), str(path))
        return _unnamed(content, notes, path.name)
    if path.suffix == ".tflite":
        return from_tflite(files.read_model(path), name=path.stem, source=str(path))
    if path.suffix in (".keras", ".h5", ".hdf5"):
        from litesmith import models

        return convert(models.load(str(path)), allow_select_tf_ops=allow_select_tf_ops)
    raise ModelError(
        str(path),
        expected="a .keras, .h5 or .tflite file, or a SavedModel folder",
        received=f"a {path.suffix or 'nameless'} file",
        fix="write it with model.save('model.keras')",
    )


def from_tflite(content: bytes, *, name: str = "model", source: str | None = None) -> FloatModel:
    """Take a float `.tflite` as the conversion.

    Args:
        content: the file's bytes.
        name: what to call the model.
        source: what errors call it; default its name.

    Raises:
        ModelError: it is no `.tflite`, is quantized or stored sparse already, or has a weight that
            is not finite.
    """
    read = flatbuffer.read(content, source or name)
    check_finite(read, source or name)
    quantized = [
        tensor.name
        for graph in read.subgraphs
        for tensor in graph.tensors
        if tensor.scale is not None or (tensor.constant and tensor.type == "FLOAT16")
    ]
    if quantized:
        raise ModelError(
            source or name,
            expected="a float32 .tflite",
            received=f"one that is quantized already (tensor {quantized[0]!r})",
            fix="export from the Keras model, or from its float32 .tflite",
        )
    sparse = [tensor.name for tensor in read.constants() if tensor.sparse]
    if sparse:
        raise ModelError(
            source or name,
            expected="a .tflite whose weights are stored dense",
            received=f"one stored sparse (tensor {sparse[0]!r})",
            fix="export from the Keras model, or from the .tflite made without sparse",
        )
    with flatbuffer.followed(source or name):
        content = edit.distinct_names(content)  # reads more of the file than we did
    return _unnamed(content, (), name)


def _unnamed(content: bytes, notes: tuple[str, ...], name: str) -> FloatModel:
    read = flatbuffer.read(content)
    inputs, outputs = specs(read)
    found = kernels.of_file(read)
    return FloatModel(content, found, (), inputs, outputs, notes, name=name)


def _from_keras(model: Any, allow_select_tf_ops: bool) -> FloatModel:
    import keras

    from litesmith.parametrize import is_parametrized, outermost_layers
    from litesmith.recipe import origin, strip

    _check_built(model)
    if any(is_parametrized(layer) for _, layer in outermost_layers(model)):
        model = strip(model)
    source = origin(model)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from litesmith.export import converter

        converted = converter.convert_keras(model, allow_select_tf_ops=allow_select_tf_ops)
        content, notes = converted.content, converted.notes
    else:
        content, notes = _in_child(model, allow_select_tf_ops)
    if not getattr(model, "inputs", None):
        notes += (_UNTYPED,)
    content = edit.without_negations(content)
    read = flatbuffer.read(content)
    found, unmapped = kernels.of_model(model, read)
    content = codebooks.settle(content, found)
    inputs, outputs = specs(read)
    result = FloatModel(
        content, found, unmapped, inputs, outputs, notes, source, model.name, backend
    )
    if source is not None and source.grids is not None:
        from litesmith.export.trained import trained

        return dataclasses.replace(result, trained=trained(model, result, source.grids))
    return result


def _check_built(model: Any) -> None:
    if not model.built or not (getattr(model, "inputs", None) or model.weights):
        raise ModelError(
            f"model {model.name!r}",
            expected="a model that was built",
            received="one without weights yet",
            fix="call it once on a batch, or train it",
        )
    for variable in model.weights:
        if "float" in str(variable.dtype):
            import keras

            value = keras.ops.convert_to_numpy(variable.value).astype(np.float32, copy=False)
            if not np.isfinite(value).all():
                raise ModelError(
                    f"weight {variable.path}",
                    expected="finite numbers",
                    received="NaN or infinity",
                    fix="train with a smaller learning rate",
                )


def _needs_select(read: flatbuffer.Flatbuffer) -> bool:
    return any(
        operator.custom and operator.name.startswith("Flex")
        for graph in read.subgraphs
        for operator in graph.operators
    )


# --- the converter's process ----------------------------------------------------------------------

# A conversion that takes this long is taken for a hang.
_TIMEOUT = 1800.0
# After one this large, in bytes, the process holds gigabytes that only its end gives back.
_LARGE = 50_000_000

_lock = threading.Lock()
_running: Child | None = None


def _call(method: str, **fields: Any) -> tuple[bytes, tuple[str, ...]]:
    """Have the converter's process convert something: its `.tflite` and notes.

    The process is started when first needed, then kept unless it has grown; it does one thing at
    a time.
    """
    global _running
    with _lock:
        if _running is not None and not _running.alive:
            _running.close()
            _running = None
        if _running is None:
            _running = Child(
                "litesmith.export.converter_child",
                environment={"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
                timeout=_TIMEOUT,
            )
        answer, (content,) = _running.call(method, **fields)
        if content.nbytes > _LARGE:
            _running.close()
            _running = None
    return content.tobytes(), tuple(answer["notes"])


@atexit.register
def _close() -> None:
    global _running
    if _running is not None:
        _running.close()
        _running = None


def _in_child(model: Any, allow_select_tf_ops: bool) -> tuple[bytes, tuple[str, ...]]:
    from litesmith.data.functions import search_path
    from litesmith.export.interface import Interface

    classes = own_classes(model)
    with tempfile.TemporaryDirectory(prefix="litesmith-") as folder:
        path = Path(folder) / "model.keras"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.save(path, include_optimizer=False)
        except Exception as error:
            raise ExportError(
                f"model {model.name!r} cannot be saved, which exporting from "
                f"{_backend()} needs: {_line(error)}",
                fix="give its own classes a get_config",
            ) from error
        try:
            content, notes = _call(
                "keras_file",
                path=str(path),
                classes=classes,
                main=main_module(),
                search_path=search_path(),
                allow_select_tf_ops=allow_select_tf_ops,
            )
        except ChildError as error:
            raise ExportError(f"the converter's process failed: {error}") from error
    # A reloaded model may number its nameless inputs anew: ours are the names that count.
    interface = Interface.of(model)
    return edit.name_signature(content, interface.input_names, interface.output_names), notes


def _backend() -> str:
    import keras

    return keras.backend.backend()


def _line(error: BaseException) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
