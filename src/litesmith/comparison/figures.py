"""How figures are read and written: which way a metric is better, points, kB, ms."""

from __future__ import annotations

import dataclasses
import math
import re

_LOWER = re.compile(
    r"(^|_)(loss|error|mse|mae|rmse|msle|mape|mspe|perplexity|crossentropy|cross_entropy|logloss|"
    r"nll|hinge|poisson|divergence|kl|kld|wer|cer|eer|deviation|false_positives|false_negatives)"
    r"($|_)"
)
_PERCENT = re.compile(r"(^|_)(accuracy|acc|precision|recall|agreement|iou|io_u)($|_)|^top_?k?_?\d*")


@dataclasses.dataclass(frozen=True)
class Metric:
    """What is known of a metric by its name.

    Attributes:
        name: as Keras calls it, such as `"accuracy"` or `"mean_squared_error"`.
    """

    name: str

    @property
    def lower_is_better(self) -> bool:
        """True of losses and errors; anything unknown counts as better when higher."""
        return bool(_LOWER.search(_snake(self.name)))

    @property
    def percent(self) -> bool:
        """Whether it is a share that is written in percent, its differences in points."""
        return bool(_PERCENT.search(_snake(self.name))) and not self.lower_is_better

    @property
    def title(self) -> str:
        """Its name in plain words."""
        return self.name.replace("_", " ")

    def lost(self, value: float, baseline: float) -> float:
        """How much worse than the baseline; negative where it is better."""
        return value - baseline if self.lower_is_better else baseline - value

    def text(self, value: float | None) -> str:
        """A value: `98.61 %`, or four significant digits."""
        if missing(value):
            return "–"
        assert value is not None
        return f"{value:.2%}".replace("%", " %") if self.percent else significant(value, 4)

    def distance(self, difference: float) -> str:
        """The size of a difference, in words: `0.28 points of accuracy`, `0.012 loss`."""
        size = abs(difference)
        if self.percent:
            points = f"{size * 100:.2f}".removesuffix(".00")
            return f"{points} point{'' if points == '1' else 's'} of {self.title}"
        return f"{significant(size, 3)} in {self.title}"

    def change(self, value: float | None, baseline: float | None) -> str:
        """A signed difference to the baseline for a table: `−0.28`, `+0.0120`, `0`."""
        if missing(value) or missing(baseline):
            return "–"
        assert value is not None and baseline is not None
        difference = (value - baseline) * (100 if self.percent else 1)
        text = f"{abs(difference):.2f}" if self.percent else significant(abs(difference), 3)
        if not text.strip("0.,"):
            return "0"
        return ("−" if difference < 0 else "+") + text

    def same(self, value: float, baseline: float) -> bool:
        """Whether two values look alike as they are written."""
        if self.percent:
            return abs(value - baseline) < 0.5e-4
        return math.isclose(value, baseline, rel_tol=0.5e-3, abs_tol=1e-12)


def missing(value: float | None) -> bool:
    """Whether there is nothing to show: not measured, or NaN."""
    return value is None or not math.isfinite(value)


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never in scientific notation: `0.0214`, `12.3`."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")  # 0.9996 is 1.00 in three digits, not 1.000
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{min(decimals, 9)}f}"


def size(count: float | None) -> str:
    """Bytes as kB or MB of 1,000: `8.42 kB`."""
    if missing(count):
        return "–"
    assert count is not None
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * scale:
            return f"{significant(count / scale, 3)} {unit}"
    return f"{count:.0f} B"


def milliseconds(value: float | None) -> str:
    """Milliseconds with three significant digits: `0.0214 ms`."""
    return "–" if missing(value) else f"{significant(value or 0.0, 3)} ms"


def share(value: float | None) -> str:
    """A share 0…1 as percent with one decimal; never `100 %` or `0 %` unless it is exact."""
    if missing(value):
        return "–"
    assert value is not None
    if value in (0, 1):
        return f"{value:.0%}".replace("%", " %")
    return f"{min(max(value, 0.001), 0.999) * 100:.1f} %"


def times(factor: float | None) -> str:
    """A factor: `0.97×`, `1.72×`, `3.6×`, `24×`."""
    if missing(factor):
        return "–"
    assert factor is not None
    if factor < 1.995:
        return f"{factor:.2f}×"
    return f"{factor:.1f}×" if factor < 19.95 else f"{factor:,.0f}×"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace(" ", "_").replace("-", "_")
