"""Loading a model file somebody brought: `.keras`, or the older `.h5`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import keras

from litesmith.children import Child
from litesmith.errors import ChildError, ModelError
from litesmith.models.room import check_room

_ZIP, _HDF5 = b"PK", b"\x89HDF\r\n\x1a\n"
# A damaged file can keep HDF5 busy for ever: seconds to wait, and bytes it may read in each.
_SECONDS, _BYTES_A_SECOND = 60.0, 5e6


def load_file(path: Path) -> keras.Model:
    """Load a Keras model file, without running code that is in it.

    The file is read whole by a child process before Keras opens it. The model comes uncompiled:
    loss and optimizer are the study's, and a custom loss would only stand in the way.

    Args:
        path: a `.keras` file, or `.h5`/`.hdf5` of Keras 3 or Keras 2.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, a `Lambda` layer, a custom
            layer that is not registered.
    """
    _check_kind(path)
    text, stored = _look(path)
    config = json.loads(text)
    _refuse_lambda(path, config)
    if "litesmith>" in json.dumps(config):
        import litesmith.pruning  # noqa: F401  registers the classes of a prepared model
    own = _legacy_layers() if path.suffix != ".keras" else None
    check_room(path, text, stored, own)
    try:
        return keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=True)
    except Exception as error:
        raise _explained(path, error) from error


def _check_kind(path: Path) -> None:
    """Name what the path is when it is not a Keras model file."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            raise ModelError(
                str(path),
                expected="a .keras or .h5 file",
                received="a SavedModel folder, which holds no Keras layers",
                fix="export, evaluate and benchmark take a SavedModel; for the rest save the "
                "Keras model as .keras",
            )
        raise ModelError(
            str(path),
            expected="a .keras or .h5 file",
            received="a folder",
            fix="name the file in it",
        )
    if not path.is_file():
        raise ModelError(
            str(path),
            expected="a model file",
            received="no such file",
            fix="see that the path is right",
        )
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ModelError(
            str(path),
            expected="a file that can be read",
            received=(error.strerror or str(error)).lower(),
            fix="see who may read it",
        ) from error
    if not start:
        raise ModelError(
            str(path),
            expected="a model",
            received="an empty file",
            fix="write it again with model.save('model.keras')",
        )
    if start[4:8] == b"TFL3":
        raise ModelError(
            str(path),
            expected="a .keras or .h5 file",
            received="a finished .tflite",
            fix="inspect, evaluate, benchmark and compare take a .tflite",
        )
    suffix = path.suffix.lower()
    if suffix == ".keras":
        if start == _HDF5:
            raise ModelError(
                str(path),
                expected="a zip file, as the ending .keras says",
                received="an HDF5 file",
                fix="rename it to .h5",
            )
        if not start.startswith(_ZIP):
            raise ModelError(
                str(path),
                expected="a .keras file",
                received="something else",
                fix="write it with model.save('model.keras')",
            )
    elif suffix in (".h5", ".hdf5"):
        if start.startswith(_ZIP):
            raise ModelError(
                str(path),
                expected="an HDF5 file, as its ending says",
                received="a zip file",
                fix="rename it to .keras",
            )
        if start != _HDF5:
            raise ModelError(
                str(path),
                expected="an HDF5 file",
                received="something else",
                fix="write it with model.save('model.keras')",
            )
    else:
        raise ModelError(
            str(path),
            expected="a .keras or .h5 file",
            received=f"a file ending in {suffix!r}",
            fix="write it with model.save('model.keras')",
        )


def _look(path: Path) -> tuple[str, int]:
    """The model's configuration, JSON, and how many numbers the file's arrays hold."""
    seconds = _SECONDS + path.stat().st_size / _BYTES_A_SECOND
    try:
        with Child("litesmith.models.inspection_child", timeout=seconds) as child:
            answer, _ = child.call("look", path=str(path))
    except ChildError as error:
        raise ModelError(
            str(path),
            expected="a whole model file",
            received=f"a damaged one: reading it ended the process that tried ({error})",
            fix="save or copy it again",
        ) from error
    if answer["config"] is None:
        raise ModelError(
            str(path),
            expected="a whole model",
            received="weights only",
            fix="save it with model.save('model.keras')",
        )
    return answer["config"], answer["numbers"]


def _refuse_lambda(path: Path, config: Any) -> None:
    name = _find_lambda(config)
    if name is not None:
        raise ModelError(
            str(path),
            expected="layers without code of their own",
            received=f"layer {name!r}, a Lambda: Python code inside a model file is not run",
            fix="replace it by a registered layer or keras.ops, or load the model in Python and "
            "pass the object (module:function on the command line)",
        )


def _find_lambda(config: Any) -> str | None:
    pending = [config]
    while pending:  # no recursion: a file can nest deeper than Python does
        node = pending.pop()
        if isinstance(node, dict):
            if node.get("class_name") == "Lambda":
                inner = node.get("config")
                return str((inner.get("name") if isinstance(inner, dict) else None) or "lambda")
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return None


def _legacy_layers() -> dict[str, Any]:
    """Stand-ins for layers to which Keras 2 gave an argument `groups` that Keras 3 refuses.

    The stand-in makes the plain Keras layer, so that the model has nothing of ours in it.
    """
    names = (
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "SeparableConv1D",
        "SeparableConv2D",
        "Conv1DTranspose",
        "Conv2DTranspose",
        "Conv3DTranspose",
    )
    return {name: _without_groups(getattr(keras.layers, name)) for name in names}


def _without_groups(layer_class: type[keras.Layer]) -> type[keras.Layer]:
    def from_config(config: dict[str, Any]) -> keras.Layer:
        if config.get("groups", 1) == 1:
            config = {key: value for key, value in config.items() if key != "groups"}
        return layer_class.from_config(config)

    return type(layer_class.__name__, (layer_class,), {"from_config": staticmethod(from_config)})


def _explained(path: Path, error: Exception) -> ModelError:
    """Keras' many-paragraph messages in one line, with the ones that are common in our words."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    unknown = re.search(r"(?:Could not locate class|Unknown \w+:) '?([\w>]+)'?", text)
    if unknown:
        return ModelError(
            str(path),
            expected="layers of Keras, or registered ones",
            received=f"a custom class {unknown[1]!r} that is not registered",
            fix="register it with keras.saving.register_keras_serializable and load it by a "
            "module:function",
        )
    inner = next((line for line in lines if line.startswith("Exception encountered")), None)
    shown = inner.partition(":")[2].strip() if inner else (lines or [type(error).__name__])[0]
    return ModelError(
        str(path),
        expected=f"a model that Keras {keras.__version__} can load",
        received=shown[:240].rstrip(" .:;"),
        fix="load it with the Keras it was saved with, and save it again",
    )
