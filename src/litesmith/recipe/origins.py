"""Where a prepared or stripped model comes from: its recipe, what was done, its grids."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import keras

from litesmith.errors import RecipeError
from litesmith.parametrize import holder_of, is_parametrized, outermost_layers
from litesmith.quantization.carrying import Grids
from litesmith.quantization.keeping import kept
from litesmith.recipe.value import Recipe
from litesmith.report import Report


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

    Returns:
        Its recipe and the report of what was done.
    """
    if not isinstance(model, keras.Model):
        return None
    if model in _origins:
        return _origins[model]
    for _, layer in outermost_layers(model):
        if is_parametrized(layer) and (own := holder_of(layer).origin):
            return Origin.from_dict(own)
    return _stripped_origin(model)


def _stripped_origin(model: keras.Model) -> Origin | None:
    """What a stripped model that was saved and loaded keeps of the training that quantized it."""
    about = kept(model) if model.built else None
    if about is None:
        return None
    recipe = about.pop("recipe")
    grids = Grids(**about)
    return Origin(None if recipe is None else Recipe.from_dict(recipe), Report((), ()), grids)


def note(model: keras.Model, known: Origin) -> None:
    """Note, in this process, where a model comes from."""
    _origins[model] = known


def remember(model: keras.Model, known: Origin) -> None:
    """Note where a prepared model comes from, also in the first of its holders, for its file."""
    note(model, known)
    layers = [layer for _, layer in outermost_layers(model) if is_parametrized(layer)]
    for number, layer in enumerate(layers):
        holder_of(layer).origin = None if number else known.to_dict()
