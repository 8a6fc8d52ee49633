"""What a model has of its user's own, which the converter's process has to import."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

from litesmith.errors import ExportError


def own_classes(model: Any) -> list[list[str | None]]:
    """Module, name and file of each class or function in the model that is not Keras' own.

    Raises:
        ExportError: one that no other process can import.
    """
    from litesmith.export.layers import sublayers

    found: dict[tuple[str, str], None] = {}
    for layer in sublayers(model):
        for part in (type(layer), *_own_parts(layer)):
            module, name = part.__module__, part.__qualname__
            if module.split(".")[0] == "keras" or name.endswith("<lambda>"):
                continue
            interactive = module == "__main__" and main_module() is None
            if "<locals>" in name or interactive:
                raise ExportError(
                    f"{name} cannot be imported by the converter's process",
                    fix="move it to the top level of a module that can be imported",
                )
            found[module, name] = None
    return [[module, name, _file_of(module)] for module, name in found]


def _file_of(module: str) -> str | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return os.path.abspath(file) if file else None


def _own_parts(layer: Any) -> list[Any]:
    """Functions a layer was given, and classes of initializers, regularizers and constraints."""
    import keras

    kinds = (keras.Initializer, keras.Regularizer, keras.constraints.Constraint)
    values = list(vars(layer).values())
    parts: list[Any] = [type(value) for value in values if isinstance(value, kinds)]
    return parts + [value for value in values if isinstance(value, types.FunctionType)]


def main_module() -> list[str] | None:
    """How another process imports the script that runs: `["module", name]` or `["path", file]`."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name:
        return ["module", name]
    file = getattr(main, "__file__", None)
    return ["path", os.path.abspath(file)] if file and os.path.isfile(file) else None
