"""The layers that a distillation is about: finding them, and whether two go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from litesmith.errors import ModelError, RecipeError, did_you_mean
from litesmith.parametrize import inner_layers, outermost_layers, shapes_of


@dataclasses.dataclass(frozen=True)
class Fit:
    """How student and teacher go together.

    Attributes:
        outputs: how many there are; None where it is not known before the first call.
        projections: for each pair of layers (teacher's width, student's width) where these
            differ, (None, None) where they do not.
    """

    outputs: int | None
    projections: list[tuple[int | None, int | None]]


def check_built(role: str, model: Any) -> None:
    """Refuse what is no built Keras model.

    Raises:
        ModelError: it is not one.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ModelError(
            f"distiller: {role}",
            expected="a built Keras model",
            received="one that has no weights yet"
            if isinstance(model, keras.Model)
            else type(model).__name__,
            fix="call it on a batch, or give it an Input",
        )


def find(model: keras.Model, name: str, role: str) -> keras.layers.Layer:
    """The layer of a path, or of a name that only one has.

    Args:
        model: built.
        name: the layer's path, as `inspect` and reports have it, or its own name.
        role: how an error calls the model.

    Raises:
        RecipeError: there is none, or more than one.
    """
    layers = [(layer.name, layer) for layer in model.layers if isinstance(layer, keras.Model)]
    for path, outer in outermost_layers(model):
        layers += inner_layers(outer, path)
    by_path = [layer for path, layer in layers if path == name]
    found = by_path or [layer for path, layer in layers if layer.name == name]
    if len(found) == 1:
        return found[0]
    paths = [path for path, layer in layers if not found or layer.name == name]
    raise RecipeError(
        f"distiller: features of the {role}",
        expected="the name or path of a layer",
        received=f"{name}, which {len(found)} layers have" if found else name,
        fix=did_you_mean(name, paths),
    )


def first(structure: Any) -> Any:
    """The first tensor of what a layer gives."""
    return keras.tree.flatten(structure)[0]


def match(
    student: keras.Model,
    teacher: keras.Model,
    student_layers: Sequence[keras.layers.Layer],
    teacher_layers: Sequence[tuple[str, keras.layers.Layer]],
    names: Sequence[tuple[str, str]],
) -> Fit:
    """Whether outputs and layers of two models can be compared.

    Args:
        student: built.
        teacher: built.
        student_layers: of the pairs.
        teacher_layers: of the pairs, with their names.
        names: of the pairs.

    Raises:
        ModelError: outputs of other shapes, or layers whose outputs differ in more than their
            last axis.
    """
    ours = shapes_of(student, student_layers)
    theirs = shapes_of(teacher, [layer for _, layer in teacher_layers])
    if ours is None or theirs is None:
        return Fit(None, [(None, None)] * len(names))
    if ours[0] != theirs[0]:
        raise ModelError(
            "distiller",
            expected=f"a teacher with outputs of the student's shapes {ours[0]}",
            received=f"{theirs[0]}",
            fix="give both the same classes",
        )
    projections: list[tuple[int | None, int | None]] = []
    for (one, other), mine, wanted in zip(names, ours[1], theirs[1], strict=True):
        if not mine or not wanted or mine[:-1] != wanted[:-1]:
            raise ModelError(
                f"distiller: features {one!r} and {other!r}",
                expected="outputs that differ in their last axis at most",
                received=f"{mine} and {wanted}",
                fix="name layers of equal height and width",
            )
        projections.append((None, None) if mine == wanted else (wanted[-1], mine[-1]))
    return Fit(len(ours[0]), projections)
