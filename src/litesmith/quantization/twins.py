"""Layers that compute again what an earlier one has computed: the converter keeps one of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import Event, Place, is_operator

_Call = tuple[int, int, int]  # numbers of the outermost and of the inner layer, and of the call


def find_twins(
    places: Iterable[Place],
    events: Sequence[Event],
    layers: Mapping[tuple[int, int], keras.layers.Layer],
) -> dict[Place, tuple[Place, ...]]:
    """The places where the tensors of some others come by once more.

    A network whose branches each begin with a ReLU of the same tensor has several of them, and its
    file one. Only layers without weights of equal settings are alike, that take the same numbers.

    Args:
        places: the places of tensors.
        events: of the model.
        layers: by the numbers of the outermost and of the inner one.

    Returns:
        For each place that has them, its like in other layers, or in other calls of its own.
    """
    order = [(each.place.outer, each.place.inner, each.place.call) for each in events]
    taken: dict[_Call, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for event in events:
        at = event.place
        if at.kind == "in":
            taken[at.outer, at.inner, at.call].append((at.index, event.value))
    alike: dict[Any, list[_Call]] = defaultdict(list)
    for call in dict.fromkeys(order):
        layer = layers[call[:2]]
        settings = None if layer.weights or call not in taken else _settings(layer)
        if settings is not None:
            numbers = tuple((index, value.shape, value.tobytes()) for index, value in taken[call])
            alike[type(layer), settings, numbers].append(call)
    later = {first: rest for first, *rest in alike.values() if rest}
    places = set(places)
    likes = {place: tuple(_likes(place, later, places)) for place in places}
    return {place: twins for place, twins in likes.items() if twins}


def _likes(
    place: Place, later: Mapping[_Call, Sequence[_Call]], places: Iterable[Place]
) -> Iterator[Place]:
    for outer, inner, call in later.get((place.outer, place.inner, place.call), ()):
        twin = Place(outer, inner, place.kind, place.index, call)
        if twin not in places:
            yield twin


def _settings(layer: Any) -> str | None:
    """What a layer computes by, but for its name; None where that cannot be told."""
    made = layer.box.operation if is_operator(layer) else layer
    try:
        config = {key: value for key, value in made.get_config().items() if key != "name"}
        return json.dumps([type(made).__name__, config], sort_keys=True, default=str)
    except Exception:  # noqa: BLE001  a layer of somebody else's
        return None
