"""Tables, charts and reports of what variants came to."""

from __future__ import annotations

from litesmith.comparison.comparison import Comparison as Comparison
from litesmith.comparison.comparison import Missed as Missed
from litesmith.comparison.comparison import compare as compare
from litesmith.comparison.results import StudyResult as StudyResult
from litesmith.comparison.results import VariantResult as VariantResult

__all__ = ["Comparison", "Missed", "StudyResult", "VariantResult", "compare"]
