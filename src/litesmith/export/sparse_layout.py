"""The smallest way to leave the zeros of a weight out of a `.tflite`.

A tensor stored sparse is walked dimension by dimension, in an order of its own. A level of that
walk is dense (every coordinate is visited) or compressed (only coordinates with something below
them are; two arrays, ``segments`` and ``indices``, say which), as in TACO (Kjolstad et al., The
Tensor Algebra Compiler, 2017). Dimensions may be split into blocks; inside a block all is stored.
The schema allows more than the runtime unfolds: a compressed level inside a block kills it, and
blocks anywhere but at the end of the walk come out wrong. What is made here is what it unfolds.

Which order, levels and blocks are best depends on where the zeros are. The size of any layout
follows from how many coordinates are occupied in each subset of the dimensions, so all of them
are compared without making any.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Bytes a level costs besides its arrays, as packed by `litesmith.export.compact`.
_COMPRESSED, _DENSE = 60, 8
# Blocks grow by these factors.
_FACTORS = (2, 3)
# Up to here every order is tried: 5! orders of 2⁵ kinds of levels.
MAX_DIMENSIONS = 5


@dataclass(frozen=True)
class Layout:
    """How a tensor is walked.

    Attributes:
        order: the tensor's dimensions, outermost first.
        compressed: for each dimension of `order`, whether its level is compressed.
        blocks: for each dimension of the tensor, how many neighbours are stored together; 1 for
            no blocks. Divides the dimension.
        bytes: what index arrays, values and levels take.
    """

    order: tuple[int, ...]
    compressed: tuple[bool, ...]
    blocks: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, eq=False)
class Encoded:
    """A tensor in a layout.

    Attributes:
        layout: how it is walked.
        sizes: for each dimension of the layout's order, its length, counted in blocks.
        levels: for each of them, ``(segments, indices)`` in the smallest unsigned type that holds
            them (int32 beyond 16 bits), or None where dense.
        values: what is stored, flat, of the tensor's type.
    """

    layout: Layout
    sizes: tuple[int, ...]
    levels: tuple[tuple[np.ndarray, np.ndarray] | None, ...]
    values: np.ndarray

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        arrays = [array for level in self.levels if level is not None for array in level]
        return sum(array.nbytes for array in arrays) + self.values.nbytes


def best(weight: np.ndarray) -> Layout | None:
    """The smallest layout of a tensor.

    Args:
        weight: 1 to `MAX_DIMENSIONS` dimensions.

    Returns:
        The layout, which may well be larger than the tensor; None where there is none to make
        (no elements, no zeros, or more dimensions).
    """
    if not 1 <= weight.ndim <= MAX_DIMENSIONS or weight.size in (0, np.count_nonzero(weight)):
        return None
    occupied = weight != 0
    if not occupied.any():
        occupied.flat[0] = True  # a constant without any value would be no constant
    blocks = (1,) * weight.ndim
    chosen = _best_order(occupied, blocks, weight.itemsize)
    while True:
        grown = [_best_order(occupied, each, weight.itemsize) for each in _larger(weight, blocks)]
        better = min(grown, key=lambda layout: layout.bytes, default=chosen)
        if better.bytes >= chosen.bytes:
            return chosen
        chosen, blocks = better, better.blocks


def encode(weight: np.ndarray, layout: Layout) -> Encoded:
    """Store a tensor in a layout."""
    rank = weight.ndim
    split = [size for n, b in zip(weight.shape, layout.blocks, strict=True) for size in (n // b, b)]
    # Outer parts in the layout's order, then what is inside the blocks.
    axes = [2 * each for each in layout.order] + [2 * each + 1 for each in range(rank)]
    table = weight.reshape(split).transpose(axes)
    sizes = table.shape[:rank]
    cells = table.reshape(int(np.prod(sizes)), -1)
    filled = np.flatnonzero((cells != 0).any(axis=1))
    if not filled.size:
        filled = np.zeros(1, np.int64)
    levels: list[tuple[np.ndarray, np.ndarray] | None] = []
    # `known`: occupied prefixes of the walk, as flat numbers; `place`: where each stands among
    # all `count` nodes of its level, empty ones included.
    known, place, count = np.zeros(1, np.int64), np.zeros(1, np.int64), 1
    for level, size in enumerate(sizes):
        prefixes = _distinct(filled // int(np.prod(sizes[level + 1 :])))
        parent = place[np.searchsorted(known, prefixes // size)]
        if layout.compressed[level]:
            counts = np.bincount(parent, minlength=count)
            segments = np.concatenate([[0], np.cumsum(counts)])
            levels.append((_narrow(segments), _narrow(prefixes % size)))
            known, place, count = prefixes, np.arange(len(prefixes)), len(prefixes)
        else:
            levels.append(None)
            known, place, count = prefixes, parent * size + prefixes % size, count * size
    values = np.zeros((count, cells.shape[1]), weight.dtype)
    values[place] = cells[filled]
    return Encoded(layout, sizes, tuple(levels), values.reshape(-1))


def _best_order(occupied: np.ndarray, blocks: Sequence[int], itemsize: int) -> Layout:
    shape = [s for n, b in zip(occupied.shape, blocks, strict=True) for s in (n // b, b)]
    cells = np.asarray(occupied.reshape(shape).any(axis=tuple(range(1, len(shape), 2))))
    found = _occupancy(cells)
    sizes = cells.shape
    # The type of an index array goes by the largest coordinate in use.
    widths = [_width(_last(cells, axis)) for axis in range(cells.ndim)]
    item = itemsize * int(np.prod(blocks))
    # A dimension of one coordinate is a dense level for nothing, wherever it stands.
    single = [axis for axis, size in enumerate(sizes) if size == 1]
    others = [axis for axis, size in enumerate(sizes) if size > 1]
    smallest: tuple[int, tuple[int, ...], tuple[bool, ...]] | None = None
    for order in itertools.permutations(others):
        for compressed in itertools.product((False, True), repeat=len(order)):
            total, nodes, prefix = len(single) * _DENSE, 1, 0
            for axis, sparse in zip(order, compressed, strict=True):
                prefix |= 1 << axis
                if sparse:
                    entries = found[prefix]
                    total += (nodes + 1) * _width(entries) + entries * widths[axis] + _COMPRESSED
                    nodes = entries
                else:
                    total += _DENSE
                    nodes *= sizes[axis]
            total += nodes * item
            if smallest is None or total < smallest[0]:
                smallest = (total, order, compressed)
    assert smallest is not None
    total, order, compressed = smallest
    return Layout((*single, *order), (False,) * len(single) + compressed, tuple(blocks), int(total))


def _occupancy(cells: np.ndarray) -> dict[int, int]:
    """How many coordinates are occupied in each subset of the dimensions, by its bit mask."""
    full = (1 << cells.ndim) - 1
    reduced = {full: cells}
    for mask in range(full - 1, -1, -1):
        missing = next(axis for axis in range(cells.ndim) if not mask >> axis & 1)
        before = reduced[mask | 1 << missing]
        reduced[mask] = np.asarray(before.any(axis=missing, keepdims=True))
    return {mask: int(np.count_nonzero(each)) for mask, each in reduced.items()}


def _larger(weight: np.ndarray, blocks: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for axis, block in enumerate(blocks):
        for factor in _FACTORS:
            grown = block * factor
            if grown < weight.shape[axis] and weight.shape[axis] % grown == 0:
                yield (*blocks[:axis], grown, *blocks[axis + 1 :])


def _last(cells: np.ndarray, axis: int) -> int:
    others = tuple(each for each in range(cells.ndim) if each != axis)
    return int(np.flatnonzero(cells.any(axis=others)).max(initial=0))


def _width(largest: int) -> int:
    return 1 if largest < 1 << 8 else 2 if largest < 1 << 16 else 4


def _narrow(values: np.ndarray) -> np.ndarray:
    types = {1: np.uint8, 2: np.uint16, 4: np.int32}
    return values.astype(types[_width(int(values.max(initial=0)))])


def _distinct(ordered: np.ndarray) -> np.ndarray:
    """Each value once, of values that are in order already."""
    if not ordered.size:
        return ordered
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
