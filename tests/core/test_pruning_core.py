"""Pruning's math: exact counts, ties, groups, blocks, channels, ranking over all kernels."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litesmith.pruning import core

pytestmark = pytest.mark.every_backend
to_numpy = keras.ops.convert_to_numpy


def tensor(values):
    return keras.ops.convert_to_tensor(np.asarray(values, "float32"))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.data())
def test_exactly_as_many_are_dropped_as_asked_and_none_that_is_larger(size, data):
    # Few distinct values: ties everywhere, which is where a threshold goes wrong.
    values = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    zeros = data.draw(st.integers(0, size))
    keep = to_numpy(core.keep_largest(tensor(values), zeros))
    assert (~keep).sum() == zeros
    if 0 < zeros < size:
        assert np.asarray(values)[~keep].max() <= np.asarray(values)[keep].min()


def test_ties_go_by_position():
    keep = to_numpy(core.keep_largest(tensor([1, 1, 1, 1]), 2))
    assert keep.tolist() == [False, False, True, True]


def test_all_zero_weights_lose_no_more_than_asked():
    keep = to_numpy(core.keep_largest(tensor(np.zeros(10)), 5))
    assert keep.sum() == 5


def test_each_group_of_m_keeps_n():
    values = np.random.default_rng(0).normal(size=(6, 3, 16)) ** 2
    keep = to_numpy(core.keep_n_of_m(tensor(values), 4, 2)).reshape(-1, 4)
    assert (keep.sum(axis=1) == 2).all()
    groups = values.reshape(-1, 4)
    assert (
        np.where(keep, np.inf, groups).min(axis=1) <= np.where(keep, groups, np.inf).min(1)
    ).all()


def test_tied_groups_still_keep_n():
    keep = to_numpy(core.keep_n_of_m(tensor(np.ones((5, 1, 8))), 8, 6)).reshape(-1, 8)
    assert (keep.sum(axis=1) == 2).all()


@pytest.mark.parametrize("pooling, expected", [("average", 2.5), ("max", 4.0)])
def test_blocks_are_ranked_by_their_pool_and_spread_back(pooling, expected):
    values = np.arange(1, 17, dtype="float32").reshape(2, 1, 8)
    scores = to_numpy(core.block_scores(tensor(values), (1, 4), pooling))
    assert scores.shape == (2, 1, 2)
    assert scores[0, 0, 0] == expected
    spread = to_numpy(core.spread_blocks(tensor(scores), (1, 4)))
    assert spread.shape == values.shape
    assert (spread.reshape(2, 1, 2, 4) == scores[..., None]).all()


@pytest.mark.parametrize(
    "shape, outputs, inputs, view",
    [
        ((3, 3, 4, 8), (3,), (2,), (8, 9, 4)),  # Conv2D
        ((4, 8), (1,), (0,), (8, 1, 4)),  # Dense
        ((2, 2, 5, 6), (2,), (3,), (5, 4, 6)),  # Conv2DTranspose
        ((3, 3, 4, 2), (2, 3), (), (8, 9, 1)),  # DepthwiseConv2D
        ((2, 3, 5), (2,), (0, 1), (5, 1, 6)),  # attention_output
    ],
)
def test_the_canonical_view_is_litert_s_and_goes_back(shape, outputs, inputs, view):
    values = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    seen = core.to_canonical(tensor(values), outputs, inputs)
    assert tuple(seen.shape) == view
    assert (to_numpy(core.from_canonical(seen, shape, outputs, inputs)) == values).all()


def test_convolution_s_groups_run_along_the_input_channels():
    values = np.zeros((1, 1, 4, 2), "float32")
    values[0, 0, :, 0] = [4, 3, 2, 1]  # one output channel's four inputs
    values[0, 0, :, 1] = [1, 2, 3, 4]
    seen = core.to_canonical(tensor(values), (3,), (2,))
    keep = core.from_canonical(core.keep_n_of_m(seen, 4, 2), values.shape, (3,), (2,))
    keep = to_numpy(keep)
    assert keep[0, 0, :, 0].tolist() == [True, True, False, False]
    assert keep[0, 0, :, 1].tolist() == [False, False, True, True]


def test_the_global_share_goes_by_magnitude_and_adds_up():
    small, large = np.linspace(0.01, 0.1, 50), np.linspace(1, 2, 50)
    assert core.share_out([small, large], [1, 1], 0.5) == [49, 1]  # one unit stays in each
    assert sum(core.share_out([small, large], [1, 1], 0.37)) == 37


def test_layer_adaptive_scores_are_a_units_part_in_what_stays():
    scores = np.random.default_rng(0).random(30).astype("float32")
    found = core.layer_adaptive(scores)
    for score, adapted in zip(scores.astype("float64"), found, strict=True):
        rest = np.square(scores[scores >= score].astype("float64")).sum()
        assert adapted == pytest.approx(score**2 / rest, rel=1e-6)
    assert found.max() == 1.0
    # The scale of a kernel tells nothing of it.
    np.testing.assert_allclose(core.layer_adaptive(scores * 8), found, rtol=1e-6)
    assert core.layer_adaptive(np.zeros(3)).tolist() == [0, 0, 0]


def test_the_global_share_weighs_units_by_their_size():
    scores = [np.array([1.0, 2, 3, 4]), np.array([10.0, 20])]
    assert core.share_out(scores, [5, 10], 0.5) == [3, 0]  # 15 of 40, since 4 units would be all
