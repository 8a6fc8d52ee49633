"""Ranges from data, before any training."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# The ranges seen so far, by the identity of the tap, while `calibrate` runs.
_seen: contextvars.ContextVar[dict[int, tuple[Any, float, float]] | None] = contextvars.ContextVar(
    "calibrating", default=None
)


def watching() -> bool:
    """Whether `calibrate` is running: then nothing is to be rounded."""
    return _seen.get() is not None


def watch(tap: Any, value: Any) -> None:
    """Note the extremes of what comes by a tap."""
    seen = _seen.get()
    numbers = keras.ops.convert_to_numpy(value).astype(np.float32)
    if seen is not None and numbers.size and tap.observes:
        _, low, high = seen.get(id(tap), (tap, np.inf, -np.inf))
        low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
        seen[id(tap)] = (tap, low, high)


@contextlib.contextmanager
def _watching() -> Iterator[dict[int, tuple[Any, float, float]]]:
    seen: dict[int, tuple[Any, float, float]] = {}
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def calibrate(model: keras.Model, samples: list[Any]) -> None:
    """Set the ranges of a prepared model's activations to the extremes over some samples.

    Args:
        model: prepared with `Quantize`.
        samples: batches of inputs (`sampling.collected`).
    """
    with _watching() as seen:
        for inputs in samples:
            model(inputs, training=False)
    for tap, low, high in seen.values():
        tap.set_range(low, high)
