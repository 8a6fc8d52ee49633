"""What a student is taught by, and how much of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from litesmith.distillation.core import FAMILIES
from litesmith.errors import RecipeError, did_you_mean
from litesmith.options import number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """The settings of a `Distiller`.

    Attributes:
        temperature: T of the soft targets, above 0.
        label_weight: of the labels' loss.
        teacher_weight: of the soft targets.
        feature_weight: of the intermediate features, shared by all pairs.
        features: pairs of layers, the student's and the teacher's.
        outputs: how each output is read, or "auto".

    Raises:
        RecipeError: a field is out of its range.
    """

    temperature: float
    label_weight: float
    teacher_weight: float
    feature_weight: float
    features: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        number("distiller: temperature", self.temperature, above=0.0)
        for name in ("label_weight", "teacher_weight", "feature_weight"):
            number(f"distiller: {name}", getattr(self, name), least=0.0)
        if not self.teacher_weight and not (self.features and self.feature_weight):
            raise RecipeError(
                "distiller",
                expected="something that the teacher teaches",
                received="teacher_weight 0, and no features",
                fix="give teacher_weight, or features={'student layer': 'teacher layer'}",
            )


def pairs(features: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of layers from what a user writes.

    Args:
        features: a mapping from the student's layers to the teacher's, a layer that both have, or
            a list of such; None for none.

    Raises:
        RecipeError: it is none of these.
    """
    if features is None:
        return ()
    if isinstance(features, str):
        return ((features, features),)
    if isinstance(features, Mapping):
        found = tuple(features.items())
    elif isinstance(features, Sequence):
        found = tuple((each, each) if isinstance(each, str) else each for each in features)
    else:
        found = (features,)
    for each in found:
        right = isinstance(each, tuple | list) and len(each) == 2
        if not right or not all(isinstance(name, str) for name in each):
            raise RecipeError(
                "distiller: features",
                expected="{'student layer': 'teacher layer'}, or names of layers that both have",
                received=features,
            )
    return tuple((str(ours), str(theirs)) for ours, theirs in found)


def kinds(outputs: Any) -> tuple[str, ...]:
    """How outputs are read, from what a user writes: one word, or one an output.

    Raises:
        RecipeError: an unknown word.
    """
    found = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    for each in found:
        if each != "auto" and each not in FAMILIES:
            raise RecipeError(
                "distiller: outputs",
                expected="'auto' or " + ", ".join(map(repr, FAMILIES)),
                received=each,
                fix=did_you_mean(str(each), FAMILIES),
            )
    return found
