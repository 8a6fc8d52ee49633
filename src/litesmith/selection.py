"""`where=`: which layers a technique is about.

A `where` is a regular expression, matched in full against a layer's path; a layer class; a
predicate on the layer; or a list of these, any of which may match. It may name the outermost layer
("bidirectional") or one inside it ("bidirectional/forward_lstm/lstm_cell").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras

from litesmith.errors import RecipeError, did_you_mean
from litesmith.parametrize import inner_layers, outermost_layers

Where = str | type | Callable[[Any], bool] | Sequence[Any] | None


def normalize(where: Any) -> Any:
    """Check a `where`, and make its lists tuples so that it can be compared and hashed.

    Raises:
        RecipeError: it is none of what a `where` can be, or its regular expression is broken.
    """
    if where is None or callable(where):
        return where
    if isinstance(where, str):
        try:
            re.compile(where)
        except re.error as error:
            raise RecipeError(
                "where",
                expected="a regular expression",
                received=where,
                fix=f"mend it: {error}",
            ) from error
        return where
    if isinstance(where, (list, tuple)):
        if not where:
            raise RecipeError(
                "where", expected="something to match", received="an empty list", fix="leave it out"
            )
        return tuple(normalize(item) for item in where)
    raise RecipeError(
        "where",
        expected="a regular expression, a layer class, a function of a layer, or a list of these",
        received=where,
    )


def to_data(where: Any) -> Any:
    """A `where` as a file has it.

    Raises:
        RecipeError: a predicate, or a class outside Keras, cannot be written.
    """
    if where is None or isinstance(where, str):
        return where
    if isinstance(where, tuple):
        return [to_data(item) for item in where]
    if isinstance(where, type) and vars(keras.layers).get(where.__name__) is where:
        return {"layer": where.__name__}
    raise RecipeError(
        "where",
        expected="a regular expression or a Keras layer class, in a recipe that goes to a file",
        received=where,
        fix="name the layers by a regular expression on their paths",
    )


def from_data(data: Any) -> Any:
    """What `to_data` wrote.

    Raises:
        RecipeError: an unknown layer class.
    """
    if isinstance(data, list):
        return normalize([from_data(item) for item in data])
    if isinstance(data, dict):
        name = data.get("layer")
        cls = getattr(keras.layers, str(name), None)
        if set(data) != {"layer"} or not isinstance(cls, type):
            known = [n for n in dir(keras.layers) if isinstance(getattr(keras.layers, n), type)]
            raise RecipeError(
                "where",
                expected='{ layer = "…" } with the name of a Keras layer',
                received=data,
                fix=did_you_mean(str(name), known),
            )
        return cls
    return normalize(data)


def matches(where: Any, path: str, layer: keras.layers.Layer) -> bool:
    """Whether a `where` matches a layer."""
    if isinstance(where, tuple):
        return any(matches(item, path, layer) for item in where)
    if isinstance(where, str):
        return re.fullmatch(where, path) is not None
    if isinstance(where, type):
        return isinstance(layer, where)
    return bool(where(layer))


def check_matches(where: Any, model: keras.Model) -> None:
    """Refuse a `where`, or an item of one, that matches no layer.

    Raises:
        RecipeError: naming the nearest real layer.
    """
    if where is None:
        return
    layers = [pair for path, layer in outermost_layers(model) for pair in inner_layers(layer, path)]
    for item in where if isinstance(where, tuple) else (where,):
        if not any(matches(item, path, layer) for path, layer in layers):
            paths = [path for path, _ in layers]
            if isinstance(item, type):
                raise RecipeError(
                    "where",
                    expected="a class of which the model has layers",
                    received=item.__name__,
                    fix=did_you_mean(item.__name__, sorted({type(x).__name__ for _, x in layers})),
                )
            shown = item if isinstance(item, str) else repr(item)
            raise RecipeError(
                "where matches no layer",
                expected="the path of a layer (a regular expression is matched in full)",
                received=shown,
                fix=did_you_mean(str(shown), paths),
            )
