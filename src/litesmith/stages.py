"""One technique after another: in one recipe, or in stages, prepared model after prepared model.

What an earlier technique promised of a kernel (so many zeros, so few values, a grid) has to stay.
Techniques later in a chain keep it (`Parametrization.follow`); an order in which they could not is
refused here, and what a stripped model has in its weights goes on as the technique that made it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from litesmith.chaining import Step, earlier_chains
from litesmith.errors import RecipeError
from litesmith.parametrize import (
    Kernel,
    find_kernels,
    find_scales,
    is_parametrized,
    outermost_layers,
)
from litesmith.report import Entry, Report
from litesmith.technique import Plan, Technique

# Of a kernel: no trained one has so many by chance.
_MANY_ZEROS = 0.25


class Earlier(Protocol):
    """What `recipe.Origin` tells of a model that was prepared before."""

    @property
    def recipe(self) -> Any:
        """What it was prepared with, or None."""

    @property
    def report(self) -> Report:
        """What was done."""


def check_order(
    kernels: Sequence[Kernel],
    techniques: Sequence[Technique],
    plans: Sequence[Mapping[int, Plan]],
    earlier: Report | None,
) -> None:
    """Refuse an order in which a technique would break what one before it promised of a kernel.

    Args:
        kernels: of the model.
        techniques: of the recipe, in order.
        plans: of each, by the kernel's place.
        earlier: the report of what the model was prepared with before.

    Raises:
        RecipeError: naming the kernel, and the order that would do.
    """
    before = _entries_by_place(kernels, earlier)
    for place, kernel in enumerate(kernels):
        had: list[tuple[str, bool]] = [(entry.technique, True) for entry in before.get(place, [])]
        for technique, taken in zip(techniques, plans, strict=True):
            if place not in taken:
                continue
            for name, was in had:
                # Given again in a later stage, a technique takes the place of the earlier one.
                if name in technique.breaks and not (was and name == technique.name):
                    raise _wrong_order(kernel, name, technique, was)
            had.append((technique.name, False))


def lost_zeros(
    kernels: Sequence[Kernel],
    techniques: Sequence[Technique],
    plans: Sequence[Mapping[int, Plan]],
    earlier: Report | None,
) -> list[str]:
    """A note on zeros that training will fill: of a pruned model that was read from a file.

    Args:
        kernels: of the model.
        techniques: of the recipe, in order.
        plans: of each, by the kernel's place.
        earlier: the report of what the model was prepared with before.
    """
    before = _entries_by_place(kernels, earlier)
    lost: dict[str, float] = {}
    for place, kernel in enumerate(kernels):
        taking = [t for t, taken in zip(techniques, plans, strict=True) if place in taken]
        if place in before or not taking or any(t.keeps_zeros for t in taking):
            continue
        share = float(np.mean(kernel.value() == 0))
        if _MANY_ZEROS <= share < 1.0:  # a kernel of zeros has not been trained yet
            lost[kernel.path] = share
    if not lost:
        return []
    most = max(lost, key=lambda path: lost[path])
    return [
        f"{len(lost)} kernels come with many zeros ({most!r}: {lost[most]:.0%}), which training "
        "will fill: put Prune(sparsity=…) first to keep them"
    ]


def _wrong_order(kernel: Kernel, first: str, second: Technique, was: bool) -> RecipeError:
    broken = second.breaks[first]
    if first == second.name:
        return RecipeError(
            f"{first} twice on layer {kernel.path!r}",
            expected=f"one rule a kernel: {broken}",
            received="two that take it",
            fix="give each rule layers of its own by `where`",
        )
    fix = f"write {second.name} before {first}, or give them layers of their own by `where`"
    if was:
        fix = f"begin with the model as it was before {first}, and {second.name} first"
    return RecipeError(
        f"{second.name} after {first} on layer {kernel.path!r}",
        expected=f"{second.name} before {first}: {broken}",
        received=f"a model that {first} has been done to" if was else f"{first}, {second.name}",
        fix=fix,
    )


def _entries_by_place(kernels: Sequence[Kernel], report: Report | None) -> dict[int, list[Entry]]:
    """What was done to each kernel before, in order."""
    if report is None:
        return {}
    places = {(kernel.path, kernel.variable.path): n for n, kernel in enumerate(kernels)}
    found: dict[int, list[Entry]] = {}
    for entry in sorted(report.done, key=lambda each: each.position):
        place = places.get((entry.layer, entry.variable))
        if place is not None:
            found.setdefault(place, []).append(entry)
    return found


def taken_over(
    model: keras.Model,
    earlier: Earlier | None,
    techniques: Sequence[Technique],
    plans: Sequence[Mapping[int, Plan]],
) -> tuple[dict[int, list[Step]], Report]:
    """What the kernels of a model pass through already, and what is still true of its report.

    Args:
        model: to be prepared: a plain one, or one that was prepared or stripped before.
        earlier: its origin.
        techniques: that are to come.
        plans: of each, by the kernel's place.

    Returns:
        For each kernel, by its place, parametrizations (of a prepared model), or techniques and
        plans (of a stripped one, in whose weights they are baked); and the report without what
        has not been taken over.

    Raises:
        RecipeError: a technique on activations is given a second time to a prepared model.
    """
    if earlier is None:
        return {}, Report()
    kernels = find_kernels(model)
    done = _entries_by_place(kernels, earlier.report)
    again = {
        (place, technique.name)
        for technique, taken in zip(techniques, plans, strict=True)
        for place in taken
    }
    if any(is_parametrized(layer) for _, layer in outermost_layers(model)):
        _check_wired_once(techniques, earlier.report)
        chains, kept = _of_prepared(earlier_chains(model), done, again)
    else:
        chains, kept = _of_stripped(model, kernels, earlier.recipe, done, again)
    return chains, dataclasses.replace(
        earlier.report,
        entries=tuple(e for e in earlier.report.entries if e.status != "done" or e in kept),
    )


def _check_wired_once(techniques: Sequence[Technique], report: Report) -> None:
    had = {entry.technique for entry in report.done}
    for technique in techniques:
        # Where activations round is decided for a whole model at once.
        if technique.name in had and type(technique).wire.__func__ is not Technique.wire.__func__:  # type: ignore[attr-defined]
            raise RecipeError(
                technique.name,
                expected="to be given once: what it does to activations is decided for the whole "
                "model at once",
                received=f"a prepared model that has {technique.name} already",
                fix="strip the model first, or leave it out",
            )


def _of_prepared(
    chains: dict[int, list[Step]], done: dict[int, list[Entry]], again: set[tuple[int, str]]
) -> tuple[dict[int, list[Step]], list[Entry]]:
    """The live parametrizations, but for those of techniques that are given again."""
    kept: list[Entry] = []
    for place, entries in done.items():
        links = chains.get(place, [])
        if len(links) != len(entries):  # loaded with another report than its own
            kept += entries
            continue
        stay = [(place, entry.technique) not in again for entry in entries]
        chains[place] = [link for link, stays in zip(links, stay, strict=True) if stays]
        kept += [entry for entry, stays in zip(entries, stay, strict=True) if stays]
    return chains, kept


def _of_stripped(
    model: keras.Model,
    kernels: Sequence[Kernel],
    recipe: Any,
    done: dict[int, list[Entry]],
    again: set[tuple[int, str]],
) -> tuple[dict[int, list[Step]], list[Entry]]:
    """The techniques whose promises are in the weights, to go on from there."""
    chains: dict[int, list[Step]] = {}
    kept: list[Entry] = []
    if recipe is None:
        return chains, kept
    scales = find_scales(model, kernels) if done else {}
    for place, entries in done.items():
        kernel = dataclasses.replace(kernels[place], scale=scales.get(id(kernels[place].variable)))
        for entry in entries:
            technique = recipe.techniques[entry.position]
            goes_on = technique.resume(kernel, entry.detail)
            if (place, entry.technique) in again or goes_on is None or goes_on[1].reason:
                continue
            chains.setdefault(place, []).append(goes_on)
            kept.append(entry)
    return chains, kept
