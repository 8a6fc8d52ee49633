"""Magnitude pruning as pure math: which weights stay, as boolean masks.

Everything works on the canonical view of a kernel, [outputs, spatial, inputs], and on counts that
may be tensors, so that it runs inside a compiled training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def canonical_shape(
    shape: Sequence[int], outputs: Sequence[int], inputs: Sequence[int]
) -> tuple[int, int, int]:
    """(outputs, spatial, inputs) of a kernel; inputs is 0 where it has none.

    Args:
        shape: the kernel's shape, as Keras has it.
        outputs: axes that are output channels.
        inputs: axes that are input channels.
    """
    # Plain loops: `torch.compile` breaks its graph at `math.prod`, and then takes axes for sizes.
    high = wide = spatial = 1
    for axis, size in enumerate(shape):
        if axis in outputs:
            high *= size
        elif axis in inputs:
            wide *= size
        else:
            spatial *= size
    return high, spatial, wide if inputs else 0


def to_canonical(weight: Any, outputs: Sequence[int], inputs: Sequence[int]) -> Any:
    """A kernel as [outputs, spatial, inputs]; the last axis is 1 where it has no inputs."""
    high, spatial, wide = canonical_shape(weight.shape, outputs, inputs)
    return ops.reshape(
        ops.transpose(weight, _order(len(weight.shape), outputs, inputs)),
        (high, spatial, max(wide, 1)),
    )


def from_canonical(
    view: Any, shape: Sequence[int], outputs: Sequence[int], inputs: Sequence[int]
) -> Any:
    """The inverse of `to_canonical`."""
    order = _order(len(shape), outputs, inputs)
    transposed = ops.reshape(view, tuple(shape[axis] for axis in order))
    return ops.transpose(transposed, [order.index(axis) for axis in range(len(shape))])


def _order(axes: int, outputs: Sequence[int], inputs: Sequence[int]) -> list[int]:
    spatial = [axis for axis in range(axes) if axis not in outputs and axis not in inputs]
    return [*outputs, *spatial, *inputs]


def keep_largest(scores: Any, zeros: Any) -> Any:
    """A mask with exactly `zeros` False, at the smallest scores; ties go by position.

    Args:
        scores: non-negative float32 tensor of any shape.
        zeros: how many to drop, from 0 to the number of scores; a number or an int32 tensor.

    Returns:
        Boolean tensor of the scores' shape.
    """
    flat = ops.reshape(scores, (-1,))
    zeros = ops.cast(zeros, "int32")
    if keras.backend.backend() == "torch":  # sorting is the faster one there
        ranked = ops.sort(flat)
        threshold = ops.take(ranked, ops.clip(zeros, 0, flat.shape[0] - 1))
    else:
        flat, threshold = _kth_smallest(flat, zeros)
    below, equal = flat < threshold, ops.equal(flat, threshold)
    missing = zeros - ops.sum(ops.cast(below, "int32"))
    tied = ops.logical_and(equal, ops.cumsum(ops.cast(equal, "int32")) <= missing)
    # More zeros than the threshold leaves below it can be asked for only when all are to go.
    return ops.reshape(ops.logical_not(ops.logical_or(below, tied)), scores.shape)


def _kth_smallest(flat: Any, k: Any) -> tuple[Any, Any]:
    """The scores as integers, and the k-th smallest (from 0), by bisection on their bits.

    Non-negative floats have the order of their bit patterns. 31 counting passes take 5–12 ms for
    400,000 weights where a sort takes 34–75 (TensorFlow, JAX, two cores).
    """
    bits = ops.view(flat, "int32")

    def one_bit(index: Any, value: Any) -> Any:
        candidate = value + ops.left_shift(ops.ones((), "int32"), 30 - ops.cast(index, "int32"))
        below = ops.sum(ops.cast(bits < candidate, "int32"))
        return ops.where(below <= k, candidate, value)

    # A loop, not 31 copies of its body: a model has many kernels, and each is compiled.
    return bits, ops.fori_loop(0, 31, one_bit, ops.zeros((), "int32"))


def keep_n_of_m(magnitudes: Any, m: int, zeros: Any) -> Any:
    """A mask with exactly `zeros` False in each group of `m` along the last axis.

    Args:
        magnitudes: tensor whose last axis is a multiple of `m`.
        m: size of a group.
        zeros: how many to drop in a group, 0 up to m; a number or an int32 tensor.
    """
    groups = ops.reshape(magnitudes, (-1, m))
    # The rank of each weight within its group: a permutation, so ties cannot drop too many.
    rank = ops.argsort(ops.argsort(groups, axis=-1), axis=-1)
    keep = ops.cast(rank, "int32") >= ops.cast(zeros, "int32")
    return ops.reshape(keep, magnitudes.shape)


def block_scores(magnitudes: Any, block: tuple[int, int], pooling: str) -> Any:
    """The average or largest magnitude of each block.

    Args:
        magnitudes: [outputs, spatial, inputs].
        block: (outputs, inputs) of a block; both divide.
        pooling: "average" or "max".

    Returns:
        [outputs / block outputs, spatial, inputs / block inputs].
    """
    outputs, spatial, inputs = magnitudes.shape
    high, wide = block
    tiles = ops.reshape(magnitudes, (outputs // high, high, spatial, inputs // wide, wide))
    pool = ops.max if pooling == "max" else ops.mean
    return pool(tiles, axis=(1, 4))


def spread_blocks(mask: Any, block: tuple[int, int]) -> Any:
    """Each block's decision, for every weight in it: the inverse of `block_scores`."""
    high, wide = block
    return ops.repeat(ops.repeat(mask, high, axis=0), wide, axis=2)


def layer_adaptive(scores: np.ndarray) -> np.ndarray:
    """LAMP: each unit's part in what its kernel keeps when it and all smaller ones go.

        s²(u) / Σ s²(v) over the units v with s(v) ≥ s(u)

    (Lee, Park, Mo, Ahn and Shin, "Layer-adaptive sparsity for the magnitude-based pruning", 2021.)
    The largest unit of each kernel has 1, so none is left without any.

    Args:
        scores: magnitudes of a kernel's units, a flat array.

    Returns:
        float64 scores in the same order, comparable between kernels.
    """
    order = np.argsort(scores, kind="stable")
    squares = np.square(np.asarray(scores, np.float64)[order])
    rest = np.cumsum(squares[::-1])[::-1]
    adapted = np.empty_like(squares)
    adapted[order] = squares / np.where(rest > 0, rest, 1.0)
    return adapted


def share_out(scores: Sequence[np.ndarray], sizes: Sequence[int], sparsity: float) -> list[int]:
    """Rank the units of all kernels together and tell how many each loses.

    Each kernel keeps one unit at least, since a kernel of zeros cuts the network in two.

    Args:
        scores: for each kernel the score of each unit, a flat array.
        sizes: for each kernel the number of weights in a unit.
        sparsity: share of all weights to drop.

    Returns:
        For each kernel the number of units to drop. Together they hold `sparsity` of the weights,
        to the nearest weight for units of one.
    """
    owner = np.concatenate([np.full(len(s), i) for i, s in enumerate(scores)])
    place = np.concatenate([np.arange(len(s)) for s in scores])
    flat = np.concatenate([np.asarray(s, np.float64).ravel() for s in scores])
    best = np.array([int(np.argmax(s)) for s in scores])
    droppable = place != best[owner]
    order = np.flatnonzero(droppable)[np.argsort(flat[droppable], kind="stable")]
    weights = np.cumsum(np.asarray(sizes)[owner[order]])
    total = sum(len(s) * size for s, size in zip(scores, sizes, strict=True))
    count = int(np.searchsorted(weights, round(sparsity * total), side="right"))
    return np.bincount(owner[order[:count]], minlength=len(scores)).tolist()
