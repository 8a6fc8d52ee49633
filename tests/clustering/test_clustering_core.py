"""Clustering's math: initializations, nearest centroids, means of members."""

import keras
import numpy as np
import pytest

import litesmith as ls
from litesmith.clustering import core
from litesmith.clustering.initialization import INITIALIZATIONS, choose, lloyd
from litesmith.errors import RecipeError

to_numpy = keras.ops.convert_to_numpy
NORMAL = np.random.default_rng(0).normal(size=200_000).astype("float32")


def error(values, centroids):
    middles = (centroids[1:] + centroids[:-1]) / 2
    return float(((values - centroids[np.searchsorted(middles, values)]) ** 2).mean())


def test_the_default_is_the_best_quantizer_of_a_gaussian():
    # Max (1960): the optimum for 16 levels is 0.009497.
    assert error(NORMAL, choose(NORMAL, 16, "optimal")) <= 0.0097


def test_the_default_is_optimal_where_lloyd_gets_stuck():
    # Three far-off points: from evenly spaced starts Lloyd leaves centroids empty.
    values = np.concatenate([np.linspace(-1, 1, 500), [50.0, 50.1, 99.0]])
    found = choose(values, 8, "optimal")
    stuck = lloyd(np.sort(values), np.linspace(values.min(), values.max(), 8))
    assert error(values, found) < 0.2 * error(values, stuck)


def test_small_cases_are_exact():
    found = choose([0, 0, 1, 1, 10, 10, 11], 3, "optimal")
    assert found.tolist() == pytest.approx([0, 1, 31 / 3])
    rng = np.random.default_rng(3)
    values = np.sort(rng.normal(size=9))
    best = min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(values, [i, j]))
        for i in range(1, 8)
        for j in range(i + 1, 9)
    )
    assert 9 * error(values, choose(values, 3, "optimal")) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("how", sorted(INITIALIZATIONS))
@pytest.mark.parametrize("clusters", [2, 64])
def test_as_many_distinct_centroids_as_asked(how, clusters):
    # tfmot's density gives 20 of 64; half of these values are one and the same.
    values = np.concatenate([np.zeros(5000), NORMAL[:5000]])
    found = choose(values, clusters, how)
    assert found.shape == (clusters,) and found.dtype == np.float32
    assert len(np.unique(found)) == clusters
    assert (np.diff(found) > 0).all()


def test_fewer_distinct_values_than_clusters_are_kept_as_they_are():
    assert choose([3.0, 1.0, 1.0], 4, "linear").tolist() == [1, 3, 3, 3]


@pytest.mark.every_backend
@pytest.mark.parametrize("clusters", [2, 3, 16, 100, 256])
def test_the_nearest_centroid_is_found(clusters):
    rng = np.random.default_rng(clusters)
    table = np.sort(rng.normal(size=(3, clusters)).astype("float32"), axis=1)
    values = rng.normal(size=(7, 6)).astype("float32")
    ids = np.arange(6, dtype=np.int32)[None] // 2
    index = to_numpy(core.nearest(keras.ops.convert_to_tensor(values), table, ids))
    rows = np.broadcast_to(ids, values.shape)
    expected = np.abs(table[rows] - values[..., None]).argmin(-1)
    assert (index == expected).all()
    gathered = to_numpy(core.gather(keras.ops.convert_to_tensor(table), index, ids))
    assert (gathered == table[rows, expected]).all()


@pytest.mark.every_backend
@pytest.mark.parametrize("clusters", [2, 16, 256])
def test_walking_ends_at_the_nearest_centroid(clusters):
    rng = np.random.default_rng(clusters)
    tensor = keras.ops.convert_to_tensor
    table = np.sort(rng.normal(size=(3, clusters)).astype("float32"), axis=1)
    values = tensor(rng.normal(size=(7, 6)).astype("float32"))
    ids = np.arange(6, dtype=np.int32)[None] // 2
    expected = to_numpy(core.nearest(values, tensor(table), ids))
    index = rng.integers(0, clusters, (7, 6)).astype("uint8")
    farthest = np.abs(index.astype(int) - expected).max()
    for _ in range(farthest):
        before, index = (
            index,
            to_numpy(core.walk(values, core.edges(tensor(table)), tensor(index), ids)),
        )
        assert np.abs(index.astype(int) - before).max() == 1
    assert (index == expected).all()


@pytest.mark.every_backend
def test_repeated_centroids_are_not_chosen():
    table = np.array([[1, 3, 3, 3]], "float32")
    values = keras.ops.convert_to_tensor(np.array([0.0, 2.9, 9.0], "float32"))
    index = to_numpy(core.nearest(values, keras.ops.convert_to_tensor(table), np.zeros(1, "int32")))
    assert table[0, index].tolist() == [1, 3, 3]


@pytest.mark.every_backend
def test_means_of_members_and_empty_clusters():
    values = keras.ops.convert_to_tensor(np.array([[1, 2], [3, 10]], "float32"))
    index = np.array([[0, 0], [2, 1]], "uint8")
    ids = np.array([[0, 1]], np.int32)
    sums = core.member_sums(values, index, ids, (2, 3))
    counts = core.member_sums(keras.ops.ones_like(values), index, ids, (2, 3))
    before = np.full((2, 3), -7, "float32")
    assert to_numpy(core.means(sums, counts, before)).tolist() == [[1, -7, 3], [2, 10, -7]]


def test_group_ids_follow_output_channels():
    ids, groups = core.group_ids((3, 3, 4, 5), (3,), 2)
    assert groups == 3 and ids.shape == (1, 1, 1, 5) and ids.ravel().tolist() == [0, 0, 1, 1, 2]
    ids, groups = core.group_ids((3, 3, 4, 2), (2, 3), 1)  # depthwise
    assert groups == 8 and ids.shape == (1, 1, 4, 2)


@pytest.mark.parametrize(
    "field, message",
    [
        ({"clusters": 1}, "clusters: expected a whole number from 2 to 256"),
        ({"clusters": 257}, "received 257"),
        ({"initialization": "best"}, "initialization: expected 'optimal' or"),
        ({"assignment": "soft"}, "assignment: expected 'nearest' or 'fixed'"),
        ({"frequency": 0}, "frequency"),
        ({"preserve_zeros": 1}, "preserve_zeros: expected True or False"),
        ({"granularity": ls.NOfM(2, 4)}, "granularity: expected PerTensor()"),
        ({"granularity": ls.PerChannel(-2)}, "granularity: expected PerTensor()"),
    ],
)
def test_what_it_cannot_be(field, message):
    with pytest.raises(RecipeError) as caught:
        ls.Cluster(**{"clusters": 16, **field})
    assert message in str(caught.value)


def test_a_recipe_goes_through_files():
    recipe = ls.Recipe(
        ls.Cluster(clusters=8, granularity=ls.PerChannelGroup(4), initialization="linear"),
        ls.Cluster(clusters=16, where="head", assignment="fixed", preserve_zeros=True),
    )
    assert ls.Recipe.from_json(recipe.to_json()) == recipe
    assert ls.Recipe.from_toml(recipe.to_toml()) == recipe
