"""The verdict: what the table says, in sentences for somebody who reads nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from litesmith.comparison import figures
from litesmith.comparison.figures import missing
from litesmith.comparison.pareto import Axis, file_size, latency, zip_size
from litesmith.comparison.results import VariantResult

if TYPE_CHECKING:
    from litesmith.comparison.comparison import Comparison

CLEARLY = 1.05  # a smaller difference of medians is what two runs of one file differ by
TOLERABLE = 0.01  # one point: what "within a point" means where no max_drop says otherwise


@dataclasses.dataclass(frozen=True)
class Finding:
    """One sentence of the verdict.

    Attributes:
        kind: `smallest`, `within`, `fastest`, `most accurate`, `lossless`, `resolution`, `missed`,
            `failed` or `single`.
        label: its heading.
        variant: the variant it is about, if it is about one.
        headline: the figure to show large, or "".
        text: the sentence.
    """

    kind: str
    label: str
    variant: str | None
    headline: str
    text: str


def find(comparison: Comparison) -> list[Finding]:
    """The sentences, most important first.

    Args:
        comparison: what was compared; anything may be missing in it.
    """
    found: list[Finding | None] = []
    others = [one for one in comparison.done if one.name != comparison.baseline.name]
    if others:
        found += [
            _smallest(comparison, others),
            _smallest_zipped(comparison, others),
            _within(comparison, others),
            _fastest(comparison),
            _most_accurate(comparison),
            _lossless(comparison, others),
            _resolution(comparison),
        ]
    elif comparison.done:
        found.append(_single(comparison))
    found += [
        Finding("missed", "Threshold missed", one.variant, "", f"Threshold missed: {one}.")
        for one in comparison.missed
    ]
    found.append(_failed(comparison))
    return [finding for finding in found if finding is not None]


def _smallest(comparison: Comparison, others: Sequence[VariantResult]) -> Finding | None:
    variant = _lowest(others, file_size, zip_size)
    if variant is None or variant.size is None:
        return None
    base = comparison.baseline.size
    text = f"Smallest: {variant.name} takes {figures.size(variant.size.file)}"
    headline = figures.size(variant.size.file)
    if base is not None:
        if variant.size.file >= base.file and variant.size.zip >= base.zip:
            return Finding(
                "smallest",
                "Smallest",
                comparison.baseline.name,
                figures.size(base.file),
                f"Smallest: nothing is smaller than the baseline ({figures.size(base.file)}).",
            )
        headline = _ratio(base.file, variant.size.file, "smaller", "larger")
        zipped = _ratio(base.zip, variant.size.zip, "smaller", "larger")
        text += (
            f", {headline} than the baseline's {figures.size(base.file)}; zipped "
            f"{figures.size(variant.size.zip)}, {zipped}"
        )
    else:
        text += f"; zipped {figures.size(variant.size.zip)}"
    return Finding(
        "smallest", "Smallest", variant.name, headline, text + _cost(comparison, variant)
    )


def _smallest_zipped(comparison: Comparison, others: Sequence[VariantResult]) -> Finding | None:
    """Apart from the smallest file only where another one is the smallest download."""
    variant, smallest = _lowest(others, zip_size, file_size), _lowest(others, file_size, zip_size)
    if variant is None or smallest is None or variant.name == smallest.name:
        return None
    assert variant.size is not None
    base = comparison.baseline.size
    headline = figures.size(variant.size.zip)
    text = f"Smallest download: {variant.name} is {headline} zipped"
    if base is not None:
        headline = _ratio(base.zip, variant.size.zip, "smaller", "larger")
        text += f", {headline} than the baseline's {figures.size(base.zip)}"
    return Finding(
        "smallest", "Smallest zipped", variant.name, headline, text + _cost(comparison, variant)
    )


def _within(comparison: Comparison, others: Sequence[VariantResult]) -> Finding | None:
    """The smallest that is still good, where the smallest of all is not.

    Left out where the same variant loses nothing at all, which another sentence says.
    """
    metric, base = comparison.metric, comparison.baseline
    if metric is None or missing(base.metrics.get(metric.name)):
        return None
    allowed = comparison.max_drop.get(metric.name, TOLERABLE if metric.percent else None)
    smallest = _lowest(others, zip_size, file_size)
    if allowed is None or smallest is None or _loses_at_most(comparison, smallest, allowed):
        return None
    good = [one for one in others if _loses_at_most(comparison, one, allowed)]
    variant = _lowest(good, zip_size, file_size)
    limit = metric.distance(allowed)
    if variant is not None and _loses_at_most(comparison, variant, 0.0):
        return None
    if variant is None or variant.size is None or base.size is None:
        return Finding("within", "Within the limit", None, "", f"No variant stays within {limit}.")
    headline = _ratio(base.size.zip, variant.size.zip, "smaller", "larger")
    return Finding(
        "within",
        f"Smallest within {limit.split(' of ')[0]}",
        variant.name,
        headline,
        f"Smallest within {limit}: {variant.name}, {figures.size(variant.size.zip)} zipped, "
        f"{headline} than the baseline{_cost(comparison, variant)}",
    )


def _fastest(comparison: Comparison) -> Finding | None:
    variant, base = _lowest(comparison.done, latency), latency(comparison.baseline)
    if variant is None:
        return None
    own = latency(variant)
    assert own is not None
    if base is None:
        if variant.name == comparison.baseline.name:
            return None
        text = f"Fastest: {variant.name} takes {figures.milliseconds(own)}"
        return Finding(
            "fastest",
            "Fastest",
            variant.name,
            figures.milliseconds(own),
            text + _cost(comparison, variant),
        )
    if variant.name == comparison.baseline.name:
        return Finding(
            "fastest",
            "Fastest",
            variant.name,
            figures.milliseconds(base),
            f"Fastest: nothing is faster than the baseline ({figures.milliseconds(base)}).",
        )
    if base / own < CLEARLY:
        return Finding(
            "fastest",
            "Fastest",
            variant.name,
            figures.milliseconds(own),
            f"Fastest: nothing is clearly faster than the baseline "
            f"({figures.milliseconds(base)}); {variant.name} comes first by "
            f"{figures.share(1 - own / base)}.",
        )
    headline = _ratio(base, own, "faster", "slower")
    return Finding(
        "fastest",
        "Fastest",
        variant.name,
        headline,
        f"Fastest: {variant.name} takes {figures.milliseconds(own)}, {headline} than the "
        f"baseline's {figures.milliseconds(base)}{_cost(comparison, variant)}",
    )


def _most_accurate(comparison: Comparison) -> Finding | None:
    metric, base = comparison.metric, comparison.baseline
    if metric is None:
        return None
    known = [one for one in comparison.done if not missing(one.metrics.get(metric.name))]
    if not known:
        return None
    sign = 1 if metric.lower_is_better else -1
    best = min(known, key=lambda one: (sign * one.metrics[metric.name], zip_size(one) or 0))
    value, reference = best.metrics[metric.name], base.metrics.get(metric.name)
    label = "Most accurate" if not metric.lower_is_better else f"Lowest {metric.title}"
    shown = metric.text(value)
    if missing(reference):
        text = f"{label}: {best.name} at {shown}."
        return Finding("most accurate", label, best.name, shown, text)
    assert reference is not None
    if metric.lost(best.metrics[metric.name], reference) >= 0 or metric.same(value, reference):
        text = f"{label}: the baseline at {metric.text(reference)}; no variant is better."
        return Finding("most accurate", label, base.name, metric.text(reference), text)
    text = f"{label}: {best.name} at {shown}, {metric.distance(value - reference)} better than the "
    text += f"baseline's {metric.text(reference)}"
    if best.size is not None and base.size is not None:
        text += f", and {_ratio(base.size.zip, best.size.zip, 'smaller', 'larger')} zipped"
    return Finding("most accurate", label, best.name, shown, text + ".")


def _lossless(comparison: Comparison, others: Sequence[VariantResult]) -> Finding | None:
    metric = comparison.metric
    if metric is None or missing(comparison.baseline.metrics.get(metric.name)):
        return None
    kept = [one for one in others if _loses_at_most(comparison, one, 0.0)]
    if not kept:
        return Finding(
            "lossless",
            "Nothing lost",
            None,
            "",
            f"Every variant loses some {metric.title}.",
        )
    names = _list([one.name for one in kept])
    smallest = _lowest(kept, zip_size, file_size)
    verb = "keep" if len(kept) > 1 else "keeps"
    text = f"Nothing lost: {names} {verb} the baseline's {metric.title}"
    headline = ""
    base = comparison.baseline.size
    if smallest is not None and smallest.size is not None and base is not None:
        headline = _ratio(base.zip, smallest.size.zip, "smaller", "larger")
        which = f"the smallest of them, {smallest.name}, is" if len(kept) > 1 else "it is"
        text += f"; {which} {headline} zipped"
    return Finding(
        "lossless",
        "Nothing lost",
        smallest.name if smallest else kept[0].name,
        headline,
        text + ".",
    )


def _resolution(comparison: Comparison) -> Finding | None:
    """Says how coarse the metric is where the test split is small."""
    metric = comparison.metric
    sizes = comparison.study.data.get("sizes") if comparison.study else None
    count = sizes.get("test") if isinstance(sizes, dict) else None
    if count is None:
        count = getattr(comparison.baseline, "samples", None)
    if metric is None or not metric.percent or not isinstance(count, int) or not 0 < count < 2000:
        return None
    return Finding(
        "resolution",
        "Resolution",
        None,
        "",
        f"With {count} test samples, one of them is {100 / count:.2f} points: smaller differences "
        "cannot be told apart, and a few samples are chance.",
    )


def _single(comparison: Comparison) -> Finding:
    variant, metric = comparison.done[0], comparison.metric
    parts = []
    if metric is not None and not missing(variant.metrics.get(metric.name)):
        parts.append(f"{metric.title} {metric.text(variant.metrics[metric.name])}")
    if variant.size is not None:
        parts.append(f"{figures.size(variant.size.file)} ({figures.size(variant.size.zip)} zipped)")
    if variant.latency_ms is not None:
        parts.append(figures.milliseconds(variant.latency_ms.p50))
    shown = ", ".join(parts) or "nothing was measured"
    text = f"{variant.name}: {shown}. There is nothing to compare it with."
    return Finding("single", "One variant", variant.name, "", text)


def _failed(comparison: Comparison) -> Finding | None:
    if not comparison.failed:
        return None
    reasons = "; ".join(
        f"{one.name} ({_first_line(one.error) or 'no reason given'})" for one in comparison.failed
    )
    count = len(comparison.failed)
    return Finding(
        "failed",
        "Failed",
        comparison.failed[0].name if count == 1 else None,
        "",
        f"{count} of {len(comparison.variants)} variants failed: {reasons}.",
    )


def _cost(comparison: Comparison, variant: VariantResult) -> str:
    """The rest of a sentence: what it gives up."""
    metric = comparison.metric
    if metric is None:
        return "."
    before, after = comparison.baseline.metrics.get(metric.name), variant.metrics.get(metric.name)
    if missing(before) or missing(after):
        return f"; its {metric.title} was not measured." if missing(after) else "."
    assert before is not None and after is not None
    if metric.same(after, before):
        return f", and loses no {metric.title}."
    lost = metric.lost(after, before)
    verb = "gives up" if lost > 0 else "gains"
    change = f"{metric.text(before)} → {metric.text(after)}"
    return f", and {verb} {metric.distance(lost)} ({change})."


def _loses_at_most(comparison: Comparison, variant: VariantResult, allowed: float) -> bool:
    metric = comparison.metric
    assert metric is not None
    before, after = comparison.baseline.metrics.get(metric.name), variant.metrics.get(metric.name)
    if before is None or after is None or missing(before) or missing(after):
        return False
    lost = metric.lost(after, before)
    return lost <= allowed + 1e-9 or (allowed == 0 and metric.same(after, before))


def _lowest(variants: Sequence[VariantResult], *keys: Axis) -> VariantResult | None:
    known = [one for one in variants if all(not missing(key(one)) for key in keys)]
    return min(known, key=lambda one: tuple(key(one) or 0.0 for key in keys)) if known else None


def _ratio(before: float, after: float, better: str, worse: str) -> str:
    """`3.1× smaller`, or `1.2× larger`, or `as large`."""
    if after <= 0 or before <= 0:
        return f"far {better}"
    factor = before / after
    if 1 / 1.005 < factor < 1.005:
        return {"smaller": "as large", "faster": "as fast"}.get(better, "the same")
    if factor > 1:
        return f"{figures.times(factor)} {better}"
    return f"{figures.times(1 / factor)} {worse}"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _first_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[0].rstrip(".")[:200] if lines else ""
