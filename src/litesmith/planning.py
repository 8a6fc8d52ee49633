"""Deciding, before anything is copied or trained, what a recipe does to a model."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from litesmith import selection, stages
from litesmith.errors import LitesmithWarning, ModelError, RecipeError
from litesmith.parametrize import (
    Kernel,
    find_kernels,
    find_scales,
    inner_layers,
    outermost_layers,
)
from litesmith.report import Entry, Report
from litesmith.technique import Plan, Technique


def plan(
    model: keras.Model,
    techniques: Iterable[Technique],
    *,
    strict: bool,
    steps: int | None,
    earlier: Report | None = None,
) -> tuple[list[dict[int, Plan]], Report]:
    """Decide what each technique does to each kernel of a model, without touching it.

    Args:
        model: a built model.
        techniques: in order.
        strict: whether what cannot be taken is an error.
        steps: training steps to come, if known.
        earlier: the report of what the model was prepared with before.

    Returns:
        For each technique its plans by the kernel's place in `find_kernels(model)`, and the report.

    Raises:
        RecipeError: a `where` that matches nothing; a technique that would break what one before
            it promised of a kernel; with `strict`, a layer that is skipped.
        ModelError: the model is not built, or has NaN or infinite weights.
    """
    _check_model(model)
    techniques = list(techniques)
    kernels = find_kernels(model)
    if any(technique.asks_scales for technique in techniques):
        scales = find_scales(model, kernels)
        kernels = [dataclasses.replace(k, scale=scales.get(id(k.variable))) for k in kernels]
    all_plans: list[dict[int, Plan]] = []
    entries, notes = [], []
    for position, technique in enumerate(techniques):
        selection.check_matches(technique.where, model)
        places = [place for place, kernel in enumerate(kernels) if technique.selects(kernel)]
        plans = technique.plan([kernels[place] for place in places])
        if technique.exclusive:
            plans = _not_taken(technique, places, plans, techniques[:position], all_plans)
        by_place = dict(zip(places, plans, strict=True))
        refused = [_entry(technique, position, plan) for plan in plans if plan.reason]
        refused = [entry for entry in refused if "earlier rule" not in entry.reason]
        refused += _without_kernels(technique, position, model, kernels)
        if strict and refused:
            raise RecipeError(
                f"{technique.name}: layer {refused[0].layer!r}",
                expected="layers it can take, with strict=True",
                received=refused[0].reason,
                fix="leave that layer out by `where`, or leave strict out",
            )
        for place, kernel in enumerate(kernels):
            if place in by_place:
                entries.append(_entry(technique, position, by_place[place]))
            elif technique.where is None:
                reason = f"{_KINDS[kernel.kind]} only when `where` asks for them"
                entries.append(_entry(technique, position, Plan(kernel, reason=reason)))
        entries += [entry for entry in refused if not entry.variable]
        all_plans.append({place: plan for place, plan in by_place.items() if not plan.reason})
        if not all_plans[-1]:
            notes.append(f"{technique.name}: no layer of the model was taken")
            warnings.warn(notes[-1], LitesmithWarning, stacklevel=3)
        notes += technique.notes(steps)
    stages.check_order(kernels, techniques, all_plans, earlier)
    notes += stages.lost_zeros(kernels, techniques, all_plans, earlier)
    return all_plans, Report(tuple(entries), tuple(notes))


def wired(
    model: keras.Model,
    techniques: Sequence[Technique],
    plans: list[dict[int, Plan]],
    *,
    strict: bool,
) -> tuple[list[dict[int, Plan]], dict[int, list[Any]], tuple[str, ...]]:
    """Decide what passes through functions besides weights.

    Args:
        model: a plain copy of the model.
        techniques: in order.
        plans: of each, what `plan` gave.
        strict: whether it is an error where a technique leaves something out.

    Returns:
        The plans again, the taps by the number of the outermost layer, and notes.

    Raises:
        RecipeError: the techniques do not fit each other; with `strict`, something is left out.
    """
    plans = list(plans)
    taps: dict[int, list[Any]] = {}
    notes: tuple[str, ...] = ()
    for kind in dict.fromkeys(type(technique) for technique in techniques):
        numbers = [n for n, technique in enumerate(techniques) if type(technique) is kind]
        wiring = kind.wire(model, [(techniques[n], plans[n]) for n in numbers])
        if strict and wiring.incomplete:
            raise RecipeError(
                kind.name,
                expected="a model it can follow throughout, with strict=True",
                received=wiring.notes[0],
                fix="leave that part out by `where`, or leave strict out",
            )
        for number, each in zip(numbers, wiring.plans, strict=True):
            plans[number] = each
        for outer, sites in wiring.taps.items():
            taps.setdefault(outer, []).extend(sites)
        notes += wiring.notes
    return plans, taps, notes


def _not_taken(
    technique: Technique,
    places: Sequence[int],
    plans: Sequence[Plan],
    earlier: Sequence[Technique],
    taken: Sequence[dict[int, Plan]],
) -> list[Plan]:
    """The plans, but for kernels that an earlier technique of the same class has."""
    gone = {
        place
        for each, had in zip(earlier, taken, strict=True)
        if type(each) is type(technique)
        for place in had
    }
    return [
        Plan(plan.kernel, reason="an earlier rule of the recipe has it") if place in gone else plan
        for place, plan in zip(places, plans, strict=True)
    ]


_KINDS = {
    "depthwise": "depthwise kernels are taken",
    "embedding": "embeddings are taken",
    "other": "a custom layer's own weights are taken",
}


def _entry(technique: Technique, position: int, plan: Plan) -> Entry:
    return Entry(
        position=position,
        layer=plan.kernel.path,
        layer_type=plan.kernel.layer_type,
        variable=plan.kernel.variable.path,
        technique=technique.name,
        status="skipped" if plan.reason else "done",
        reason=plan.reason,
        detail=plan.detail,
    )


def _without_kernels(
    technique: Technique, position: int, model: keras.Model, kernels: Sequence[Kernel]
) -> list[Entry]:
    """Layers that `where` names but that have nothing to take."""
    if technique.where is None:
        return []
    having = {id(layer) for kernel in kernels for _, layer in kernel.owners}
    entries = []
    for outer_path, outer in outermost_layers(model):
        for path, layer in inner_layers(outer, outer_path):
            # A pattern that takes in whole models is not a request for each activation in them.
            if id(layer) in having or not layer.weights:
                continue
            if selection.matches(technique.where, path, layer):
                kind, reason = type(layer).__name__, "it has no kernel"
                entries.append(
                    Entry(path, kind, "", technique.name, "skipped", reason, position=position)
                )
    return entries


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ModelError(
            "model",
            expected="a keras.Model",
            received=type(model).__name__,
            fix="load it with keras.saving.load_model, or litesmith.models.load",
        )
    if not model.built:
        raise ModelError(
            f"model {model.name!r}",
            expected="a built model",
            received="one that has no weights yet",
            fix="call it on a batch, or give it an Input",
        )
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight.value)
        if value.dtype.kind not in "biu" and not np.isfinite(value.astype("float32")).all():
            raise ModelError(
                f"weight {weight.path!r}",
                expected="finite numbers",
                received="NaN or infinity",
                fix="train the model again; there is nothing to compress in it",
            )
