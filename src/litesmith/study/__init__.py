"""Many variants of one model, resumable, ending in one report.

from litesmith.study import Study, run

result = run("study.toml", "out")          # or Study.from_dict({...})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litesmith.study import presets
from litesmith.study.file import DataSection, ModelSection, Study, Variant
from litesmith.study.progress import Event, Progress
from litesmith.study.settings import Training

if TYPE_CHECKING:
    from litesmith.study.engine import run

__all__ = [
    "DataSection",
    "Event",
    "ModelSection",
    "Progress",
    "Study",
    "Training",
    "Variant",
    "presets",
    "run",
]


def __getattr__(name: str) -> Any:
    # The engine needs Keras: it is imported when it is first used, not for reading a study file.
    if name == "run":
        from litesmith.study.engine import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
