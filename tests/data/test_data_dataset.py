import json

import keras
import numpy as np
import pytest

from litesmith.data import Dataset, Split, load
from litesmith.data.splitting import complete, hold_back
from litesmith.data.validation import check
from litesmith.errors import DataError

X = np.arange(40, dtype=np.float32).reshape(10, 4)
Y = np.arange(10) % 2


def dataset(**changes):
    fields = {"train": Split(X, Y), "validation": Split(X, Y), "test": Split(X, Y)}
    return Dataset("made", **{**fields, **changes})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.1, 0.33, 0.5])
def test_holding_back_is_stratified_exact_and_complete(share, seed):
    y = np.repeat([0, 1, 2], [600, 90, 10])
    x = np.arange(700)
    kept, held = hold_back(Split(x, y), share, seed, "validation")
    assert len(held) == round(700 * share)
    assert sorted([*kept.x, *held.x]) == list(x)
    np.testing.assert_array_less(
        abs(np.bincount(held.y, minlength=3) - share * 700 * np.array([600, 90, 10]) / 700), 1.5
    )


def test_holding_back_follows_the_seed():
    first, again, other = (hold_back(Split(X, Y), 0.3, seed, "")[1].x for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_hot_labels_are_stratified_and_regression_works():
    y = np.eye(2)[np.repeat([0, 1], [80, 20])]
    held = hold_back(Split(np.arange(100), y), 0.1, 0, "validation")[1]
    assert held.y.sum(axis=0).tolist() == [8, 2]
    values = np.linspace(0, 1, 100)
    assert len(hold_back(Split(values, values), 0.1, 0, "validation")[1]) == 10


def test_validation_never_touches_the_test_split_and_the_test_split_never_moves():
    x = np.arange(1000)
    sets = [complete("", Split(x, x % 7), None, None, share=0.2, seed=seed) for seed in (0, 1)]
    for one in sets:
        parts = [set(split.x) for split in one.splits.values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 1000
    np.testing.assert_array_equal(sets[0].test.x, sets[1].test.x)
    assert not np.array_equal(sets[0].validation.x, sets[1].validation.x)
    assert "no test split: 200 samples (20%)" in sets[0].notes[0]


def test_too_few_samples_to_divide():
    with pytest.raises(DataError, match=r"validation: expected samples on both sides.* 0 of 3"):
        hold_back(Split(X[:3], Y[:3]), 0.1, 0, "validation")


def test_take_spreads_over_the_split():
    y = np.repeat(np.arange(5), 20)
    taken = Split(np.arange(100), y).take(10)
    assert np.bincount(taken.y).tolist() == [2] * 5
    assert len(Split(X, Y).take(99)) == 10
    with pytest.raises(DataError, match="take: expected at least one sample, received 0"):
        Split(X, Y).take(0)


@pytest.mark.every_backend
def test_keras_trains_on_every_sample_once_an_epoch_in_a_seeded_order():
    class Sees(keras.layers.Layer):
        def call(self, x):
            return x

    def orders(seed, epochs=2):
        data = Split(X[:, :1], Y).keras(4, shuffle=True, seed=seed)
        seen = []
        for _ in range(epochs):
            seen.append([float(v) for i in range(len(data)) for v in data[i][0][:, 0]])
            data.on_epoch_end()
        return seen

    first = orders(3)
    assert [sorted(one) for one in first] == [X[:, 0].tolist()] * 2
    assert first[0] != first[1] and first == orders(3) and first != orders(4)

    def trained(seed):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1e-4), "mse")
        model.fit(Split(X, Y).keras(3, True, seed), epochs=3, verbose=0)
        return model.get_weights()[0]

    np.testing.assert_array_equal(trained(1), trained(1))
    assert not np.array_equal(trained(1), trained(2))


@pytest.mark.every_backend
def test_keras_takes_dicts_and_splits_without_labels():
    data = Split({"a": X, "b": X}, Y).keras(4)
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Add()(list(inputs.values()))))
    model.compile("sgd", "mse")
    model.fit(data, verbose=0)
    assert model.predict(Split({"a": X, "b": X}).keras(4), verbose=0).shape == (10, 1)


def test_a_summary_is_json_and_its_hash_follows_the_content():
    digits = load("digits").summary()
    assert json.loads(json.dumps(digits)) == digits
    assert digits["sizes"] == {"train": 1258, "validation": 180, "test": 359}
    assert digits["input_shape"] == [8, 8, 1] and digits["classes"] == 10
    first, changed = X.copy(), X.copy()
    changed[3, 3] += 1
    hashes = {dataset(test=Split(one, Y)).summary()["sha256"] for one in (first, X, changed)}
    assert len(hashes) == 2
    assert dataset(train=Split({"a": X}, Y)).summary()["input_shape"] == {"a": [4]}


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (Y, 2),
        (Y[:, None], 2),
        (np.eye(3)[Y], 3),
        (Y.astype(np.float32), None),
        (None, None),
        (X[:, :2], None),
    ],
)
def test_number_of_classes(y, classes):
    splits = [Split(X, y)] * 3
    assert Dataset("", *splits).num_classes == classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": Split(X[:0], Y[:0])}, "made, test: expected at least one sample, received none"),
        ({"train": Split(X, Y[:4])}, r"as many labels as samples \(10\), received 4 labels"),
        ({"test": Split(X[:, :2], Y)}, r"training's shape \(4,\), received \(2,\)"),
        ({"test": Split(X)}, "labels in every split or in none"),
        (
            {"train": Split(np.where(X == 9, np.nan, X), Y)},
            "received nan in sample 2",
        ),
        ({"test": Split(np.where(X == 9, np.inf, X), Y)}, "test, x: .* received inf in sample 2"),
        ({"validation": Split(X, np.where(Y, np.nan, 0.0))}, "validation, y: .* received nan"),
        ({"train": Split(X, Y - 1)}, "train labels: expected classes 0….* received -1; count"),
        ({"test": Split(X, Y + 5)}, "test labels: expected classes 0…1, received 6; see that"),
        ({"train": Split(X, Y + 1), "classes": ("a", "b")}, "classes 0…1, received 2"),
        (
            {"train": Split({"a": X, "b": X[:2]}, Y)},
            "samples in every input, received 2",
        ),
        ({"train": Split(np.array([["a"]] * 10), Y)}, "expected numbers, received values of type"),
    ],
)
def test_what_is_wrong_with_data_is_one_line(changes, message):
    with pytest.raises(DataError, match=message) as error:
        check(dataset(**changes))
    assert "\n" not in str(error.value)


def test_sound_data_passes():
    assert check(dataset()).name == "made"
