"""`Recipe`, `prepare` and `strip`: the ends of the training side of the flow."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from litesmith import files, planning, stages, timeline
from litesmith.chaining import attach_chains, earlier_taps
from litesmith.errors import LitesmithWarning, ModelError, RecipeError, did_you_mean
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
from litesmith.quantization.carrying import Grids, carry
from litesmith.quantization.keeping import keep
from litesmith.quantization.keeping import kept as kept_in
from litesmith.report import Report
from litesmith.sampling import collected
from litesmith.technique import Plan, Technique, check_technique_value

VERSION = 1


class Recipe:
    """An ordered list of techniques; data flow from the stored weight through each in turn.

    Args:
        *techniques: techniques, or the tables that stand for them in a file.

    Raises:
        RecipeError: something in it is no technique, or has a wrong field.
    """

    def __init__(self, *techniques: Technique | dict[str, Any]):
        self.techniques: tuple[Technique, ...] = tuple(map(check_technique_value, techniques))
        # Of the training run it was laid out along: for its time line only.
        self._steps: int | None = None

    @classmethod
    def of(cls, value: Any) -> Recipe:
        """A recipe from a recipe, a technique, or a list of techniques or tables.

        Raises:
            RecipeError: it is none of these.
        """
        if isinstance(value, Recipe):
            return value
        if isinstance(value, Technique):
            return cls(value)
        if isinstance(value, dict):
            return cls.from_dict(value)
        if isinstance(value, (list, tuple)):
            return cls(*value)
        raise RecipeError(
            "recipe", expected="a Recipe, a technique, or a list of techniques", received=value
        )

    def __iter__(self) -> Iterator[Technique]:
        return iter(self.techniques)

    def __len__(self) -> int:
        return len(self.techniques)

    def __add__(self, other: Any) -> Recipe:
        return Recipe(*self.techniques, *Recipe.of(other).techniques)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.techniques == other.techniques

    def __hash__(self) -> int:
        return hash(self.techniques)

    def __repr__(self) -> str:
        return f"Recipe({', '.join(map(repr, self.techniques))})"

    def __str__(self) -> str:
        """A small time line: what each technique does, and when in a training run."""
        return timeline.draw(self.techniques, self._steps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: a version, and a table a technique.

        Raises:
            RecipeError: a `where` is a predicate, which no file can hold.
        """
        return {"version": VERSION, "techniques": [item.to_dict() for item in self.techniques]}

    @classmethod
    def from_dict(cls, data: Any) -> Recipe:
        """What `to_dict` wrote, or a bare list of tables.

        Raises:
            RecipeError: another version, an unknown technique or field.
        """
        if isinstance(data, list):
            return cls(*data)
        if not isinstance(data, dict) or "techniques" not in data:
            raise RecipeError(
                "recipe",
                expected=f'a table with "version" and "techniques" (version {VERSION})',
                received=data,
            )
        for key in data:
            if key not in ("version", "techniques"):
                raise RecipeError(
                    "recipe",
                    expected="'version' and 'techniques'",
                    received=key,
                    fix=did_you_mean(key, ("version", "techniques")),
                )
        if data.get("version", VERSION) != VERSION:
            raise RecipeError(
                "recipe version",
                expected=str(VERSION),
                received=data["version"],
                fix="it was written by another litesmith: update this one",
            )
        if not isinstance(data["techniques"], list):
            raise RecipeError(
                "recipe techniques", expected="a list of tables", received=data["techniques"]
            )
        return cls(*data["techniques"])

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """From JSON.

        Raises:
            RecipeError: it is no JSON, or no recipe.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RecipeError("recipe", expected="JSON", received=str(error)) from error
        return cls.from_dict(data)

    def to_toml(self) -> str:
        """As TOML."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """From TOML.

        Raises:
            RecipeError: it is no TOML, or no recipe.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError("recipe", expected="TOML", received=str(error)) from error
        return cls.from_dict(data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a `.json` or `.toml` file.

        Raises:
            RecipeError: another suffix, or a `where` that no file can hold.
        """
        text = self.to_json() if _suffix(path) == ".json" else self.to_toml()
        return files.write_text(path, text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a `.json` or `.toml` file.

        Raises:
            RecipeError: no such file, another suffix, or no recipe in it.
        """
        suffix = _suffix(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                "recipe file", expected="a file that can be read", received=f"{path} ({error})"
            ) from error
        return cls.from_json(text) if suffix == ".json" else cls.from_toml(text)

    def laid_out(self, steps: int) -> Recipe:
        """The recipe with schedules along a training run, where techniques have none.

        Pruning is done first, then the clusters settle, then ranges and rounding: a technique
        comes to rest after those before it. `print` it to see the time line.

        Args:
            steps: training steps (batches) in all.
        """
        laid = Recipe(*timeline.laid_out(self.techniques, steps))
        laid._steps = steps if steps > 0 else None
        return laid

    def check(
        self, model: keras.Model, *, strict: bool = False, steps: int | None = None
    ) -> Report:
        """What `prepare` would do, without copying or changing anything.

        Args:
            model: a built model.
            strict: whether what cannot be taken is an error.
            steps: training steps to come, if known; a schedule that ends later is noted.

        Raises:
            RecipeError: a `where` that matches nothing; an order in which a technique would break
                what one before it promised; with `strict`, a layer that is skipped.
            ModelError: the model is not built, or has NaN or infinite weights.
        """
        return _planned(model, self, strict=strict, steps=steps)[1]


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".toml"):
        raise RecipeError(
            "recipe file", expected="a name ending in .json or .toml", received=os.fspath(path)
        )
    return suffix


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a prepared or stripped model comes from.

    Attributes:
        recipe: the recipe it was prepared with; None where it was loaded from a file and has a
            predicate in it, which no file can hold.
        report: what was done.
        grids: of a stripped model, what `export` needs of a training that quantized
            (`quantization.carrying.Grids`); None otherwise.
    """

    recipe: Recipe | None
    report: Report
    grids: Any = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        try:
            recipe = None if self.recipe is None else self.recipe.to_dict()
        except RecipeError:
            recipe = None
        return {"recipe": recipe, "report": self.report.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Origin:
        """What `to_dict` wrote."""
        recipe = None if data["recipe"] is None else Recipe.from_dict(data["recipe"])
        return cls(recipe, Report.from_dict(data["report"]))


# Beside the models, not in them: a stripped model holds nothing of ours.
_origins: weakref.WeakKeyDictionary[keras.Model, Origin] = weakref.WeakKeyDictionary()


def origin(model: Any) -> Origin | None:
    """How a model was prepared, or None.

    Args:
        model: what `prepare` or `strip` returned in this process, or a prepared model that was
            saved and loaded (it has no `.report`; this is where to find it).
    """
    if not isinstance(model, keras.Model):
        return None
    if model in _origins:
        return _origins[model]
    for _, layer in outermost_layers(model):
        if is_parametrized(layer) and (kept := holder_of(layer).origin):
            return Origin.from_dict(kept)
    return _stripped_origin(model)


def _stripped_origin(model: keras.Model) -> Origin | None:
    """What a stripped model that was saved and loaded keeps of the training that quantized it."""
    about = kept_in(model) if model.built else None
    if about is None:
        return None
    recipe = about.pop("recipe")
    grids = Grids(**about)
    return Origin(None if recipe is None else Recipe.from_dict(recipe), Report((), ()), grids)


def remember(model: keras.Model, known: Origin) -> None:
    """Note where a prepared model comes from, also in the first of its holders, for its file."""
    _origins[model] = known
    layers = [layer for _, layer in outermost_layers(model) if is_parametrized(layer)]
    for number, layer in enumerate(layers):
        holder_of(layer).origin = None if number else known.to_dict()


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
    plans, report = _planned(model, recipe, strict=strict, steps=steps)
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
    remember(copy, known)
    if samples is not None:
        calibrate(copy, samples)
    return copy


def _planned(
    model: keras.Model, recipe: Recipe, *, strict: bool, steps: int | None
) -> tuple[list[dict[int, Plan]], Report]:
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
        _origins[copy] = dataclasses.replace(known, grids=grids)
        if grids is not None:  # also in the model itself, which may be saved as any other
            about = dataclasses.asdict(grids)
            keep(copy, {**about, "recipe": known.to_dict()["recipe"]})
    return copy
