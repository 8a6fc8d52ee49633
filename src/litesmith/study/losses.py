"""What a model's outputs are, and the loss that `loss = "auto"` stands for.

| outputs | labels | loss |
|---|---|---|
| softmax | class numbers | sparse categorical cross-entropy |
| softmax | one-hot or soft | categorical cross-entropy |
| linear, several | class numbers or one-hot | the same, from logits |
| sigmoid | 0 and 1 | binary cross-entropy |
| linear, one | only 0 and 1, as integers | binary cross-entropy from logits |
| anything else | numbers of the output's shape | mean squared error |
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from litesmith.distillation.outputs import activation_of
from litesmith.errors import StudyError, did_you_mean
from litesmith.export.interface import answer_names


@dataclass(frozen=True)
class Head:
    """One output of a model.

    Attributes:
        name: the output's name; a dict of labels is matched by it.
        kind: `softmax`, `sigmoid` or `linear` (logits, or a regression).
        shape: the output's shape without the batch.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


def heads(model: keras.Model, inputs: Any) -> list[Head]:
    """What each output of a model is, seen from its layers and from what it answers.

    Args:
        model: any built Keras model.
        inputs: a batch of real samples, at best a few dozen.
    """
    with warnings.catch_warnings():  # Keras minds a list of one input where the data has one
        warnings.simplefilter("ignore", UserWarning)
        answers = model(inputs, training=False)
    names = answer_names(model, answers)
    flat = [
        np.asarray(keras.ops.convert_to_numpy(each), np.float64)
        for each in keras.tree.flatten(answers)
    ]
    return [
        Head(name, activation_of(model, index) or _by_value(values), values.shape[1:])
        for index, (name, values) in enumerate(zip(names, flat, strict=True))
    ]


def _by_value(values: np.ndarray) -> str:
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        return "linear"
    if values.shape[-1] > 1 and np.allclose(values.sum(-1), 1, atol=1e-3):
        return "softmax"
    return "sigmoid" if np.ptp(values) > 0 else "linear"


def loss_for(loss: str, outputs: Sequence[Head], labels: Any) -> Any:
    """The loss to compile with.

    Args:
        loss: `"auto"` or the name of a Keras loss.
        outputs: the model's, from `heads`.
        labels: numpy labels; a list, a tuple or a dict by name where there are several outputs.

    Returns:
        A loss or its name, or one an output in the labels' own structure.

    Raises:
        StudyError: labels and outputs do not go together, or no such loss.
    """
    if loss != "auto":
        try:
            keras.losses.get(loss)
        except ValueError:
            names = [
                name
                for name in dir(keras.losses)
                if name.islower() and callable(getattr(keras.losses, name))
            ]
            known = [name for name in names if name not in ("get", "serialize", "deserialize")]
            raise StudyError(
                "[model] loss",
                expected='"auto" or the name of a Keras loss',
                received=repr(loss),
                fix=did_you_mean(loss, known),
            ) from None
        return loss
    if isinstance(labels, Mapping):
        named = {head.name: head for head in outputs}
        if set(labels) != set(named):
            raise StudyError(
                "the data does not fit the model",
                expected=f"labels for the outputs {', '.join(named)}",
                received=f"labels for {', '.join(map(str, labels))}",
                fix="name the labels as the model's outputs",
            )
        return {name: _auto(named[name], np.asarray(part)) for name, part in labels.items()}
    parts = list(labels) if isinstance(labels, list | tuple) else [labels]
    if len(parts) != len(outputs):
        raise StudyError(
            "the data does not fit the model",
            expected=f"labels for {len(outputs)} outputs",
            received=f"labels for {len(parts)}",
            fix="give one array of labels an output",
        )
    losses = [_auto(head, np.asarray(part)) for head, part in zip(outputs, parts, strict=True)]
    return losses if isinstance(labels, list | tuple) else losses[0]


def _auto(head: Head, labels: np.ndarray) -> keras.losses.Loss:
    units = head.shape[-1] if head.shape else 1
    whole = labels.dtype.kind in "iub"
    if labels.shape[1:] == head.shape and head.shape and units > 1:
        return _same_shape(head, labels)
    if units > 1:
        counted = labels.shape[1:]
        if whole and counted in (head.shape[:-1], (*head.shape[:-1], 1)):
            if labels.size and not (0 <= labels.min() and labels.max() < units):
                raise StudyError(
                    "the labels do not fit the model",
                    expected=f"class numbers from 0 to {units - 1} for {head.name!r}, "
                    f"which has {units} outputs",
                    received=f"numbers from {labels.min()} to {labels.max()}",
                    fix="check [data] source, or the model's last layer",
                )
            if head.kind != "sigmoid":
                return keras.losses.SparseCategoricalCrossentropy(from_logits=head.kind == "linear")
        raise _no_loss(head, labels)
    if labels.shape[1:] not in ((), (1,), head.shape):
        raise _no_loss(head, labels)
    binary = bool(np.isin(labels, (0, 1)).all())
    if head.kind == "sigmoid" and not (labels.min() >= 0 and labels.max() <= 1):
        raise StudyError(
            "the labels do not fit the model",
            expected=f"0 and 1 for the sigmoid output {head.name!r}",
            received=f"numbers from {labels.min()} to {labels.max()}",
            fix="check [data] source, or the model's last layer",
        )
    if head.kind == "sigmoid" or (binary and whole):
        return keras.losses.BinaryCrossentropy(from_logits=head.kind == "linear")
    return keras.losses.MeanSquaredError()


def _same_shape(head: Head, labels: np.ndarray) -> keras.losses.Loss:
    shares = bool(labels.min() >= 0 and np.allclose(labels.sum(-1, dtype=np.float64), 1, atol=1e-3))
    if head.kind == "sigmoid" and labels.min() >= 0 and labels.max() <= 1:
        return keras.losses.BinaryCrossentropy()
    if head.kind == "softmax" and not shares:
        raise StudyError(
            "the labels do not fit the model",
            expected=f"rows that sum to 1 for the softmax output {head.name!r}",
            received=f"numbers from {labels.min()} to {labels.max()}",
            fix="check [data] source, or the model's last layer",
        )
    if shares:
        return keras.losses.CategoricalCrossentropy(from_logits=head.kind == "linear")
    return keras.losses.MeanSquaredError()


def _no_loss(head: Head, labels: np.ndarray) -> StudyError:
    return StudyError(
        "the labels do not fit the model",
        expected=f"one label for each of {head.name!r}'s answers of shape {head.shape}",
        received=f"{labels.dtype} labels of shape {labels.shape[1:]} each",
        fix="check [data] source, or name the loss in [model]",
    )
