"""Small histograms for the table of layers: the baseline's weights behind, the variant's before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from litesmith.comparison.results import Histogram

WIDTH, HEIGHT = 144, 26  # pixels


def svg(histogram: Histogram) -> str:
    """A histogram as an inline `<svg>`, coloured by the page.

    Heights go by the square root of the counts, each drawing up to its own highest: a spike of
    zeros, or of sixteen values, would press all else flat.

    Args:
        histogram: of a kernel.

    Returns:
        One element without ids or references.
    """
    what = f"weights from {histogram.low:.3g} to {histogram.high:.3g}"
    told = f"{what}: before (pale) and after" if histogram.before else what
    return (
        f'<svg class="hist" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{told}"><title>{told}</title>'
        f"{_bars(histogram.before, 'var(--second)')}{_bars(histogram.counts, 'var(--main)', 0.5)}"
        "</svg>"
    )


def _bars(counts: Sequence[int], colour: str, share: float = 1.0) -> str:
    """One path; `share` is how much of its bin a bar fills."""
    if not counts or not max(counts):
        return ""
    step, top = WIDTH / len(counts), math.sqrt(max(counts))
    parts = []
    for place, count in enumerate(counts):
        if count:
            height = max(0.75, (HEIGHT - 1) * math.sqrt(count) / top)
            left = (place + (1 - share) / 2) * step
            parts.append(f"M{left:.1f} {HEIGHT}v{-height:.1f}h{share * step:.1f}v{height:.1f}z")
    return f'<path fill="{colour}" d="{"".join(parts)}"/>'
