"""TensorBoard's event files say how far each technique has come."""

import keras
import numpy as np
import pytest

import litesmith as ls

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def small():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, name="one"), keras.layers.Dense(4, name="two")]
    )


def points(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    read = EventAccumulator(str(folder))
    read.Reload()
    return {
        tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in read.Tensors(tag)]
        for tag in read.Tags()["tensors"]
    }


@pytest.mark.every_backend
def test_the_event_files_follow_training(tmp_path):
    schedule = ls.PolynomialDecay(end_step=8, frequency=1)
    recipe = ls.Recipe(ls.Prune(sparsity=0.5, schedule=schedule), ls.Cluster(clusters=4))
    prepared = ls.prepare(small(), recipe)
    prepared.compile("adam", "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)).astype("float32"), rng.normal(size=(64, 4)).astype("float32")
    prepared.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[ls.Summaries(tmp_path)])
    found = points(tmp_path)
    names = {
        f"litesmith/{layer}/kernel/{what}"
        for layer in ("one", "two")
        for what in ("sparsity", "clusters_used")
    }
    assert set(found) == names
    sparsity = found["litesmith/one/kernel/sparsity"]
    assert [step for step, _ in sparsity] == [0, 1, 2]
    values = [value for _, value in sparsity]
    assert 0 < values[0] < values[1] <= values[2] == 0.5
    assert all(1 <= value <= 4 for _, value in found["litesmith/two/kernel/clusters_used"])


@pytest.mark.every_backend
def test_the_event_files_follow_ranges(tmp_path):
    prepared = ls.prepare(small(), ls.Quantize(weights=4))
    prepared.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)).astype("float32"), rng.normal(size=(64, 4)).astype("float32")
    writer = ls.Summaries(tmp_path, metrics=True)
    history = prepared.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[writer]).history
    found = points(tmp_path)
    tails = {name.rpartition("/")[2] for name in found if name.startswith("litesmith/")}
    assert tails == {"scale", "range_low", "range_high"}
    assert {"litesmith/one/kernel/scale", "litesmith/two/kernel/scale"} < set(found)
    assert "litesmith/two/output/range_high" in found
    for name, values in found.items():
        if name.endswith("/range_low"):
            highs = found[name.replace("range_low", "range_high")]
            assert [step for step, _ in values] == [0, 1, 2]
            assert all(low < 0 < high for (_, low), (_, high) in zip(values, highs, strict=True))
    first = [name for name in found if name.startswith("litesmith/one/input/")]
    assert len(first) == 2  # the range of what goes in, which the data tells
    assert found["litesmith/one/input/range_high"][-1][1] == pytest.approx(x.max(), rel=0.4)
    moved = [value for _, value in found["litesmith/two/output/range_high"]]
    assert len(set(moved)) == 3
    assert [value for _, value in found["epoch/mae"]] == pytest.approx(history["mae"], rel=1e-5)


def test_a_model_that_was_not_prepared_is_told():
    model = small()
    model.compile("adam", "mse")
    with pytest.raises(ls.ModelError, match="call prepare"):
        model.fit(
            np.zeros((4, 8)), np.zeros((4, 4)), verbose=0, callbacks=[ls.Summaries("nowhere")]
        )
