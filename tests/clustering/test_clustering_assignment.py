"""Assignments by what they do to a layer's outputs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.clustering import assignment, moments
from litesmith.clustering.initialization import choose
from litesmith.errors import DataError
from litesmith.export import flatbuffer

RNG = np.random.default_rng(0)


def _book(weights, clusters, groups=None, **masks):
    groups = np.zeros(weights.shape[1], int) if groups is None else groups
    tables = np.stack(
        [choose(weights[:, groups == g], clusters, "optimal") for g in range(groups.max() + 1)]
    )
    index = np.abs(weights[..., None] - tables[groups][None]).argmin(-1)
    return assignment.Book(
        weights,
        index,
        tables,
        groups,
        masks.get("fixed", np.zeros(weights.shape, bool)),
        masks.get("pinned", np.zeros(tables.shape, bool)),
    )


def _alike(rows, count=1):
    """Second moments of inputs that are much alike."""
    base = RNG.normal(size=(count, 400, 1)) + 0.3 * RNG.normal(size=(count, 400, rows))
    return (np.swapaxes(base, 1, 2) @ base / 400).astype(np.float32)


def _change(book, weights, h):
    error = book.used() - weights
    return sum(error[:, n] @ h[n if len(h) > 1 else 0] @ error[:, n] for n in range(error.shape[1]))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_outputs_change_less_than_with_the_nearest(apart, groups):
    weights = RNG.normal(size=(70, 12)).astype(np.float32)
    book = _book(weights, 8, np.arange(12) % groups)
    h = _alike(70, 12 if apart else 1)
    nearest = _change(book, weights, h)
    before, after = assignment.settle(book, [np.arange(70)], [h])
    # What is added to H's diagonal is part of what it tells.
    assert before == pytest.approx(nearest, rel=0.2) and after < 0.4 * before
    assert _change(book, weights, h) < 0.4 * nearest
    assert (np.diff(book.tables) >= 0).all() and book.tables.shape == (groups, 8)
    for column in range(12):
        assert set(book.used()[:, column]) <= set(book.tables[column % groups])


def test_inputs_that_are_nothing_alike_give_the_nearest():
    weights = RNG.normal(size=(40, 6)).astype(np.float32)
    book = _book(weights, 8)
    near = book.index.copy()
    before, after = assignment.settle(book, [np.arange(40)], [np.eye(40, dtype=np.float32)[None]])
    assert after == pytest.approx(before) and (book.index == near).all()


def test_zeros_and_pinned_centroids_stay():
    weights = RNG.normal(size=(30, 5)).astype(np.float32)
    weights[RNG.random(weights.shape) < 0.5] = 0
    book = _book(weights, 5, fixed=weights == 0)
    assignment.settle(book, [np.arange(10), np.arange(10, 30)], [_alike(10), _alike(20)])
    assert ((book.used() == 0) == (weights == 0)).all()
    book = _book(weights, 5)
    book.tables[0, 2] = 0
    book.tables.sort()
    book.pinned = book.tables == 0
    assignment.settle(book, [np.arange(30)], [_alike(30)])
    assert (book.tables == 0).sum() == 1


def test_many_centroids_keep_their_values():
    weights = RNG.normal(size=(64, 20)).astype(np.float32)
    book = _book(weights, 64)
    tables = book.tables.copy()
    before, after = assignment.settle(book, [np.arange(64)], [_alike(64)])
    assert after < before and (book.tables == tables).all()


KINDS = {
    "dense": (layers.Dense(3), (7,)),
    "sequence": (layers.Dense(3), (5, 4)),
    "conv1d": (layers.Conv1D(3, 3, padding="causal", dilation_rate=2), (9, 2)),
    "conv2d": (layers.Conv2D(3, (3, 2), strides=2, padding="same"), (8, 7, 2)),
    "valid": (layers.Conv2D(3, 3, dilation_rate=2), (9, 8, 2)),
    "conv3d": (layers.Conv3D(2, 2, padding="same"), (4, 4, 4, 2)),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), (6, 6, 3)),
    "depthwise1d": (layers.DepthwiseConv1D(3, strides=2), (9, 3)),
}


@pytest.mark.every_backend
def test_moments_tell_how_outputs_change(monkeypatch):
    monkeypatch.setattr(moments, "_LEAST_ROWS", 10**9)  # every window
    for kind, (layer, shape) in KINDS.items():
        x = RNG.normal(size=(6, *shape)).astype(np.float32) + 1
        layer.build((None, *shape))
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        form = moments.form_of(layer, kernel.shape)
        found = moments.Moments(layer, form)
        found.expect(len(x))
        found.add(x[:4])
        found.add(x[4:])
        (h,) = found.covariances()
        change = RNG.normal(size=kernel.shape).astype(np.float32)
        first = keras.ops.convert_to_numpy(layer(x))
        layer.kernel.assign(kernel + change)
        moved = (keras.ops.convert_to_numpy(layer(x)) - first).reshape(-1, first.shape[-1])
        error = form.matrix(change)
        told = [error[:, n] @ h[n if len(h) > 1 else 0] @ error[:, n] for n in range(len(error.T))]
        np.testing.assert_allclose(told, moved.var(axis=0), rtol=2e-3, err_msg=kind)


def test_what_is_not_followed():
    for layer in (layers.Conv2DTranspose(3, 3), layers.Conv2D(4, 3, groups=2)):
        layer.build((None, 8, 8, 4))
        assert moments.form_of(layer, layer.kernel.shape) is None


def _network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((10, 10, 1)),
            layers.Conv2D(12, 3, use_bias=False),
            layers.BatchNormalization(gamma_initializer=keras.initializers.RandomUniform(-2, 2)),
            layers.ReLU(),
            layers.DepthwiseConv2D(3),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dense(5),
        ]
    )
    # Neighbours in a picture are much alike.
    x = np.cumsum(np.cumsum(RNG.normal(size=(64, 10, 10, 1)), 1), 2).astype(np.float32) / 5
    model(x, training=True)
    return model, x


@pytest.mark.every_backend
def test_calibration_data_choose_assignments(tmp_path):
    model, x = _network()
    given = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    cluster = ls.Cluster(clusters=6, where=".*")
    reference = model.predict(x, verbose=0)

    def far(prepared):
        return float(np.square(prepared.predict(x, verbose=0) - reference).mean())

    plain, informed = ls.prepare(model, cluster), ls.prepare(model, cluster, calibration=x)
    assert far(informed) < 0.5 * far(plain)
    for before, after in zip(given, model.weights, strict=True):
        np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(after))
    # They stay while it trains, and hold in the file.
    informed.compile(keras.optimizers.SGD(1e-3), "mse")
    informed.fit(x, reference, epochs=3, verbose=0)
    small = ls.strip(informed)
    artifact = ls.export(small, tmp_path / "small.tflite")
    assert max(kernel.unique for kernel in artifact.manifest.kernels) <= 6
    tensors = flatbuffer.read((tmp_path / "small.tflite").read_bytes()).constants()
    assert sum(tensor.unique <= 6 and tensor.size > 50 for tensor in tensors) == 3


def test_pruned_zeros_are_no_ones_value():
    model, x = _network()
    recipe = ls.Recipe(ls.Prune(sparsity=0.5, where=".*"), ls.Cluster(clusters=4, where=".*"))
    small = ls.strip(ls.prepare(model, recipe, calibration=x))
    for kernel in (layer.kernel for layer in small.layers if hasattr(layer, "kernel")):
        values = keras.ops.convert_to_numpy(kernel)
        assert (values == 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 9, 10, 1), np.float32), "expected samples that model"),
        (np.full((4, 10, 10, 1), np.nan, np.float32), "expected finite numbers"),
    ],
)
def test_wrong_calibration_data(data, message):
    model, _ = _network()
    with pytest.raises(DataError, match=message):
        ls.prepare(model, ls.Cluster(clusters=4), calibration=data)
