"""Which numbers of a Keras model are those of a tensor."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence

import numpy as np

from litesmith.parametrize import Event, Place

# How far the numbers of the file and of Keras may be apart, of the largest; and of a deep network
# that magnifies their rounding, where nothing else is so near by far.
_CLOSE, _NEAR, _APART = 2e-4, 1e-2, 4.0


def closest(value: np.ndarray, events: Sequence[Event]) -> list[Event]:
    """The events of these numbers."""
    off = [distance(value, event.value) for event in events]
    least = min(off, default=1.0)
    if least <= _CLOSE or least > _NEAR:
        return [event for event, each in zip(events, off, strict=True) if each <= _CLOSE]
    # Rounding is large in a few elements, a bias that is not there yet is in all of them.
    near = [
        (float(np.abs(value - np.ravel(event.value)).mean()), event)
        for event, each in zip(events, off, strict=True)
        if each <= _APART * _NEAR
    ]
    best = min(mean for mean, _ in near)
    if any(1.5 * best < mean < _APART * best for mean, _ in near):
        return []
    return [event for mean, event in near if mean <= 1.5 * best]


def is_close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the first has the numbers of the second, but for their rounding."""
    return distance(one, other) <= _CLOSE


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """How far two are apart at most, of the largest of the second."""
    other = np.ravel(other)
    size = max(float(np.abs(other).max(initial=0.0)), 1e-6)
    return float(np.abs(one - other).max(initial=0.0)) / size


def behind_activations(
    given: list[Place], surplus: int, acting: Container[tuple[int, int]]
) -> list[Place]:
    """Leave out places before an activation that happened to change nothing.

    A squeeze of few channels may be positive altogether: its ReLU gives what it takes. The one
    tensor of the two fused is what the ReLU gives.

    Args:
        given: places where the same numbers come by, in order.
        surplus: how many more they are than the tensors of these numbers.
        acting: layers that end with an activation.
    """
    left = []
    for place, after in itertools.zip_longest(given, given[1:]):
        here = place.kind == "mid" or (place.kind == "out" and place.at in acting)
        follows = after and after.kind == "out" and after.at in acting
        if surplus > 0 and follows and not here:
            surplus -= 1
        else:
            left.append(place)
    return left


def order_of(inputs: Mapping[int, np.ndarray], values: Sequence[np.ndarray]) -> list[int] | None:
    """Which of the values is each of a layer's two inputs; None where they are others."""
    if sorted(inputs) != [0, 1]:
        return None
    for order in ([0, 1], [1, 0]):
        pairs = [(np.ravel(values[number]), inputs[place]) for place, number in enumerate(order)]
        if all(a.size == b.size and distance(a, b) <= _NEAR / 4 for a, b in pairs):
            return order
    return None
