"""The table: which columns there are, and what a cell says; for html, markdown and terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from litesmith.comparison import figures
from litesmith.comparison.figures import Metric, missing
from litesmith.comparison.pareto import file_size, latency, peak_memory, zip_size
from litesmith.comparison.results import VariantResult

if TYPE_CHECKING:
    import rich.table

    from litesmith.comparison.comparison import Comparison

Value = Callable[[VariantResult], float | None]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of figures.

    Attributes:
        title: its heading.
        help: what it means, one sentence.
        value: the figure of a variant, or None.
        text: how the figure is written.
        best: `"low"`, `"high"` or None, where no value is better than another.
        against: whether the text compares with the baseline, whose own cell stays empty.
    """

    title: str
    help: str
    value: Value
    text: Callable[[float | None], str]
    best: str | None = None
    against: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """What stands in one place of the table."""

    text: str
    best: bool = False


def columns(comparison: Comparison) -> list[Column]:
    """The columns for which any variant has a figure, most asked-for first."""
    base = comparison.baseline
    found: list[Column] = []
    for name in sorted(
        comparison.metrics, key=lambda one: one != getattr(comparison.metric, "name", "")
    ):
        pair = _metric_columns(Metric(name), base)
        found += pair if not found else pair[:1]
    found += [
        Column(
            "agreement",
            "Share of test samples on which the .tflite and the Keras model it "
            "came from give the same class.",
            lambda v: v.agreement,
            figures.share,
            "high",
        ),
        Column("file", "Size of the .tflite; kB is 1,000 bytes.", file_size, figures.size, "low"),
        Column(
            "dense file",
            "Size of the same .tflite with its zeros stored.",
            lambda v: v.dense_size.file if v.dense_size else None,
            figures.size,
        ),
        Column(
            "zipped", "Size after zlib level 9, as in a download.", zip_size, figures.size, "low"
        ),
        _ratio_column("smaller", "Baseline's zipped size ÷ this one's.", zip_size, base),
        Column("p50", "Median time of one inference.", latency, figures.milliseconds, "low"),
        Column(
            "p95",
            "Time that 95 % of the inferences stay below.",
            lambda v: v.latency_ms.p95 if v.latency_ms else None,
            figures.milliseconds,
            "low",
        ),
        _ratio_column("faster", "Baseline's median ÷ this one's.", latency, base),
        Column(
            "load",
            "Time to load the file and prepare it.",
            lambda v: v.load_ms,
            figures.milliseconds,
            "low",
        ),
        Column(
            "peak memory",
            "Peak resident memory above an empty process.",
            peak_memory,
            figures.size,
            "low",
        ),
        Column(
            "arena",
            "Memory for activations, as the runtime lays them out.",
            lambda v: v.memory.arena if v.memory else None,
            figures.size,
            "low",
        ),
        Column(
            "zeros",
            "Share of zeros in the .tflite among the kernels pruning took; among all "
            "kernels where it took none.",
            lambda v: v.sparsity,
            figures.share,
        ),
        Column(
            "values",
            "Most distinct values in one kernel.",
            lambda v: v.unique_weights,
            lambda value: "–" if value is None else f"{value:,.0f}",
        ),
        Column(
            "entropy",
            "Lower bound of the weights' size, from their entropy.",
            lambda v: v.size.entropy if v.size else None,
            figures.size,
            "low",
        ),
    ]
    return [one for one in found if any(not missing(one.value(v)) for v in comparison.done)]


def cells(comparison: Comparison, column: Column) -> list[Cell]:
    """A column's cells, in the order of the variants.

    The best figure is marked where it is better than another; failed variants have none.
    """
    values = [None if one.status == "failed" else column.value(one) for one in comparison.variants]
    known = [value for value in values if value is not None and not missing(value)]
    mark: float | None = None
    if column.best and len(known) > 1 and min(known) != max(known):
        mark = min(known) if column.best == "low" else max(known)
    return [
        Cell(
            "" if column.against and one.name == comparison.baseline.name else column.text(value),
            value is not None and value == mark,
        )
        for one, value in zip(comparison.variants, values, strict=True)
    ]


def rich_table(comparison: Comparison) -> rich.table.Table:
    """The table for a terminal of 80 characters: the columns that decide.

    Green is the best figure of a column, bold a variant on the Pareto front of metric and size.
    """
    from rich.table import Table
    from rich.text import Text

    metric = comparison.metric
    wanted = {"file", "zipped", "smaller", "p50", "zeros"}
    if metric is not None:
        wanted |= {one.title for one in _metric_columns(metric, comparison.baseline)}
    shown = [one for one in columns(comparison) if one.title in wanted]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("variant", overflow="fold")
    for column in shown:
        table.add_column(column.title, justify="right", no_wrap=True)
    grid = [cells(comparison, column) for column in shown]
    front = {*comparison.pareto("size")}
    for index, variant in enumerate(comparison.variants):
        row = [Text(one[index].text, "green" if one[index].best else "") for one in grid]
        if variant.status == "failed":
            row = [Text("failed", "red"), *[Text()] * (len(shown) - 1)][: len(shown)]
        table.add_row(Text(variant.name, "bold" if variant.name in front else ""), *row)
    return table


def _metric_columns(metric: Metric, base: VariantResult) -> list[Column]:
    reference = base.metrics.get(metric.name)
    unit = "points" if metric.percent else "difference"

    def value(variant: VariantResult) -> float | None:
        return variant.metrics.get(metric.name)

    return [
        Column(
            metric.title,
            "Of the .tflite on the test data.",
            value,
            metric.text,
            "low" if metric.lower_is_better else "high",
        ),
        Column(
            f"± {unit}" if metric.percent else f"± {metric.title}",
            f"Against the baseline's {metric.title}.",
            value,
            lambda one: metric.change(one, reference),
            None,
            True,
        ),
    ]


def _ratio_column(title: str, help: str, value: Value, base: VariantResult) -> Column:
    reference = value(base)

    def ratio(variant: VariantResult) -> float | None:
        own = value(variant)
        if own is None or reference is None or missing(own) or missing(reference) or own <= 0:
            return None
        return reference / own

    return Column(title, help, ratio, figures.times, None, True)
