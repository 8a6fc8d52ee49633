"""Export: a Keras model → one float `.tflite` → every quantized variant, and their manifests.

    litesmith.export(
        model, path, *, quantize="float32", calibration=None, calibration_samples=200,
        io_dtype="int8", sparse=False, strict=False, allow_select_tf_ops=False,
    )

writes one; `help(litesmith.export.export)` tells of each argument.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from litesmith.export.presets import PRESETS, Rule, Rules

if TYPE_CHECKING:
    from litesmith.export.calibration import Calibration, calibrate
    from litesmith.export.exporting import Artifact, export
    from litesmith.export.float_model import FloatModel, convert
    from litesmith.export.kernels import Kernel
    from litesmith.export.manifest import Manifest

# Imported when first used: the command line's --help needs only the presets' names.
_HOMES = {
    "Artifact": "exporting",
    "Calibration": "calibration",
    "FloatModel": "float_model",
    "Kernel": "kernels",
    "Manifest": "manifest",
    "calibrate": "calibration",
    "convert": "float_model",
    "export": "exporting",
}

__all__ = [
    "PRESETS",
    "Artifact",
    "Calibration",
    "FloatModel",
    "Kernel",
    "Manifest",
    "Rule",
    "Rules",
    "calibrate",
    "convert",
    "export",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _CallableModule(types.ModuleType):
    """`litesmith.export` is both this room and the verb: `ls.export(model, path)` works too.

    Python sets a package's attribute to the submodule as soon as anything imports it, so a
    function of the same name would be hidden.
    """

    def __call__(self, *args: Any, **options: Any) -> Artifact:
        from litesmith.export.exporting import export

        return export(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
