"""litesmith makes a trained Keras 3 model small and fast, and proves what that cost.

    load → prepare → fit → strip → export → evaluate / benchmark → compare

Names are imported when they are first used, so that `import litesmith` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from litesmith import _registration
from litesmith._version import __version__

if TYPE_CHECKING:
    from litesmith.benchmarking import Benchmark, benchmark
    from litesmith.clustering import Cluster
    from litesmith.comparison import Comparison, compare
    from litesmith.distillation import Distiller
    from litesmith.errors import (
        BenchmarkError,
        ChildError,
        DataError,
        EvaluationError,
        ExportError,
        InputError,
        LitesmithError,
        LitesmithWarning,
        ModelError,
        OutputError,
        PresetError,
        RecipeError,
        StudyError,
    )
    from litesmith.evaluation import Evaluation, evaluate
    from litesmith.export import Artifact, calibrate, convert, export
    from litesmith.granularity import (
        NOfM,
        PerBlock,
        PerChannel,
        PerChannelGroup,
        PerTensor,
        Unstructured,
    )
    from litesmith.pruning import Prune
    from litesmith.quantization import Fidelity, Quantize, fidelity
    from litesmith.recipe import Recipe, origin, prepare, strip
    from litesmith.report import Report
    from litesmith.schedules import Constant, CosineDecay, PolynomialDecay
    from litesmith.summaries import Summaries
    from litesmith.technique import Technique

_HOMES = {
    "benchmarking": ("Benchmark", "benchmark"),
    "comparison": ("Comparison", "compare"),
    "distillation": ("Distiller",),
    "errors": (
        "BenchmarkError",
        "ChildError",
        "DataError",
        "EvaluationError",
        "ExportError",
        "InputError",
        "LitesmithError",
        "LitesmithWarning",
        "ModelError",
        "OutputError",
        "PresetError",
        "RecipeError",
        "StudyError",
    ),
    "evaluation": ("Evaluation", "evaluate"),
    "export": ("Artifact", "calibrate", "convert", "export"),
    "granularity": (
        "NOfM",
        "PerBlock",
        "PerChannel",
        "PerChannelGroup",
        "PerTensor",
        "Unstructured",
    ),
    "clustering": ("Cluster",),
    "pruning": ("Prune",),
    "quantization": ("Fidelity", "Quantize", "fidelity"),
    "recipe": ("Recipe", "origin", "prepare", "strip"),
    "report": ("Report",),
    "schedules": ("Constant", "CosineDecay", "PolynomialDecay"),
    "summaries": ("Summaries",),
    "technique": ("Technique",),
}
_HOME = {name: room for room, names in _HOMES.items() for name in names}
_ROOMS = {"data", "models", "study", "testing", "tfmot"}

__all__ = [
    "Artifact",
    "Benchmark",
    "BenchmarkError",
    "ChildError",
    "Cluster",
    "Comparison",
    "Constant",
    "CosineDecay",
    "DataError",
    "Distiller",
    "Evaluation",
    "EvaluationError",
    "ExportError",
    "Fidelity",
    "InputError",
    "LitesmithError",
    "LitesmithWarning",
    "ModelError",
    "NOfM",
    "OutputError",
    "PerBlock",
    "PerChannel",
    "PerChannelGroup",
    "PerTensor",
    "PolynomialDecay",
    "PresetError",
    "Prune",
    "Quantize",
    "Recipe",
    "RecipeError",
    "Report",
    "StudyError",
    "Summaries",
    "Technique",
    "Unstructured",
    "__version__",
    "benchmark",
    "calibrate",
    "compare",
    "convert",
    "evaluate",
    "export",
    "fidelity",
    "origin",
    "prepare",
    "strip",
]


def __getattr__(name: str) -> Any:
    if name == "export":  # a room and a verb in one, see there
        return importlib.import_module("litesmith.export")
    if name in _HOME:
        value = getattr(importlib.import_module(f"litesmith.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"litesmith.{name}")
    raise AttributeError(f"module 'litesmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])


_registration.register()
