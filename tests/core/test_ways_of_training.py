"""The ways of training that a technique has to stand, and that the check of them can fail."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest

import litesmith as ls
from litesmith.errors import InputError
from litesmith.parametrize import Parametrization
from litesmith.technique import Technique
from litesmith.testing import WAYS, Way, check_training, ways

pytestmark = pytest.mark.every_backend
backend = keras.backend.backend()
HERE = [name for name, way in WAYS.items() if backend in way.backends and name != "fit"]
PRUNE = ls.Prune(sparsity=0.8, schedule=ls.PolynomialDecay(end_step=8, frequency=2))


# torch.compile looks at tensors in ways that it hides its own warnings of, if they are no errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("way", HERE)
def test_pruning_keeps_its_promise_however_the_model_is_trained(way):
    kinds = ["sequential", "custom layer"]
    if way == "loop":
        kinds.append("shared layer")
    elif way == "jit_compile" and backend == "torch":  # compiling takes its time
        kinds = ["shared layer"]
    check_training(PRUNE, ways=[way], kinds=kinds)


def test_the_weights_that_are_not_used_may_learn_in_each_way():
    technique = dataclasses.replace(PRUNE, gradient="dense", granularity=ls.PerBlock(4))
    check_training(technique, ways=["train_step", "loop"], kinds=["sequential"])


def broken_by(monkeypatch, way, technique=PRUNE, kind="shared layer"):
    monkeypatch.setitem(WAYS, way.name, way)
    with pytest.raises(AssertionError) as caught:
        check_training(technique, ways=[way.name], kinds=[kind])
    return str(caught.value)


def test_a_way_that_trains_nothing_is_found_out(monkeypatch):
    text = broken_by(monkeypatch, Way("nothing", lambda model, kind: None))
    assert "twice/kernel did not move" in text
    assert "counted 0 steps, not 12" in text
    assert "pruning was to end at step 8, counted from 0, training after 0 steps" in text
    assert "0 zeros where 51 were asked" in text
    assert "100.0% off where fit brings it" in text


def test_a_way_that_goes_elsewhere_than_fit_is_found_out(monkeypatch):
    def other(model, kind):
        x, y = kind.data()
        model.compile(keras.optimizers.SGD(0.06), "sparse_categorical_crossentropy")
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)

    lines = broken_by(monkeypatch, Way("faster", other)).splitlines()[1:]
    assert lines
    assert all("off where fit brings it" in line for line in lines)


def test_a_frozen_weight_that_moves_is_found_out(monkeypatch):
    def wrong(model, kind):
        ways._fit(model, kind)
        frozen = model.get_layer("frozen").kernel
        frozen.assign(frozen + 1.0)

    assert "frozen/kernel is frozen, and moved" in broken_by(
        monkeypatch, Way("wrong", wrong), kind="functional"
    )


@keras.saving.register_keras_serializable("litesmith_tests")
class Forgetful(Parametrization):
    """Counts in Python, which a compiled step does once; changes what strip takes for final."""

    def create_state(self):
        self.count = 0

    def transform(self, weight, training):
        self.count += training
        return weight if training else weight * (1.0 + 1e-3 * self.built_for_strip())

    def built_for_strip(self):
        self.calls = getattr(self, "calls", 0) + 1
        return self.calls

    def progress(self):
        return {"steps": self.count}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forget(Technique):
    name = "forget"

    def parametrization(self, plan, name, calls_per_step):
        return Forgetful(name=name, shape=plan.kernel.shape, calls_per_step=calls_per_step)

    def broken_promise(self, values, plan, *, finished):
        return None


def test_state_outside_of_the_graph_is_found_out():
    with pytest.raises(AssertionError) as caught:
        check_training(Forget(), ways=["fit"], kinds=["sequential"])
    text = str(caught.value)
    assert "strip changes predictions by" in text
    assert ("steps, not 12" in text) == (backend != "torch")  # torch runs Python at each step


def test_state_that_differs_between_devices_is_found_out(monkeypatch):
    class Own:
        two_devices = contextlib.nullcontext

        @staticmethod
        def on_each_device(variable):
            value = keras.ops.convert_to_numpy(variable).astype("float32")
            return (
                [value] if "count" in variable.path else [value, value + ("mask" in variable.path)]
            )

    monkeypatch.setattr(ways, "_own", lambda: Own)
    prepared = ls.prepare(ways.KINDS["shared layer"].make(), PRUNE)
    found = list(ways._unequal(prepared, Way("two", ways._fit, devices=2)))
    assert sum("mask differs between devices" in line for line in found) == 2
    assert sum("count is on 1 devices, not 2" in line for line in found) == 2
    assert len(found) == 4
    assert not list(ways._unequal(prepared, Way("one", ways._fit)))


def test_a_way_that_the_backend_lacks_is_an_error():
    lacking = next(name for name, way in WAYS.items() if backend not in way.backends)
    with pytest.raises(InputError, match=f"one that Keras has on {backend}, received"):
        check_training(PRUNE, ways=[lacking])
    with pytest.raises(InputError, match="did you mean 'loop'"):
        check_training(PRUNE, ways=["lop"])


def test_values_are_copies():
    prepared = ls.prepare(ways.KINDS["shared layer"].make(), PRUNE)
    before = ways._values(prepared)
    prepared.weights[0].assign(prepared.weights[0] + 1.0)
    assert not np.array_equal(before[0], ways._values(prepared)[0])
