"""Techniques one after the other: every subset, in one run and in stages; what order refuses."""

import keras
import numpy as np
import pytest

import litesmith as ls
from litesmith.parametrize import find_kernels
from litesmith.testing import check_stages, check_technique
from litesmith.testing.kinds import KINDS

PRUNE = ls.Prune(sparsity=0.5, schedule=ls.PolynomialDecay(end_step=8, frequency=2))
CLUSTER = ls.Cluster(clusters=6)
QUANTIZE = ls.Quantize()


@pytest.mark.every_backend
def test_all_three_in_one_run():
    check_technique([PRUNE, CLUSTER, QUANTIZE], kinds=["functional"], fresh_process=False)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "techniques, ways",
    [
        ((PRUNE, CLUSTER, QUANTIZE), ("prepared", "stripped")),
        ((PRUNE, QUANTIZE), ("stripped",)),
        ((CLUSTER, QUANTIZE), ("stripped",)),
        ((PRUNE, CLUSTER), ("prepared",)),
    ],
    ids=["all three", "prune, quantize", "cluster, quantize", "prune, cluster"],
)
def test_every_stage_keeps_what_those_before_it_promised(techniques, ways):
    check_stages(*techniques, ways=ways)


def test_a_technique_that_breaks_an_earlier_promise_does_not_pass():
    class Forgetful(ls.Prune):
        """Lets go of its zeros when the model is stripped."""

        def resume(self, kernel, detail):
            return None

    with pytest.raises(AssertionError, match="a stage is missing|zeros of .* move"):
        check_stages(Forgetful(sparsity=0.5), CLUSTER, ways=["stripped"])


@pytest.fixture(scope="module")
def model():
    return KINDS["sequential"].make()


WRONG = [
    (
        [CLUSTER, PRUNE],
        "prune after cluster .*one value more than the clusters.*write prune before",
    ),
    ([QUANTIZE, PRUNE], "expected prune before quantize"),
    ([QUANTIZE, CLUSTER], "expected cluster before quantize"),
    ([PRUNE, QUANTIZE, ls.Cluster(clusters=4, where="dense.*")], "cluster after quantize"),
    (
        [PRUNE, ls.Prune(sparsity=0.9, where="dense.*")],
        "prune twice .*layers of its own by `where`",
    ),
]


@pytest.mark.parametrize("recipe, message", WRONG)
def test_an_order_that_would_break_a_promise_is_refused(model, recipe, message):
    for call in (ls.Recipe(*recipe).check, lambda m: ls.prepare(m, recipe)):
        with pytest.raises(ls.RecipeError, match=message):
            call(model)


@pytest.mark.parametrize(
    "recipe",
    [
        [ls.Cluster(clusters=4, where="conv.*"), ls.Prune(sparsity=0.5, where="dense.*")],
        [ls.Prune(sparsity=0.5, where="conv.*"), ls.Prune(sparsity=0.9, where="dense.*")],
        [ls.Cluster(clusters=8), ls.Cluster(clusters=4, where="dense.*")],
        [ls.Quantize(where="dense.*", activations=None), ls.Prune(sparsity=0.5, where="conv.*")],
    ],
    ids=["cluster here, prune there", "two rules of pruning", "fewer values", "quantize here"],
)
def test_rules_with_kernels_of_their_own_may_stand_in_any_order(model, recipe):
    ls.Recipe(*recipe).check(model)


@pytest.mark.parametrize("stripped", [False, True])
def test_the_order_holds_over_stages_too(model, stripped):
    earlier = ls.prepare(model, ls.Cluster(clusters=4, where="conv.*"))
    earlier = ls.strip(earlier) if stripped else earlier
    ls.prepare(earlier, ls.Prune(sparsity=0.5, where="dense.*"))
    with pytest.raises(ls.RecipeError, match="received a model that cluster has been done to"):
        ls.prepare(earlier, PRUNE)


@pytest.mark.parametrize("stripped", [False, True])
def test_a_technique_given_again_takes_the_place_of_the_earlier_one(model, stripped):
    earlier = ls.prepare(model, ls.Prune(sparsity=0.75))
    earlier = ls.strip(earlier) if stripped else earlier
    again = ls.prepare(earlier, ls.Prune(sparsity=0.5, where="conv.*"))
    assert [(e.layer_type, e.detail["sparsity"]) for e in again.report.done] == [
        ("Dense", 0.75),
        ("Conv2D", 0.5),
        ("Conv2D", 0.5),
    ]
    used = [np.mean(k.value() == 0) for k in find_kernels(ls.strip(again))]
    # What the stripped model has lost is lost; in the other the weights are still there.
    assert used == ([0.75] * 3 if stripped else [0.5, 0.5, 0.75])


def test_the_grid_of_a_prepared_model_is_not_laid_twice(model):
    prepared = ls.prepare(model, QUANTIZE)
    with pytest.raises(ls.RecipeError, match="quantize: expected to be given once.*strip"):
        ls.prepare(prepared, ls.Quantize(weights=4))
    again = ls.prepare(ls.strip(prepared), ls.Quantize(weights=4))
    assert {entry.detail["bits"] for entry in again.report.done} == {4}


def test_a_stripped_model_s_values_stay_when_it_is_trained_on():
    kind = KINDS["sequential"]
    x, y = kind.data()
    model = ls.strip(ls.prepare(kind.make(), [ls.Prune(sparsity=0.5), CLUSTER]))
    prepared = ls.prepare(model, ls.Quantize(activations=None))
    prepared.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    prepared.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for before, after in zip(find_kernels(model), find_kernels(ls.strip(prepared)), strict=True):
        assert ((before.value() == 0) == (after.value() == 0)).all()
        assert len(np.unique(after.value())) <= 6
        assert not np.array_equal(before.value(), after.value())


def test_zeros_of_a_model_from_a_file_are_not_lost_in_silence(model, tmp_path):
    stripped = ls.strip(ls.prepare(model, ls.Prune(sparsity=0.75, where="conv.*")))
    assert not ls.Recipe(QUANTIZE).check(stripped).notes  # here it is known whose they are
    stripped.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    for recipe in ([CLUSTER], [QUANTIZE], [ls.Cluster(clusters=4, where="conv.*")]):
        (note,) = ls.Recipe(*recipe).check(loaded).notes
        assert "2 kernels come with many zeros" in note and "75%" in note
    for recipe in ([PRUNE, CLUSTER], [ls.Cluster(clusters=4, preserve_zeros=True), QUANTIZE]):
        assert not ls.Recipe(*recipe).check(loaded).notes
    assert not ls.Recipe(ls.Cluster(clusters=4, where="dense.*")).check(loaded).notes
