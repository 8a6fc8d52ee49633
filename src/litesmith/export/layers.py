"""Every layer of a model, by public Keras alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


def sublayers(model: keras.Layer) -> list[keras.Layer]:
    """The layer itself and every layer inside it, each once, outermost first.

    `model.layers` knows only the outer ones: a cell in an RNN and the projections in an attention
    layer are found by looking through attributes.
    """
    found: dict[int, keras.Layer] = {}
    stack: list[Any] = [model]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        if isinstance(item, keras.Layer):
            seen.add(id(item))
            found[id(item)] = item
            stack.extend(reversed(list(vars(item).values())))
        elif isinstance(item, dict):
            seen.add(id(item))
            stack.extend(item.values())
        elif isinstance(item, (list, tuple, set)):
            seen.add(id(item))
            stack.extend(item)
    return list(found.values())


@contextlib.contextmanager
def as_float32(model: keras.Layer) -> Iterator[None]:
    """Every layer computes in float32 meanwhile (a mixed-precision model stores float32)."""
    changed: list[tuple[keras.Layer, Any]] = []
    try:
        for layer in sublayers(model):
            policy = layer.dtype_policy
            if policy.compute_dtype in ("float16", "bfloat16"):
                changed.append((layer, policy))
                layer.dtype_policy = keras.DTypePolicy("float32")
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy
