"""Recipes that are trained in stages."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import litesmith as ls
from litesmith.data import Dataset, Split
from litesmith.study import Study, training
from litesmith.study.settings import FINE_TUNE_POLICY
from litesmith.study.stages import split

PRUNE, CLUSTER, QUANTIZE = ls.Prune(sparsity=0.5), ls.Cluster(clusters=4), ls.Quantize()


def _split(*techniques, **settings):
    given = FINE_TUNE_POLICY.model_copy(update={"epochs": 3, **settings})
    return split(ls.Recipe(*techniques), given, lambda recipe, least: given, 60)


@pytest.mark.parametrize(
    "techniques", [(PRUNE,), (CLUSTER,), (CLUSTER, QUANTIZE), (PRUNE, QUANTIZE)]
)
def test_what_needs_no_stages_has_none(techniques):
    (stage,) = _split(*techniques)
    assert stage.steps == 60 and len(stage.recipe) == len(techniques)


def test_clusters_after_pruning_have_their_own_steps():
    first, second = _split(PRUNE, CLUSTER, QUANTIZE)
    assert [each.name for each in first.recipe] == ["prune"]
    assert [each.name for each in second.recipe] == ["cluster", "quantize"]
    assert (first.steps, second.steps) == (50, 10)
    assert first.recipe.techniques[0].schedule.last_step <= 50
    assert second.recipe.techniques[0].freeze == 8


def test_clusters_after_pruning_keep_the_baselines_rate():
    told = {}
    split(
        ls.Recipe(PRUNE, ls.Cluster(clusters=16)),
        FINE_TUNE_POLICY,
        lambda recipe, least: told.update({recipe.techniques[0].name: least}) or FINE_TUNE_POLICY,
        60,
    )
    assert told == {"prune": 0.0, "cluster": 1.0}
    variant = {"name": "a", "recipe": [{"technique": "cluster", "clusters": 16}]}
    study = Study.from_dict(
        {
            "model": {"source": "builtin:digits"},
            "data": {"source": "digits"},
            "variant": [variant],
        }
    )
    asked = study.variants[1]
    assert study.fine_tuning(asked).learning_rate == pytest.approx(2.5e-4)
    assert study.fine_tuning(asked, least=1.0).learning_rate == pytest.approx(1e-3)


def test_epochs_given_one_by_one_are_not_cut():
    (stage,) = _split(PRUNE, CLUSTER, epochs=[2, 1])
    assert stage.steps == 60
    assert len(_split(PRUNE, ls.Cluster(clusters=4, initialization="linear"))) == 1


class Watched(keras.layers.Dense):
    """Notes each time that the training step is traced."""

    def call(self, inputs, training=None):
        self.traced = getattr(self, "traced", 0) + bool(training)
        return super().call(inputs)


def test_a_last_epoch_is_cut_short_and_the_step_is_traced_once():
    x = np.random.default_rng(0).random((40, 4), np.float32)
    part = Split(x, np.arange(40) % 2)
    data = Dataset(name="made up", train=part, validation=part, test=part)
    model = keras.Sequential([keras.Input((4,)), Watched(2, activation="softmax")])
    settings = FINE_TUNE_POLICY.model_copy(update={"epochs": 3, "batch_size": 8})
    told = training.fit(
        model,
        data,
        settings,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        seed=0,
        name="variant",
        progress=lambda event: None,
        total=12,  # two epochs of five steps, and two
    )
    assert int(model.optimizer.iterations) == 12 and len(told["loss"]) == 3
    assert keras.backend.backend() != "tensorflow" or model.layers[0].traced == 1
    assert len(told["accuracy"]) == 3 and 0 < told["accuracy"][0] < 1


@pytest.mark.parametrize("name", ["train_step", "compute_loss", "compute_metrics"])
def test_a_model_with_a_step_of_its_own_is_not_touched_before_it(name):
    def own(self, *given):
        raise AssertionError("called before the first step")

    kind = type("Own", (keras.Sequential,), {name: own})
    model = kind([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    training.complete(model, (np.zeros((2, 4), np.float32), np.zeros(2)))
    assert not model.optimizer.built
