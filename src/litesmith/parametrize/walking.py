"""The layers of a model, by path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from litesmith.parametrize import internals
from litesmith.parametrize.parametrization import Holder


def outermost_layers(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Each layer that stands in the config of the model or of a model nested in it, once.

    Yields:
        Path and layer.
    """
    seen: set[int] = set()

    def walk(current: keras.Model, prefix: str) -> Iterator[tuple[str, keras.Layer]]:
        for layer in current.layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            if isinstance(layer, keras.Model):
                yield from walk(layer, f"{prefix}{layer.name}/")
            else:
                yield prefix + layer.name, layer

    yield from walk(model, prefix)


Chain = tuple[tuple[str, keras.Layer], ...]


def layer_chains(layer: keras.layers.Layer, path: str) -> Iterator[Chain]:
    """The layer itself and all layers inside it, but for litesmith's own, with what they lie in.

    Yields:
        Path and layer from the outermost one to the one itself.
    """
    seen: set[int] = set()

    def walk(chain: Chain) -> Iterator[Chain]:
        path, current = chain[-1]
        if id(current) in seen or isinstance(current, Holder):
            return
        seen.add(id(current))
        yield chain
        for child in internals.children(current):
            yield from walk((*chain, (f"{path}/{child.name}", child)))

    yield from walk(((path, layer),))


def inner_layers(layer: keras.layers.Layer, path: str) -> Iterator[tuple[str, keras.Layer]]:
    """The layer itself and all layers inside it, but for litesmith's own.

    Yields:
        Path and layer.
    """
    for chain in layer_chains(layer, path):
        yield chain[-1]


def _near(layer: keras.layers.Layer, name: str, step: Any) -> keras.layers.Layer | None:
    """The layer of this name among those near by in the graph of a functional model."""
    frontier = [layer]
    for _ in range(4):  # Dropout and the like may lie between
        frontier = [each for one in frontier for each in step(one)]
        for each in frontier:
            if each.name == name:
                return each
    return None


def locate(layer: keras.layers.Layer, place: dict[str, Any] | None) -> keras.layers.Layer | None:
    """The layer at a `Scale.place`, as seen from a kernel's outermost layer, or None."""
    if place is None:
        return None
    if "inside" in place:
        return [inner for _, inner in inner_layers(layer, "")][place["inside"]]
    if "before" in place:
        return _near(layer, place["before"], internals.preceding)
    return _near(layer, place["after"], internals.following)
