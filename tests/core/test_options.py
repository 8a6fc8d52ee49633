"""Schedules, granularities, techniques and recipes: values, errors, files."""

import keras
import pytest

import litesmith as ls
from litesmith.errors import RecipeError

pytestmark = pytest.mark.every_backend


def at(schedule, step):
    return float(keras.ops.convert_to_numpy(schedule.fraction(keras.ops.convert_to_tensor(step))))


def due(schedule, steps):
    tensors = (keras.ops.convert_to_tensor(step, "int32") for step in range(steps))
    return [step for step, tensor in enumerate(tensors) if bool(schedule.due(tensor))]


def test_polynomial_decay_is_zhu_and_gupta_s():
    schedule = ls.PolynomialDecay(begin_step=10, end_step=20)
    assert at(schedule, 10) == 0
    assert at(schedule, 15) == pytest.approx(1 - 0.5**3)
    assert at(schedule, 20) == at(schedule, 99) == 1
    assert at(ls.PolynomialDecay(end_step=10, initial=0.5, power=1), 5) == pytest.approx(0.75)


def test_cosine_decay_is_slow_at_both_ends():
    schedule = ls.CosineDecay(end_step=100)
    assert at(schedule, 50) == pytest.approx(0.5)
    assert at(schedule, 10) < 0.03
    assert at(schedule, 90) > 0.97
    assert at(schedule, 100) == pytest.approx(1)


def test_updates_fall_on_the_frequency_and_on_the_end():
    assert due(ls.PolynomialDecay(begin_step=2, end_step=9, frequency=3), 20) == [2, 5, 8, 9]
    assert due(ls.Constant(begin_step=1, frequency=4), 10) == [1, 5, 9]


@pytest.mark.parametrize(
    "make, words",
    [
        (
            lambda: ls.Prune(sparsity=1.5),
            "sparsity: expected a number from 0 and below 1, received 1.5; 80 % is 0.8",
        ),
        (lambda: ls.Prune(sparsity=-0.1), "received -0.1"),
        (lambda: ls.Prune(sparsity="80"), "received 80"),
        (lambda: ls.Prune(sparsity=float("nan")), "received nan"),
        (lambda: ls.Prune(), "sparsity: expected a number from 0 and below 1, received none"),
        (lambda: ls.Prune(sparsity=0.5, ranking="globl"), "expected 'layer' or 'global'"),
        (lambda: ls.Prune(sparsity=0.5, gradient="no"), "expected 'masked' or 'dense'"),
        (lambda: ls.Prune(sparsity=0.4, granularity=ls.NOfM(2, 4)), "expected 0.5, which the n:m"),
        (lambda: ls.Prune(granularity=ls.NOfM(2, 4), ranking="global"), "expected 'layer'"),
        (lambda: ls.Prune(sparsity=0.5, where="con(v"), "expected a regular expression"),
        (lambda: ls.Prune(sparsity=0.5, where=[]), "an empty list"),
        (lambda: ls.Prune(sparsity=0.5, where=3), "received 3"),
        (lambda: ls.NOfM(3, 2), "expected a whole number from 1 to 1"),
        (lambda: ls.NOfM(4, 4), "expected a whole number from 1 to 3"),
        (lambda: ls.NOfM(1, 1), "expected a whole number of 2 or more"),
        (lambda: ls.PerBlock(0), "expected a whole number of 1 or more"),
        (lambda: ls.PerBlock(1), "single weights are Unstructured()"),
        (lambda: ls.PerBlock((1, 2, 3)), "(outputs, inputs)"),
        (lambda: ls.PerBlock(4, "sum"), "'average' or 'max'"),
        (lambda: ls.PerChannel(0), "-1 (output channels) or -2 (input rows)"),
        (lambda: ls.PolynomialDecay(begin_step=5, end_step=5), "a step after begin_step (5)"),
        (lambda: ls.PolynomialDecay(end_step=5, power=0), "above 0"),
        (lambda: ls.PolynomialDecay(end_step=5, initial=1.0), "below 1"),
        (lambda: ls.Constant(frequency=0), "expected a whole number of 1 or more, received 0"),
        (lambda: ls.Constant(begin_step=-1), "received -1"),
        (lambda: ls.Recipe(ls.Prune), "write Prune(…)"),
        (lambda: ls.Recipe("prune"), "expected techniques, received prune"),
        (lambda: ls.Recipe({"technique": "prun", "sparsity": 0.5}), "did you mean 'prune'?"),
        (lambda: ls.Recipe({"technique": "prune", "sparcity": 0.5}), "did you mean 'sparsity'?"),
        (lambda: ls.Recipe({"sparsity": 0.5}), "a table with 'technique'"),
        (
            lambda: ls.Recipe({"technique": "prune", "sparsity": 0.5, "schedule": "cosin"}),
            "did you mean 'cosine'?",
        ),
        (
            lambda: ls.Recipe({"technique": "prune", "sparsity": 0.5, "schedule": "cosine"}),
            "a value for 'end_step'",
        ),
        (
            lambda: ls.Recipe({"technique": "prune", "granularity": {"type": "n_of_m", "n": 2}}),
            "a value for 'm'",
        ),
        (
            lambda: ls.Recipe({"technique": "prune", "sparsity": 0.5, "where": {"layer": "Conv2"}}),
            "did you mean 'Conv2D'?",
        ),
        (lambda: ls.Recipe.from_dict({"version": 9, "techniques": []}), "update this one"),
        (lambda: ls.Recipe.from_dict({"techniques": [], "x": 1}), "received x"),
        (lambda: ls.Recipe.from_dict({"techniques": 1}), "a list of tables"),
        (lambda: ls.Recipe.from_dict(3), "a table with"),
        (lambda: ls.Recipe.from_json("{"), "expected JSON"),
        (lambda: ls.Recipe.from_toml("= 1"), "expected TOML"),
        (lambda: ls.Recipe.load("recipe.yaml"), "ending in .json or .toml"),
        (lambda: ls.Recipe.load("missing.toml"), "a file that can be read"),
        (lambda: ls.Recipe.of(3), "a Recipe, a technique, or a list"),
    ],
)
def test_each_wrong_setting_gets_one_clear_line(make, words):
    with pytest.raises(RecipeError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


RECIPES = [
    ls.Recipe(),
    ls.Recipe(ls.Prune(sparsity=0.8)),
    ls.Recipe(
        ls.Prune(
            where=["conv.*", keras.layers.Dense],
            sparsity=0.5,
            schedule=ls.CosineDecay(end_step=50, begin_step=3, frequency=7),
            granularity=ls.PerBlock((2, 4), "max"),
            ranking="global",
            gradient="dense",
        ),
        ls.Prune(granularity=ls.NOfM(2, 4), where="head"),
        ls.Prune(sparsity=0.25, granularity=ls.PerChannel(-2), schedule=ls.Constant(begin_step=9)),
    ),
]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_a_recipe_round_trips_through_files(recipe, suffix, tmp_path):
    path = recipe.save(tmp_path / f"recipe{suffix}")
    assert ls.Recipe.load(path) == recipe
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_predicate_cannot_be_written(tmp_path):
    recipe = ls.Recipe(ls.Prune(sparsity=0.5, where=lambda layer: layer.name == "head"))
    with pytest.raises(RecipeError, match="a recipe that goes to a file"):
        recipe.save(tmp_path / "recipe.json")
    assert not list(tmp_path.iterdir())


def test_recipes_add_compare_and_iterate():
    one, two = ls.Prune(sparsity=0.5), ls.Prune(sparsity=0.6)
    assert ls.Recipe(one) + two == ls.Recipe(one, two)
    assert list(ls.Recipe(one, two)) == [one, two]
    assert len({ls.Recipe(one), ls.Recipe(ls.Prune(sparsity=0.5))}) == 1


def test_a_schedule_is_laid_out_only_where_there_is_none():
    own = ls.Prune(sparsity=0.5, schedule=ls.Constant(), ranking="layer")
    groups = ls.Prune(granularity=ls.NOfM(2, 4))
    laid = ls.Recipe(ls.Prune(sparsity=0.5), own, groups).laid_out(1000).techniques
    assert laid[0].schedule == ls.PolynomialDecay(end_step=400, frequency=8)
    assert laid[0].ranking == "lamp"
    assert laid[1] is own
    assert laid[2].ranking is None


def test_options_are_frozen_and_keyword_only():
    technique = ls.Prune(sparsity=0.5)
    with pytest.raises(AttributeError):
        technique.sparsity = 0.6
    with pytest.raises(TypeError):
        ls.Prune(0.5)
