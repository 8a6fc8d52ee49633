"""What a codebook keeps, zeros it keeps, and how its members walk while training."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.clustering.parametrization import Codebook
from litesmith.parametrize import find_kernels, holder_of
from tests.clustering.small import chain, norm

to_numpy = keras.ops.convert_to_numpy
RNG = np.random.default_rng(5)


@pytest.mark.every_backend
def test_state_is_a_byte_a_weight_and_small_tables():
    model = chain((6, 6, 4), layers.Conv2D(6, 3), norm())
    prepared = ls.prepare(model, ls.Cluster(clusters=16))
    (book,) = holder_of(prepared.layers[1]).links
    assert isinstance(book, Codebook)
    sizes = {str(v.dtype): int(np.prod(v.shape)) for v in book.variables}
    assert sizes == {"uint8": 3 * 3 * 4 * 6, "float16": 16, "float32": 1, "int32": 1}
    assert book.progress() == {"clusters_used": 16, "steps": 0}


@pytest.mark.every_backend
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e9])
def test_tables_of_any_size_are_kept_in_two_bytes_a_centroid(scale):
    keras.utils.set_random_seed(3)
    model = chain((16,), layers.Dense(16))
    kernel = np.random.default_rng(0).normal(0, scale, (16, 16)).astype("float32")
    kernel[0, :4] = 1e-7 * scale  # next to nothing beside the largest, and not zero
    kernel[1, :4] = 0.0
    model.layers[-1].kernel.assign(kernel)
    technique = ls.Cluster(clusters=200, preserve_zeros=True, frequency=1)
    prepared = ls.prepare(model, technique)
    prepared(np.zeros((1, 16), "float32"), training=True)
    used = find_kernels(ls.strip(prepared))[0].value()
    assert ((used == 0) == (kernel == 0)).all() and len(np.unique(used)) <= 200
    assert np.abs(used - kernel).max() <= 0.02 * np.abs(kernel).max()


def test_zeros_of_a_pruned_kernel_stay_and_none_is_added():
    model = chain((16,), layers.Dense(16), layers.Dense(4))
    recipe = ls.Recipe(ls.Prune(sparsity=0.6), ls.Cluster(clusters=4))
    prepared = ls.prepare(model, recipe)
    prepared(np.zeros((1, 16), "float32"), training=True)
    stripped = ls.strip(prepared)
    for kernel, share in zip(find_kernels(stripped), (154, 38), strict=True):
        values = kernel.value()
        assert (values == 0).sum() == share and len(np.unique(values)) <= 4


def test_a_zero_on_request():
    model = chain((16,), layers.Dense(16))
    prepared = ls.prepare(model, ls.Cluster(clusters=4, preserve_zeros=True))
    assert 0.0 in np.unique(find_kernels(ls.strip(prepared))[0].value())
    kernel = find_kernels(model)[0]
    value = kernel.value().copy()
    value[:8] = 0
    kernel.variable.assign(value)
    prepared = ls.prepare(model, ls.Cluster(clusters=4, preserve_zeros=True))
    prepared.compile(keras.optimizers.Adam(0.1), "mse")
    prepared.fit(RNG.normal(size=(32, 16)), RNG.normal(size=(32, 16)), epochs=3, verbose=0)
    used = find_kernels(ls.strip(prepared))[0].value()
    assert (used[:8] == 0).all() and (used[8:] != 0).all()


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "options, expected",
    [({}, [1, 2, 3]), ({"assignment": "fixed"}, [0, 0, 0]), ({"freeze": 3}, [1, 2, 2])],
)
def test_weights_walk_from_centroid_to_centroid(options, expected):
    model = chain((16,), layers.Dense(8))
    technique = ls.Cluster(clusters=4, frequency=1000, **options)
    prepared = ls.prepare(model, technique)
    (dense,) = [layer for layer in prepared.layers if layer.weights]
    (book,) = holder_of(dense).links
    prepared(np.zeros((1, 16), "float32"), training=True)  # step 0: the means
    table = to_numpy(book.centroids)[0]
    means = to_numpy(dense.kernel).ravel(), to_numpy(book.index).ravel()
    means = [means[0][means[1] == number].mean() for number in range(4)]
    assert np.allclose(table * to_numpy(book.size)[0], means, rtol=2**-11, atol=0)
    dense.kernel.assign(np.full((16, 8), 99.0))
    seen = []
    for _ in range(3):
        prepared(np.zeros((1, 16), "float32"), training=True)
        seen.append(int(to_numpy(book.index).min()))
    assert seen == expected
    assert (to_numpy(book.centroids)[0] == table).all()


def test_a_study_freezes_assignments_half_way_and_those_of_few_clusters_later():
    for clusters, step in {2: 80, 4: 80, 5: 50, 256: 50}.items():
        recipe = ls.Recipe(ls.Cluster(clusters=clusters)).laid_out(100)
        assert recipe.techniques[0].freeze == step
    assert ls.Recipe(ls.Cluster(clusters=4, freeze=7)).laid_out(100).techniques[0].freeze == 7
