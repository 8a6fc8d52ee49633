"""The report as Markdown: the same sections, the charts left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from litesmith.comparison import describe
from litesmith.comparison.columns import cells, columns

if TYPE_CHECKING:
    from litesmith.comparison.comparison import Comparison


def write(comparison: Comparison) -> str:
    """The report's text."""
    parts = [f"# {_text(describe.title(comparison))}", ""]
    parts += [f"- {_text(sentence)}" for sentence in comparison.verdict]
    parts += ["", "## Variants", "", *_variants(comparison)]
    for name in ("size", "latency"):
        front = comparison.pareto(name)
        if front and comparison.metric is not None:
            shown = ", ".join(_text(one) for one in front)
            parts += ["", f"Pareto front of {comparison.metric.title} and {name}: {shown}."]
    layered = [one for one in comparison.variants if one.layers]
    if layered:
        parts += ["", "## Layers"]
    for variant in layered:
        head = ("kernel", "type", "weights", "zeros", "values", "bytes")
        parts += ["", f"### {_text(variant.name)}", ""]
        parts += _table(head, describe.layer_rows(variant), left=2)
    fidelity = describe.fidelity_rows(comparison)
    if fidelity:
        parts += ["", "## Fidelity", "", describe.FIDELITY_TEXT, ""]
        parts += _table(describe.FIDELITY_HEAD, fidelity, left=1)
    for variant in comparison.done:
        if rows := describe.worst_rows(variant):
            parts += ["", f"### {_text(variant.name)}: where they differ most", ""]
            parts += _table(describe.WORST_HEAD, rows, left=2)
    changes = [(one.name, one.changed) for one in comparison.done if one.changed is not None]
    if changes:
        parts += ["", "## Changed answers", ""]
        for name, change in changes:
            parts.append(f"- {_text(name)}: {describe.changed(change)}")
    for heading, notes in describe.notes(comparison):
        if "## Notes" not in parts:
            parts += ["", "## Notes", ""]
        parts += [f"- {_text(heading)}: {_text(note)}" for note in notes]
    if comparison.failed:
        parts += ["", "## Failed", ""]
        parts += [f"- {_text(one.name)}: {_text(one.error or '')}" for one in comparison.failed]
    facts = describe.facts(comparison)
    if facts:
        parts += ["", "## How it was made", ""]
        parts += [f"- {_text(name)}: {_text(value)}" for name, value in facts]
    command = describe.command(comparison)
    if command:
        parts += ["", "Again with:", "", "```", command.replace("```", ""), "```"]
    return "\n".join(parts) + "\n"


def _variants(comparison: Comparison) -> list[str]:
    shown = columns(comparison)
    grid = [cells(comparison, column) for column in shown]
    rows = []
    for index, variant in enumerate(comparison.variants):
        texts = [
            f"**{column[index].text}**" if column[index].best else column[index].text
            for column in grid
        ]
        if variant.status == "failed":
            texts = ["failed", *[""] * (len(shown) - 1)][: len(shown)]
        rows.append((variant.name, describe.recipe(variant), *texts))
    return _table(("variant", "recipe", *(one.title for one in shown)), rows, left=2)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    marks = [":--" if index < left else "--:" for index in range(len(head))]
    lines = [head, marks, *([_text(cell) for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _text(text: str) -> str:
    """Text that stays text: one line, no HTML, no end of a cell."""
    flat = " ".join(str(text).split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
