"""Weight clustering as pure math: nearest centroids, walking to them, gathering, means of members.

Everything works on centroids [groups, clusters], each row ascending, on integer positions within a
row, and on weights in their own shape; nothing of size weights × clusters is ever made, so that it
runs inside a compiled training step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def group_ids(
    shape: Sequence[int], outputs: Sequence[int], channels: int | None
) -> tuple[np.ndarray, int]:
    """Which codebook each weight takes its value from.

    Args:
        shape: the kernel's shape.
        outputs: axes that are output channels.
        channels: consecutive output channels that share a codebook; None for one codebook.

    Returns:
        int32 array that broadcasts to `shape`, and the number of codebooks.
    """
    axes = len(shape)
    if channels is None:
        return np.zeros((1,) * axes, np.int32), 1
    sizes = [shape[axis] if axis in outputs else 1 for axis in range(axes)]
    ids = np.arange(math.prod(sizes), dtype=np.int32).reshape(sizes) // channels
    return ids.astype(np.int32), int(ids.max()) + 1


def nearest(values: Any, centroids: Any, groups: Any) -> Any:
    """The position of the nearest centroid of each value, within its group's row.

    A binary search without branches: log₂(clusters) gathers. A value half-way between two
    centroids goes to the lower one.

    Args:
        values: float32 tensor of any shape.
        centroids: float32 [groups, clusters], each row ascending; repeated ones are never chosen
            but for the first of them.
        groups: int32, broadcasts to the values' shape: the row each value looks in.

    Returns:
        int32 tensor of the values' shape.
    """
    rows, clusters = centroids.shape
    rounds = max(1, (clusters - 1).bit_length())
    width = 2**rounds - 1
    middles = (centroids[:, 1:] + centroids[:, :-1]) / 2
    filler = ops.full((rows, width - clusters + 1), math.inf, "float32")
    table = ops.reshape(ops.concatenate([middles, filler], axis=1), (-1,))
    first = ops.cast(groups, "int32") * width
    position = ops.zeros(values.shape, "int32")
    for half in (2**power for power in reversed(range(rounds))):
        middle = _look_up(table, first + position + (half - 1))
        position = position + half * ops.cast(values > middle, "int32")
    return position


def edges(centroids: Any) -> Any:
    """Where each cluster ends: the middles between centroids, and infinity.

    Args:
        centroids: float32 [groups, clusters], each row ascending.

    Returns:
        float32 [groups, clusters + 1]; cluster i of a row lies between i and i + 1.
    """
    middles = (centroids[:, 1:] + centroids[:, :-1]) / 2
    low, high = (ops.full((centroids.shape[0], 1), sign * math.inf, "float32") for sign in (-1, 1))
    return ops.concatenate([low, middles, high], axis=1)


def walk(values: Any, ends: Any, index: Any, groups: Any) -> Any:
    """Each value's position, moved to the next centroid where the value has crossed the middle.

    What `nearest` would find as long as no value has moved by more than a cluster, for two gathers
    whatever the number of clusters.

    Args:
        values: float32 tensor of any shape.
        ends: the clusters' `edges`.
        index: integer tensor of the values' shape: positions within a row.
        groups: int32, broadcasts to the values' shape.

    Returns:
        uint8 tensor of the values' shape. Weights may be many millions: what lies between is kept
        small.
    """
    place = _flat_index(index, groups, ends.shape[1])
    flat = ops.reshape(ends, (-1,))
    up = ops.cast(values > _look_up(flat[1:], place), "uint8")
    down = ops.cast(values <= _look_up(flat, place), "uint8")
    return ops.cast(index, "uint8") + up - down


def halves(shares: Any) -> Any:
    """Numbers of −1…1 as float16; what is not zero does not become zero.

    Eleven bits are finer by far than centroids are apart.
    """
    least = 2.0**-14  # what is smaller may be flushed to zero
    return ops.cast(ops.sign(shares) * ops.maximum(ops.abs(shares), least), "float16")


def gather(centroids: Any, index: Any, groups: Any) -> Any:
    """The centroid of each weight.

    Args:
        centroids: float32 [groups, clusters].
        index: integer tensor of the weight's shape, positions within a row.
        groups: int32, broadcasts to the index's shape.

    Returns:
        float32 tensor of the index's shape.
    """
    place = _flat_index(index, groups, centroids.shape[1])
    return _look_up(ops.reshape(centroids, (-1,)), place)


def member_sums(values: Any, index: Any, groups: Any, shape: tuple[int, int]) -> Any:
    """The sum of each cluster's members.

    Args:
        values: float32 tensor.
        index: integer tensor of the values' shape.
        groups: int32, broadcasts to the values' shape.
        shape: (groups, clusters).

    Returns:
        float32 [groups, clusters].
    """
    flat = ops.reshape(_flat_index(index, groups, shape[1]), (-1,))
    sums = ops.segment_sum(ops.reshape(values, (-1,)), flat, num_segments=shape[0] * shape[1])
    return ops.reshape(sums, shape)


def means(sums: Any, counts: Any, otherwise: Any) -> Any:
    """The mean of each cluster's members; an empty cluster keeps what it had.

    Args:
        sums: float32 [groups, clusters].
        counts: the number of members, float32, of the same shape.
        otherwise: float32, of the same shape.
    """
    return ops.where(counts > 0, sums / ops.maximum(counts, 1.0), otherwise)


def _flat_index(index: Any, groups: Any, clusters: int) -> Any:
    width = "int64" if keras.backend.backend() == "torch" else "int32"  # what indexing takes there
    index = ops.cast(index, width)
    return index if np.size(groups) == 1 else index + ops.cast(groups, width) * clusters


def _look_up(table: Any, place: Any) -> Any:
    """The entries of a flat table at places that are in it."""
    if keras.backend.backend() == "torch":  # `take` would look for negative ones first
        return table[place]
    return ops.take(table, place)
