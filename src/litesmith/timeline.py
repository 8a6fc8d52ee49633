"""When each technique of a recipe is at work along a training run.

Pruning comes first: what is cut is best cut early, with the rest of the run to recover in. Then the
clusters settle, then ranges and rounding: each comes to rest after what it depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litesmith.technique import Technique

WIDTH = 40
LEGEND = ". not begun   ~ changing   = at rest"


def settled(share: float, steps: int, after: int) -> int:
    """The step at which a technique comes to rest.

    Args:
        share: of the run, where nothing before it takes longer.
        steps: training steps in all.
        after: the step by which what comes before it has come to rest.

    Returns:
        share · steps, but no earlier than half way from `after` to the end.
    """
    return max(round(share * steps), (after + steps) // 2 if after < steps else steps)


def laid_out(techniques: Sequence[Technique], steps: int) -> list[Technique]:
    """Techniques with schedules along a training run, each coming to rest after those before it.

    Args:
        techniques: in order.
        steps: training steps in all.
    """
    made: list[Technique] = []
    for technique in techniques:
        # Rules of one technique stand beside each other, not one after the other.
        before = [each.span[1] for each in made if type(each) is not type(technique)]
        after = max((end for end in before if end is not None), default=0)
        made.append(technique.laid_out(steps, after))
    return made


def draw(techniques: Sequence[Technique], steps: int | None) -> str:
    """A small picture in text: a line a technique.

    Args:
        techniques: in order.
        steps: training steps in all; None where that is not known.
    """
    if not techniques:
        return "an empty recipe: nothing is changed"
    ends = [step for each in techniques for step in each.span if step]
    title = f"{steps:,} training steps" if steps else ""
    shown, total = list(techniques), steps
    if total is None and not ends:
        # Nothing is set, so that a study sets all of it: shares are the same for any length.
        total, title = 1000, "as a study lays it out along its training steps"
        shown = laid_out(techniques, total)
    elif total is None:
        total, title = max(1, round(max(ends) / 0.8)), "training steps; their number is not known"
    number = steps is not None or bool(ends)
    width = max(len(each.name) for each in techniques)
    rows = [
        f"{place}  {each.name.ljust(width)}  {_bar(each, total)}  {_words(each, total, number)}"
        for place, each in enumerate(shown, 1)
    ]
    left, right = ("0", f"{total:,}") if number else ("0 %", "100 %")
    axis = left + right.rjust(WIDTH - len(left))
    indent = " " * (width + 5)
    return "\n".join([f"{indent}{axis}  {title}", *rows, indent + LEGEND])


def _bar(technique: Technique, total: int) -> str:
    begin, end = technique.span
    cells = []
    for cell in range(WIDTH):
        step = (cell + 0.5) * total / WIDTH
        at_rest = end is not None and step >= end
        cells.append("=" if at_rest else "." if step < begin else "~")
    return "".join(cells)


def _words(technique: Technique, total: int, number: bool) -> str:
    def at(step: int) -> str:
        return f"step {step:,}" if number else f"{step / total:.0%}"

    begin, end = technique.span
    words = technique.label
    if end is None:
        words += f", changing from {at(begin)} on" if begin else ", changing throughout"
    elif begin == end:
        words += f", from {at(begin)} on" if begin else ", from the first step on"
    else:
        words += f", at rest from {at(end)} on"
    if technique.where is not None:
        words += f" (where {_where(technique.where)})"
    return words


def _where(where: object) -> str:
    if isinstance(where, tuple):
        return ", ".join(map(_where, where))
    return where if isinstance(where, str) else getattr(where, "__name__", repr(where))
