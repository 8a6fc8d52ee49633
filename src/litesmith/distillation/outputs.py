"""What a model's outputs are: probabilities, logits, or numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from litesmith.distillation.core import FAMILIES
from litesmith.errors import ModelError

_LINEAR = {"classes": "logits", "bits": "sigmoid_logits", "values": "values"}


def activation_of(model: keras.Model, index: int) -> str | None:
    """What the last layer of an output tells.

    Args:
        model: of any kind.
        index: of the output.

    Returns:
        "softmax", "sigmoid", "linear"; None where it does not say.
    """
    layer: Any = model
    while isinstance(layer, keras.Model):
        if isinstance(layer, keras.Sequential):
            layer = layer.layers[-1]
            continue
        try:
            layer = layer.get_layer(layer.output_names[index])
        except (AttributeError, IndexError, ValueError):
            return None  # a subclassed model, or one that ends in an operation
        index = 0
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    if activation is keras.activations.softmax:
        return "softmax"
    if activation is keras.activations.sigmoid:
        return "sigmoid"
    if activation is keras.activations.linear and isinstance(layer, keras.layers.Dense):
        return "linear"
    return None


def read_as(
    student: keras.Model,
    teacher: keras.Model,
    given: tuple[str, ...],
    count: int,
    loss: Any,
    names: Sequence[str],
) -> list[tuple[str, str]]:
    """How each output of a student and its teacher is read.

    Args:
        student: whose outputs they are.
        teacher: of as many outputs.
        given: what the user says: one kind an output, or one for all; "auto" goes by the last
            layer, and where that is linear by the loss.
        count: of the outputs.
        loss: what the student is compiled with.
        names: of the outputs.

    Returns:
        For each output the student's and the teacher's kind, keys of `FAMILIES`.

    Raises:
        ModelError: it cannot be told, or the two do not go together.
    """
    if len(given) not in (1, count):
        raise ModelError(
            "distiller: outputs",
            expected=f"one kind, or one for each of {count} outputs",
            received=f"{len(given)}",
        )
    found = []
    for index in range(count):
        kind = given[index % len(given)]
        if kind == "auto":
            kind = _kind(student, index, _loss_of(loss, index, names))
        family = FAMILIES[kind]
        other = activation_of(teacher, index)
        if other is None:  # a subclassed teacher tells nothing: it is taken to be of the same kind
            theirs = kind
        else:
            theirs = _LINEAR[family] if other == "linear" else other
        if FAMILIES[theirs] != family:
            raise ModelError(
                f"distiller: output {names[index]!r}",
                expected=f"a teacher whose answers are {_WORDS[family]}, as the student's are",
                received=f"one that ends in {other}",
                fix="give the two outputs of one kind",
            )
        found.append((kind, theirs))
    return found


_WORDS = {"classes": "shares of classes", "bits": "yes or no each", "values": "numbers"}


def _kind(student: keras.Model, index: int, loss: Any) -> str:
    activation = activation_of(student, index)
    if activation in ("softmax", "sigmoid"):
        return activation
    name, from_logits = _about(loss)
    entropy = "crossentropy" in name
    binary = "binary" in name
    if activation == "linear":
        if entropy:
            return "sigmoid_logits" if binary else "logits"
        if name:
            return "values"
    elif entropy and from_logits is not None:
        if binary:
            return "sigmoid_logits" if from_logits else "sigmoid"
        return "logits" if from_logits else "softmax"
    elif name and not entropy:
        return "values"
    raise ModelError(
        f"distiller: output {index} of {student.name!r}",
        expected="a last layer, or a loss, that tells whether it gives logits",
        received="neither",
        fix="write outputs='logits', or another of " + ", ".join(map(repr, FAMILIES)),
    )


def _loss_of(loss: Any, index: int, names: Sequence[str]) -> Any:
    if isinstance(loss, Mapping):
        return loss.get(names[index])
    if isinstance(loss, list | tuple):
        return loss[index] if index < len(loss) else None
    return loss


def _about(loss: Any) -> tuple[str, bool | None]:
    """A loss's name in small letters, and whether it takes logits; None where it cannot tell."""
    if loss is None:
        return "", None
    if isinstance(loss, str):
        return loss.lower().replace("_", ""), False
    if isinstance(loss, keras.losses.Loss):
        config = loss.get_config()
        return type(loss).__name__.lower(), bool(config.get("from_logits", False))
    return str(getattr(loss, "__name__", type(loss).__name__)).lower().replace("_", ""), None
