"""The child process that converts for JAX and torch, and reads what users bring as SavedModels.

It runs Keras on TensorFlow (the parent sets the environment), is started once and lives as long
as its parent, so that many conversions pay TensorFlow's import once.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from litesmith.children import serve
from litesmith.data.functions import load_file
from litesmith.errors import ExportError

_mains: dict[tuple[str, str], types.ModuleType] = {}


def keras_file(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """Convert a `.keras` file the parent saved; `classes` says where its own classes live."""
    import keras

    from litesmith.export import converter

    # The parent may look in more places than when this process began.
    sys.path += [entry for entry in fields["search_path"] if entry not in sys.path]
    custom = _custom_objects(fields["classes"], fields["main"])
    try:
        # Not safe mode: the parent had this model in its hands, lambdas and all.
        model = keras.saving.load_model(
            fields["path"], custom_objects=custom, compile=False, safe_mode=False
        )
    except Exception as error:
        raise ExportError(
            f"the model cannot be rebuilt on TensorFlow: {converter.first_line(error)}"[:400],
            fix="give its own classes a get_config, in a module that can be imported",
        ) from error
    allowed = fields["allow_select_tf_ops"]
    return _answer(converter.convert_keras(model, allow_select_tf_ops=allowed))


def saved_model(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """Convert a SavedModel folder."""
    from litesmith.export import converter

    allowed = fields["allow_select_tf_ops"]
    return _answer(converter.convert_saved_model(fields["path"], allow_select_tf_ops=allowed))


def _answer(converted: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    content = np.frombuffer(converted.content, np.uint8)
    return {"notes": list(converted.notes)}, [content]


def _custom_objects(classes: list[list[Any]], main: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module_name, qualified, file in classes:
        try:
            if module_name == "__main__":
                value: Any = _main(main)
            else:
                value = _module(module_name, file)
            for part in qualified.split("."):
                value = getattr(value, part)
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(
                f"class {qualified} of module {module_name} cannot be imported in a new process "
                f"({type(error).__name__}: {error})"[:400],
                fix="put it at the top level of a module that can be imported",
            ) from error
        found[qualified.rsplit(".", 1)[-1]] = value
    return found


def _module(name: str, file: str | None) -> types.ModuleType:
    """The parent's module: by its name, or by its file where that finds none or another's."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module of its own that the user's code lacks is the user's to hear of.
        if file is None or not f"{name}.".startswith(f"{error.name}."):
            raise
    else:
        if file is None or os.path.abspath(module.__file__ or "") == file:
            return module
    return load_file(name, Path(file))


def _main(main: list[str] | None) -> types.ModuleType:
    """The parent's script, run under another name as multiprocessing's spawn does."""
    if main is None:
        raise ExportError(
            "a class of the model was typed into an interpreter or notebook",
            fix="put it in a module that can be imported",
        )
    kind, where = main
    if (kind, where) not in _mains:
        module = types.ModuleType("__mp_main__")
        run = runpy.run_module if kind == "module" else runpy.run_path
        os.environ["LITESMITH_CONVERTER"] = "1"
        module.__dict__.update(run(where, run_name="__mp_main__"))
        # What the file says was defined in `__main__` is looked up there.
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        _mains[kind, where] = module
    return _mains[kind, where]


if __name__ == "__main__":
    serve({"keras_file": keras_file, "saved_model": saved_model})
