"""`prepare` and `strip`: the ends of the training side of the flow."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from litesmith import planning, stages
from litesmith.chaining import attach_chains, earlier_taps
from litesmith.errors import LitesmithWarning, ModelError
from litesmith.parametrize import (
    bake,
    copy_model,
    holder_of,
    inner_layers,
    is_operator,
    is_parametrized,
    mark_subclassed,
    outermost_layers,
    unroll,
)
from litesmith.quantization.calibrating import calibrate
from litesmith.quantization.carrying import carry
from litesmith.quantization.keeping import keep
from litesmith.recipe import origins
from litesmith.recipe.origins import Origin, origin
from litesmith.recipe.value import Recipe
from litesmith.report import Report
from litesmith.sampling import collected
from litesmith.technique import Plan, Technique


def prepare(
    model: keras.Model,
    recipe: Recipe | Technique | Iterable[Technique],
    *,
    strict: bool = False,
    steps: int | None = None,
    calibration: Any = None,
) -> keras.Model:
    """A copy of a model whose weights pass through the recipe's techniques while it trains.

    The given model is left alone. The copy has the same names, variable paths and trainable flags;
    it is not compiled. `copy.report` tells each weight done or skipped, and why.

    A prepared model can be prepared again with more techniques, and so can a stripped one: masks,
    centroids and ranges are taken over, and what was promised stays. A technique that is given
    again for a kernel takes the place of the earlier one.

    Args:
        model: a built Keras model of any kind.
        recipe: a recipe, a technique, or several.
        strict: make what a technique cannot take an error instead of a line in the report.
        steps: training steps to come, if known; a schedule that ends later is noted.
        calibration: some inputs (256 samples at most are used): `Quantize` starts from the ranges
            they give, `Cluster` from the assignments that change their layers' outputs least.
            Without, the first batches of training give ranges, and weights take the nearest.

    Returns:
        The prepared model.

    Raises:
        RecipeError: the recipe does not fit the model.
        ModelError: the model is not built, cannot be copied, or has NaN or infinite weights.
        DataError: calibration data that the model does not take, NaN, or none.
    """
    recipe = Recipe(*(technique.settled(steps) for technique in Recipe.of(recipe)))
    plans, report = planned(model, recipe, strict=strict, steps=steps)
    copy = _copy(model, recipe)
    earlier = origin(model)
    taps = earlier_taps(model)
    chains, history = stages.taken_over(model, earlier, recipe.techniques, plans)
    plans, wired, notes = planning.wired(copy, recipe.techniques, plans, strict=strict)
    report = dataclasses.replace(report, notes=report.notes + notes)
    for number, sites in wired.items():
        taps.setdefault(number, []).extend(sites)
    samples = None if calibration is None else collected(model, calibration)
    for technique, technique_plans in zip(recipe, plans, strict=True):
        known_plans: Mapping[int, Plan] = technique_plans
        if samples is not None:
            known_plans = technique.informed(model, technique_plans, samples)
        for place, plan in known_plans.items():
            chains.setdefault(place, []).append((technique, plan))
    attach_chains(copy, chains, taps)
    mark_subclassed(copy)
    known = Origin(recipe, report)
    if earlier is not None:
        known = _joined(dataclasses.replace(earlier, report=history), recipe, report)
    copy.report = known.report
    origins.remember(copy, known)
    if samples is not None:
        calibrate(copy, samples)
    return copy


def planned(
    model: keras.Model, recipe: Recipe, *, strict: bool, steps: int | None
) -> tuple[list[dict[int, Plan]], Report]:
    """What each technique does to each kernel, by its place, and the report of it."""
    known = origin(model)
    return planning.plan(
        model, recipe, strict=strict, steps=steps, earlier=known.report if known else None
    )


def _copy(model: keras.Model, recipe: Recipe) -> keras.Model:
    """A plain copy; one that can be followed where a technique simulates the file."""
    layers = [layer for _, layer in outermost_layers(model)]
    followed = any(technique.simulates for technique in recipe)
    copy = copy_model(model, operators=followed or any(map(is_operator, layers)))
    if followed:
        for _, layer in outermost_layers(copy):
            unroll(layer)
    return copy


def _joined(earlier: Origin, recipe: Recipe, report: Report) -> Origin:
    """Two preparations, one after the other, as one."""
    offset = 0 if earlier.recipe is None else len(earlier.recipe)
    later = tuple(
        dataclasses.replace(entry, position=entry.position + offset) for entry in report.entries
    )
    return Origin(
        None if earlier.recipe is None else earlier.recipe + recipe,
        Report(earlier.report.entries + later, earlier.report.notes + report.notes),
    )


def strip(model: keras.Model) -> keras.Model:
    """A plain Keras model with the techniques baked in; the prepared model is left alone.

    Args:
        model: a prepared model, trained or not, also one that was saved and loaded.

    Returns:
        A model that predicts what the prepared one predicts, with nothing of litesmith in it.

    Raises:
        ModelError: the model was not prepared.

    Warns:
        LitesmithWarning: training ended before a schedule did.
    """
    if not isinstance(model, keras.Model):
        raise ModelError("strip", expected="a prepared Keras model", received=type(model).__name__)
    layers = [layer for _, layer in outermost_layers(model) if not is_operator(layer)]
    if not any(is_parametrized(layer) for _, layer in outermost_layers(model)):
        raise ModelError(
            f"model {model.name!r}",
            expected="a model that was prepared",
            received="one without a parametrized layer",
            fix="call prepare(model, recipe) first",
        )
    copy = copy_model(model)
    twins = {
        id(old): new
        for old, (_, new) in zip(
            [old for _, old in inner_layers(model, "") if not is_operator(old)],
            inner_layers(copy, ""),
            strict=True,
        )
    }
    unfinished = []
    for old, (path, new) in zip(layers, outermost_layers(copy), strict=True):
        if not is_parametrized(old):
            continue
        bake(old, new, twins)
        unfinished += [
            f"{path}: {problem}" for link in holder_of(old).links if (problem := link.unfinished())
        ]
    if unfinished:
        more = f" (and {len(unfinished) - 1} more)" if len(unfinished) > 1 else ""
        warnings.warn(unfinished[0] + more, LitesmithWarning, stacklevel=2)
    grids = carry(model, copy, twins)
    known = origin(model)
    if known is not None:
        origins.note(copy, dataclasses.replace(known, grids=grids))
        if grids is not None:  # also in the model itself, which may be saved as any other
            about = dataclasses.asdict(grids)
            keep(copy, {**about, "recipe": known.to_dict()["recipe"]})
    return copy
