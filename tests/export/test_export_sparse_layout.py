"""Layouts of tensors stored sparse: what they unfold to, and which is chosen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from litesmith.export import sparse_layout


def zeroed(shape, share=0.9, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(0, 0.2, shape).astype(np.float32)
    values[random.random(shape) < share] = 0
    return values


def unfolded(encoded, shape):
    """What LiteRT does with a layout: walk it, one value after the other."""
    dense, values = np.zeros(shape, encoded.values.dtype), iter(encoded.values)
    layout = encoded.layout
    inside = list(np.ndindex(*layout.blocks))

    def walk(level, node, outer):
        if level == len(encoded.sizes):
            for offset in inside:
                place = [outer[a] * layout.blocks[a] + offset[a] for a in range(len(shape))]
                dense[tuple(place)] = next(values)
            return
        axis, arrays = layout.order[level], encoded.levels[level]
        if arrays is None:
            size = encoded.sizes[level]
            steps = [(node * size + step, step) for step in range(size)]
        else:
            segments, indices = (array.astype(int) for array in arrays)
            steps = [(i, indices[i]) for i in range(segments[node], segments[node + 1])]
        for child, coordinate in steps:
            walk(level + 1, child, {**outer, axis: coordinate})

    walk(0, 0, {})
    assert next(values, None) is None
    return dense


def cost(layout):
    return sum(60 if each else 8 for each in layout.compressed)


SHAPES = [(7,), (12, 9), (4, 3, 6), (8, 3, 3, 4), (1, 3, 3, 10), (3, 2, 2, 3, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_every_layout_unfolds_to_the_tensor(shape, share):
    weight = zeroed(shape, share)
    weight[0] = 0  # a channel that is gone
    best = sparse_layout.best(weight)
    encoded = sparse_layout.encode(weight, best)
    np.testing.assert_array_equal(unfolded(encoded, shape), weight)
    assert encoded.bytes + cost(best) == best.bytes
    random = np.random.default_rng(0)
    for _ in range(15):
        order = tuple(int(axis) for axis in random.permutation(len(shape)))
        compressed = tuple(bool(each) for each in random.integers(0, 2, len(shape)))
        blocks = tuple(int(random.choice([b for b in (1, 2, 3) if n % b == 0])) for n in shape)
        layout = sparse_layout.Layout(order, compressed, blocks, 0)
        encoded = sparse_layout.encode(weight, layout)
        np.testing.assert_array_equal(unfolded(encoded, shape), weight)
        if set(blocks) == {1}:
            assert best.bytes <= encoded.bytes + cost(layout)


def test_the_best_of_all_orders_is_chosen():
    weight = zeroed((6, 3, 3, 10), 0.9)
    weight[:, 1] = weight[2:] = 0
    found = [
        sparse_layout.encode(weight, layout).bytes + cost(layout)
        for order in itertools.permutations(range(4))
        for compressed in itertools.product((False, True), repeat=4)
        for layout in [sparse_layout.Layout(order, compressed, (1,) * 4, 0)]
    ]
    assert sparse_layout.best(weight).bytes == min(found)


def test_indices_take_one_byte_where_one_of_the_dimensions_allows_it():
    for shape in ((200, 900), (900, 200)):
        layout = sparse_layout.best(zeroed(shape))
        ((segments, indices),) = [
            level for level in sparse_layout.encode(zeroed(shape), layout).levels if level
        ]
        assert (segments.dtype, indices.dtype) == (np.uint16, np.uint8)
    layout = sparse_layout.best(zeroed((300, 900), 0.7))
    ((segments, indices),) = [
        level for level in sparse_layout.encode(zeroed((300, 900), 0.7), layout).levels if level
    ]
    assert (segments.dtype, indices.dtype) == (np.int32, np.uint16)


def test_blocks_are_found():
    blocks = np.kron(zeroed((16, 24), 0.9), np.ones((4, 2), np.float32))
    layout = sparse_layout.best(blocks)
    assert layout.blocks == (4, 2)
    single = sparse_layout._best_order(blocks != 0, (1, 1), 4)
    assert layout.bytes < 0.85 * single.bytes
    assert sparse_layout.best(zeroed((64, 48), 0.9)).blocks == (1, 1)


def test_tensors_without_a_layout():
    assert sparse_layout.best(np.ones((4, 4), np.float32)) is None
    assert sparse_layout.best(np.zeros((0, 4), np.float32)) is None
    assert sparse_layout.best(np.zeros((1,) * 6, np.float32)) is None
    # A constant without a value would be no constant: a tensor of zeros keeps some.
    nothing = np.zeros((50, 30), np.int8)
    encoded = sparse_layout.encode(nothing, sparse_layout.best(nothing))
    assert 0 < encoded.values.size < 20 and not encoded.values.any()
    np.testing.assert_array_equal(unfolded(encoded, (50, 30)), nothing)
