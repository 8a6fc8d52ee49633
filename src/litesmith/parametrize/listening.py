"""What layers inside a model give, while the model is called as always."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from litesmith.parametrize import internals


@contextlib.contextmanager
def listening(layers: Sequence[keras.layers.Layer]) -> Iterator[list[Any]]:
    """Within the body note what layers give, each the first time it is called.

    Works in a compiled step as well: there it happens while the step is traced.

    Args:
        layers: of a model that is called in the body.

    Yields:
        What each layer gave, in order; None for one that has not been called.
    """
    heard: list[Any] = [None] * len(layers)

    def noting(place: int, original: Any) -> Any:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            if heard[place] is None:
                heard[place] = outputs
            return outputs

        return call

    with contextlib.ExitStack() as stack:
        for place, layer in enumerate(layers):
            stack.enter_context(_replaced(layer, noting(place, layer.call)))
        yield heard


@contextlib.contextmanager
def _replaced(layer: keras.layers.Layer, call: Any) -> Iterator[None]:
    """Within the body a layer has another `call`; afterwards its own again, or its class's."""
    own = vars(layer).get("call")
    internals.set_plainly(layer, "call", call)
    try:
        yield
    finally:
        if own is None:
            internals.drop_plainly(layer, "call")
        else:
            internals.set_plainly(layer, "call", own)


def shapes_of(
    model: keras.Model, layers: Sequence[keras.layers.Layer]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]] | None:
    """Shapes without the batch, of a model's outputs and of what layers in it give.

    Args:
        model: built.
        layers: of that model.

    Returns:
        Outputs, flat, and layers; None for a model that does not know the shape of its input.
    """
    inputs = internals.symbolic_inputs(model)
    if inputs is None:
        return None
    found: list[list[tuple[Any, ...]]] = []

    def run(inputs: Any, training: bool = False) -> Any:
        with listening(layers) as heard:
            outputs = model(inputs, training=training)
        parts = (keras.tree.flatten(outputs), [_first(each) for each in heard])
        found[:] = [[() if each is None else tuple(each.shape)[1:] for each in p] for p in parts]
        return outputs

    internals.infer(run, inputs)
    return found[0], found[1]


def _first(structure: Any) -> Any:
    """The first tensor of what a layer gives."""
    flat = keras.tree.flatten(structure)
    return flat[0] if flat else None
