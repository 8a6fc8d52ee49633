"""The count of training calls: a number where operators run one by one, a tensor elsewhere."""

import copy

import keras
import numpy as np
import pytest
from keras import layers, ops

import litesmith as ls
from litesmith.parametrize import counting, holder_of
from litesmith.schedules import PolynomialDecay, Schedule

pytestmark = pytest.mark.every_backend

TORCH = keras.backend.backend() == "torch"


@pytest.fixture
def count():
    return keras.Variable(0, dtype="int32", trainable=False)


def value(variable):
    return int(ops.convert_to_numpy(variable))


def test_it_counts(count):
    for number in range(3):
        before = counting.calls(count)
        assert isinstance(before, int) == TORCH
        assert int(before) == number
        counting.counted(count, before)
        assert value(count) == number + 1


def test_what_others_write_is_seen(count):
    counting.counted(count, counting.calls(count))
    count.assign(41)
    assert int(counting.calls(count)) == 41
    counting.counted(count, counting.calls(count))
    assert value(count) == 42
    other = keras.Variable(7, dtype="int32", trainable=False)
    with keras.StatelessScope([(count, other.value)]) as scope:
        counting.counted(count, counting.calls(count))
        assert int(counting.calls(count)) == 8
    assert int(scope.get_current_value(count)) == 8
    assert int(counting.calls(count)) == value(count) == 42


@pytest.mark.parametrize("number", [0, 5, 6, 12])
def test_conditions_of_numbers_are_those_of_tensors(number):
    schedule = PolynomialDecay(begin_step=2, end_step=12, frequency=4)
    tensor = ops.convert_to_tensor(number, "int32")
    for what in (
        lambda n: counting.same(n, 6),
        lambda n: counting.divides(3, n),
        lambda n: counting.both(n > 3, n < 9),
        lambda n: counting.either(n < 3, n > 9),
        lambda n: counting.choose(n < 6, lambda: ops.ones(()), lambda: ops.zeros(())),
        schedule.due,
        schedule.fraction,
    ):
        assert float(what(number)) == float(what(tensor))
    assert isinstance(schedule.due(number), bool)


@pytest.mark.skipif(not TORCH, reason="only PyTorch runs operator by operator in training")
@pytest.mark.parametrize(
    "recipe",
    [ls.Prune(sparsity=0.5), ls.Cluster(clusters=4), ls.Quantize(weights=4)],
)
def test_no_step_waits_for_the_device(recipe, monkeypatch):
    import torch

    model = keras.Sequential([layers.Input((6,)), layers.Dense(8), layers.Dense(2)])
    prepared = ls.prepare(model, recipe, steps=100)
    x = ops.convert_to_tensor(np.random.default_rng(0).random((4, 6), np.float32))
    prepared(x, training=True)  # the first one reads what was loaded
    asked = []
    for name in (
        "item",
        "__int__",
        "__bool__",
        "__float__",
        "__index__",
        "cpu",
        "numpy",
        "tolist",
        "nonzero",
    ):
        own = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda *a, own=own, name=name: (asked.append(name), own(*a))[1]
        )
    for _ in range(3):
        prepared(x, training=True)
    assert not asked
    monkeypatch.undo()
    (_, chain), *_ = holder_of(prepared.layers[0]).chains()
    assert value(chain[0].count) == 4


def test_what_is_remembered_is_made_anew_after_a_write():
    made = []
    table = keras.Variable([1.0, 2.0], trainable=False)

    def double():
        made.append(0)
        return ops.convert_to_tensor(table) * 2

    remembered = counting.Remembered(double, [table])
    for _ in range(3):
        assert ops.convert_to_numpy(remembered()).tolist() == [2, 4]
    assert len(made) == (1 if TORCH else 3)
    assert (remembered.known() is None) == (not TORCH)
    table.assign([3.0, 4.0])
    assert ops.convert_to_numpy(remembered()).tolist() == [6, 8]
    with keras.StatelessScope([(table, ops.convert_to_tensor([5.0, 6.0]))]):
        assert ops.convert_to_numpy(remembered()).tolist() == [10, 12]
    assert ops.convert_to_numpy(remembered()).tolist() == [6, 8]


def test_a_copied_variable_is_asked_itself(count):
    for _ in range(2):
        counting.counted(count, counting.calls(count))
    twin = copy.deepcopy(count)
    for _ in range(2):
        twin.assign(0)
    assert int(counting.calls(twin)) == 0
    if TORCH:
        count.value.data = ops.convert_to_tensor(30, "int32")
        assert counting.calls(count) == 30


class EveryOther(Schedule):
    """What somebody wrote for a tensor: of a bool `~` would be −2."""

    name = "every-other"

    def due(self, step):
        return ops.logical_and(step >= 1, ~(step % 2 == 0))

    def fraction(self, step):
        return ops.cast(step, "float32") / 5


def test_schedules_from_elsewhere_are_given_tensors():
    dense = layers.Dense(10, use_bias=False)
    model = keras.Sequential([layers.Input((10,)), dense])
    schedule = EveryOther()
    prepared = ls.prepare(model, ls.Recipe(ls.Prune(sparsity=0.5, schedule=schedule)), steps=9)
    (_, (mask,)), *_ = holder_of(prepared.layers[0]).chains()
    found = []
    for _ in range(7):
        prepared(ops.ones((1, 10)), training=True)
        found.append(round(mask.progress()["sparsity"], 2))
    assert found == [0.0, 0.1, 0.1, 0.3, 0.3, 0.5, 0.5]
