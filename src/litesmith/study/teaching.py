"""The baseline as the teacher of its own compressed variants: soft targets in place of labels.

With labels y and the teacher's answers p, a variant is trained towards

    (1 − α) · y + α · p

by the loss its labels would have (Hinton, Vinyals & Dean, "Distilling the knowledge in a neural
network", 2015, at temperature 1; cross-entropy is linear in its target, so this is the sum of both
losses). The teacher answers once for the whole training split; a training step costs nothing more.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from litesmith.data import Dataset, Split
from litesmith.data.dataset import is_class_index
from litesmith.study.losses import Head, loss_for

TEACHER_SHARE = 0.9  # α
_MOST_BYTES = 1 << 30  # of all soft targets together


def targets(labels: np.ndarray, head: Head, answers: np.ndarray | None, share: float) -> np.ndarray:
    """What a variant is trained towards.

    Args:
        labels: [samples, …] class numbers, one-hot rows, or numbers of the output's shape.
        head: the model's output.
        answers: the teacher's, [samples, *head.shape]; None for labels alone.
        share: the teacher's, from 0 to 1.

    Returns:
        float32 [samples, *head.shape].
    """
    given = _in_outputs_shape(labels, head)
    if answers is None or not share:
        return given
    taught = np.asarray(answers, np.float32).reshape(given.shape)
    if head.kind == "linear" and _classifies(labels, head):
        taught = _probabilities(taught)
    return ((1 - share) * given + share * taught).astype(np.float32)


def _in_outputs_shape(labels: np.ndarray, head: Head) -> np.ndarray:
    units = head.shape[-1] if head.shape else 1
    if units > 1 and labels.shape[1:] != head.shape:
        flat = labels.reshape(len(labels), *head.shape[:-1]).astype(np.int64)
        return np.eye(units, dtype=np.float32)[flat]
    return labels.astype(np.float32).reshape(len(labels), *head.shape)


def _classifies(labels: np.ndarray, head: Head) -> bool:
    """Whether a linear output is logits: its labels are classes, or shares of them."""
    units = head.shape[-1] if head.shape else 1
    if units > 1 and labels.shape[1:] == head.shape:
        rows = labels.sum(-1, dtype=np.float64)
        return bool(labels.min() >= 0 and np.allclose(rows, 1, atol=1e-3))
    return units > 1 or (is_class_index(labels) and bool(np.isin(labels, (0, 1)).all()))


def _probabilities(logits: np.ndarray) -> np.ndarray:
    if logits.ndim < 2 or logits.shape[-1] == 1:
        return 1 / (1 + np.exp(-logits.astype(np.float64)))
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def lesson(
    data: Dataset, head: Head, answers: np.ndarray, loss: str, share: float = TEACHER_SHARE
) -> tuple[Dataset, Any]:
    """The data and the loss a taught variant is trained with.

    Args:
        data: with labels.
        head: the model's one output.
        answers: the teacher's for the training split, [samples, *head.shape].
        loss: the study's: "auto", or the name of a Keras loss.
        share: the teacher's part.

    Returns:
        The data with soft training targets, its validation labels in the same form (the test
        split stays as it is), and the loss to compile with.
    """
    train, validation = data.train.y, data.validation.y
    assert train is not None and validation is not None
    soft = targets(train, head, answers, share)
    taught = dataclasses.replace(
        data,
        train=Split(data.train.x, soft),
        validation=Split(data.validation.x, targets(validation, head, None, 0.0)),
    )
    # A sparse loss takes class numbers only; what stands for it follows from the soft targets.
    name = "auto" if loss.startswith("sparse_") else loss
    return taught, loss_for(name, [head], soft)


def affordable(samples: int, head: Head) -> bool:
    """Whether soft targets for so many samples fit in memory beside the data."""
    return samples * int(np.prod(head.shape, dtype=np.int64)) * 4 <= _MOST_BYTES
