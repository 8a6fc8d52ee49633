"""Charts as inline SVG: drawn by matplotlib, coloured by the page, so that dark mode works."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from litesmith.comparison import drawing, figures, pareto
from litesmith.comparison.figures import Metric, missing
from litesmith.comparison.labels import Box, place
from litesmith.comparison.results import VariantResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from litesmith.comparison.comparison import Comparison

_WIDTH = 4.5  # inches: 324 points, which a telephone shows about one to one


@dataclasses.dataclass(frozen=True)
class Chart:
    """One drawing.

    Attributes:
        title: what it shows.
        caption: how to read it, or "".
        svg: an `<svg>` element without external references, its ids its own.
    """

    title: str
    caption: str
    svg: str


def charts(comparison: Comparison) -> list[Chart]:
    """The charts there are figures for.

    Returns:
        Bars of the metric and of sizes; the metric against size and against latency with the
        Pareto front. What fewer than two variants were measured for is left out.
    """
    drawn: list[Chart | None] = [_metric_bars(comparison), _size_bars(comparison)]
    metric = comparison.metric
    if metric is not None:
        drawn.append(
            _scatter(
                comparison, metric, "size", "zipped size", "kB", 1e-3, f"{metric.title} and size"
            )
        )
        drawn.append(
            _scatter(
                comparison,
                metric,
                "latency",
                "median latency",
                "ms",
                1.0,
                f"{metric.title} and latency",
            )
        )
    return [chart for chart in drawn if chart is not None]


def _metric_bars(comparison: Comparison) -> Chart | None:
    metric = comparison.metric
    if metric is None:
        return None
    rows = [
        (one, one.metrics[metric.name])
        for one in comparison.done
        if not missing(one.metrics.get(metric.name))
    ]
    if len(rows) < 2:
        return None
    scale = 100 if metric.percent else 1
    values = [value * scale for _, value in rows]
    low, high = min(values), max(values)
    # Small differences are what matters: bars that start at 0 would all look alike.
    cut = low > 0 and high - low < 0.25 * high
    start = low - 0.35 * (high - low or 0.05 * high) if cut else min(0.0, low)
    texts = [metric.text(value) for _, value in rows]
    reference = comparison.baseline.metrics.get(metric.name)
    with drawing.style():
        figure, axes = _bars_figure(len(rows))
        colours = [
            drawing.BASE if one.name == comparison.baseline.name else drawing.MAIN
            for one, _ in rows
        ]
        positions = range(len(rows))
        axes.barh(
            positions,
            [value - start for value in values],
            left=start,
            height=0.62,
            color=colours,
            edgecolor="none",
        )
        top = max(high, 0.0) if not cut else high
        span = (top - start) or 1.0
        for position, value, text in zip(positions, values, texts, strict=True):
            axes.text(max(value, start) + 0.015 * span, position, text, va="center", fontsize=8)
        if not missing(reference):
            axes.axvline(
                (reference or 0) * scale, color=drawing.MUTED, lw=0.8, ls=(0, (3, 3)), zorder=0
            )
        axes.set_xlim(start, top + 0.24 * span)
        _name_rows(axes, [one.name for one, _ in rows])
        svg = drawing.svg(figure, "metric", f"{metric.title} of every variant")
    caption = "Dashed: the baseline." if not missing(reference) else ""
    if cut:
        at = figures.significant(start, 3) + (" %" if metric.percent else "")
        caption += f" Bars start at {at}, not at 0."
    if metric.lower_is_better:
        caption += " Shorter is better."
    return Chart(metric.title[:1].upper() + metric.title[1:], caption.strip(), svg)


def _size_bars(comparison: Comparison) -> Chart | None:
    rows = [(one.name, one.size) for one in comparison.done if one.size is not None]
    if len(rows) < 2:
        return None
    largest = max(max(size.file, size.zip) for _, size in rows) or 1
    with drawing.style():
        figure, axes = _bars_figure(len(rows), legend=True)
        for offset, colour, label, values in (
            (-0.2, drawing.SECOND, "file", [size.file for _, size in rows]),
            (0.2, drawing.MAIN, "zipped", [size.zip for _, size in rows]),
        ):
            positions = [position + offset for position in range(len(rows))]
            axes.barh(positions, values, height=0.36, color=colour, edgecolor="none", label=label)
            for position, value in zip(positions, values, strict=True):
                axes.text(
                    value + 0.015 * largest,
                    position,
                    figures.size(value),
                    va="center",
                    fontsize=7.5,
                )
        axes.set_xlim(0, 1.24 * largest)
        _name_rows(axes, [name for name, _ in rows])
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="upper right",
            ncols=2,
            frameon=False,
            fontsize=8,
            borderaxespad=0.1,
            handlelength=1.0,
        )
        svg = drawing.svg(figure, "size", "size of every variant, as a file and zipped")
    return Chart("Size", "kB is 1,000 bytes; zipped is zlib at level 9.", svg)


def _scatter(
    comparison: Comparison,
    metric: Metric,
    axis: str,
    label: str,
    unit: str,
    factor: float,
    title: str,
) -> Chart | None:
    cost = pareto.axis(axis)
    points: list[tuple[VariantResult, float, float]] = []
    for one in comparison.done:
        x, y = cost(one), one.metrics.get(metric.name)
        if x is not None and y is not None and not missing(x) and not missing(y) and x > 0:
            points.append((one, x * factor, y * (100 if metric.percent else 1)))
    if len(points) < 2:
        return None
    front = comparison.pareto(axis)
    if axis == "size" and max(x for _, x, _ in points) >= 2000:
        points, unit = [(one, x / 1000, y) for one, x, y in points], "MB"
    with drawing.style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, 3.3))
        axes = figure.add_axes((0.13, 0.135, 0.85, 0.85))
        xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
        logarithmic = max(xs) / min(xs) > 5
        if logarithmic:
            axes.set_xscale("log")
        _limits(axes, xs, ys, logarithmic)
        steps = _front_line(axes, points, front, lower=metric.lower_is_better)
        for one, x, y in points:
            on_front = one.name in front
            colour = drawing.BASE if one.name == comparison.baseline.name else drawing.MAIN
            axes.scatter(
                [x],
                [y],
                s=30,
                zorder=3,
                linewidths=1.3,
                facecolors=colour if on_front else drawing.PAGE,
                edgecolors=colour,
            )
        axes.grid(lw=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        _plain_ticks(axes, logarithmic)
        axes.set_xlabel(f"{label}, {unit}")
        axes.set_ylabel(metric.title + (", %" if metric.percent else ""))
        named = [(one.name, x, y, one.name in front) for one, x, y in points]
        _annotate(figure, axes, named, steps)
        svg = drawing.svg(figure, axis, f"{metric.title} of every variant against its {label}")
    better = "lower" if metric.lower_is_better else "upper"
    caption = (
        f"Filled: on the Pareto front, beaten by none in both. Best is the {better} left corner."
    )
    return Chart(title[:1].upper() + title[1:], caption, svg)


def _bars_figure(rows: int, legend: bool = False) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    top = 0.26 if legend else 0.06
    height = max(rows, 3) * 0.36 + 0.06 + top
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((0.29, 0.06 / height, 0.7, 1 - (0.06 + top) / height))
    return figure, axes


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=drawing.INK)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.spines["bottom"].set_visible(False)


def _limits(axes: Axes, xs: Sequence[float], ys: Sequence[float], logarithmic: bool) -> None:
    """Room for the labels around the points."""
    low, high = min(xs), max(xs)
    if logarithmic:
        room = (high / low) ** 0.16
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.16 * (high - low or 0.2 * high)
        axes.set_xlim(max(low - room, 0), high + room)
    room = 0.14 * (max(ys) - min(ys) or abs(max(ys)) * 0.05 or 1.0)
    axes.set_ylim(min(ys) - room, max(ys) + room)


def _front_line(
    axes: Axes,
    points: Sequence[tuple[VariantResult, float, float]],
    front: Sequence[str],
    *,
    lower: bool,
) -> list[tuple[float, float]]:
    """Draw the front as steps; returns their corners."""
    corners = sorted(((x, y) for one, x, y in points if one.name in front), key=lambda p: p[0])
    if not corners:
        return []
    # Beyond the ends nothing is known but this: cheaper costs more than all, dearer buys nothing.
    start = axes.get_ylim()[1 if lower else 0]
    xs = [corners[0][0], *(x for x, _ in corners), axes.get_xlim()[1]]
    ys = [start, *(y for _, y in corners), corners[-1][1]]
    axes.step(xs, ys, where="post", color=drawing.MAIN, lw=1.1, ls=(0, (4, 3)), alpha=0.7, zorder=2)
    between = zip(xs[1:], ys[:-1], strict=True)
    return [
        (xs[0], ys[0]),
        *(
            corner
            for pair in zip(between, zip(xs[1:], ys[1:], strict=True), strict=True)
            for corner in pair
        ),
    ]


def _plain_ticks(axes: Axes, logarithmic: bool) -> None:
    if not logarithmic:
        return
    low, high = axes.get_xlim()
    steps = [
        mantissa * 10.0**exponent
        for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for mantissa in ((1, 2, 5) if high / low < 1e3 else (1,))
    ]
    shown = [step for step in steps if low <= step <= high]
    axes.set_xticks(shown, [f"{step:g}" for step in shown])
    axes.set_xticks([], minor=True)


def _annotate(
    figure: Figure,
    axes: Axes,
    points: Sequence[tuple[str, float, float, bool]],
    steps: Sequence[tuple[float, float]],
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    unit = figure.dpi / 72
    texts, sizes, centres = [], [], []
    for name, x, y, on_front in points:
        text = axes.annotate(
            _short(name),
            (x, y),
            (0, 0),
            textcoords="offset points",
            fontsize=7.8,
            color=drawing.INK if on_front else drawing.MUTED,
            va="baseline",
            annotation_clip=False,
        )
        extent = text.get_window_extent(renderer)
        texts.append(text)
        sizes.append((extent.width / unit, 8.6))
        centres.append(tuple(axes.transData.transform((x, y)) / unit))
    box = axes.get_window_extent(renderer)
    frame = Box(box.x0 / unit, box.y0 / unit, box.x1 / unit, box.y1 / unit)
    corners = [tuple(axes.transData.transform(corner) / unit) for corner in steps]
    lines = [
        Box(min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)
        for a, b in itertools.pairwise(corners)
    ]
    boxes = place(centres, sizes, frame, obstacles=lines)
    for text, centre, placed in zip(texts, centres, boxes, strict=True):
        text.set_position((placed.left - centre[0], placed.bottom - centre[1] + 2.2))
        near = (
            min(max(centre[0], placed.left), placed.right),
            min(max(centre[1], placed.bottom), placed.top),
        )
        if math.dist(near, centre) > 12:
            ends = axes.transData.inverted().transform(
                [(near[0] * unit, near[1] * unit), (centre[0] * unit, centre[1] * unit)]
            )
            axes.plot(ends[:, 0], ends[:, 1], color=drawing.MUTED, lw=0.6, zorder=1)


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:10] + "…" + name[-7:]
