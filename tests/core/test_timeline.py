"""The time line of a recipe: what comes to rest when, and how it is drawn."""

import litesmith as ls
from litesmith import timeline


def spans(*techniques, steps=1000):
    return [technique.span for technique in ls.Recipe(*techniques).laid_out(steps)]


def test_each_comes_to_rest_after_those_before_it():
    three = ls.Prune(sparsity=0.5), ls.Cluster(clusters=8), ls.Quantize()
    assert spans(*three) == [(0, 400), (0, 700), (0, 850)]
    assert spans(three[0], three[2]) == [(0, 400), (0, 750)]
    assert spans(ls.Cluster(clusters=4), ls.Quantize()) == [(0, 800), (0, 900)]
    late = ls.Prune(sparsity=0.5, schedule=ls.CosineDecay(begin_step=100, end_step=900))
    assert spans(late, *three[1:]) == [(100, 900), (0, 950), (0, 975)]


def test_rules_of_one_technique_come_to_rest_together():
    rules = ls.Quantize(where="head", weights=4), ls.Quantize()
    assert spans(*rules) == [(0, 750), (0, 750)]
    assert spans(ls.Cluster(clusters=4, freeze=10), ls.Cluster(clusters=8)) == [(0, 10), (0, 500)]


def test_a_schedule_that_ends_with_training_leaves_nothing_to_wait_for():
    late = ls.Prune(sparsity=0.5, schedule=ls.PolynomialDecay(end_step=5000))
    assert spans(late, ls.Cluster(clusters=4))[1] == (0, 1000)
    assert timeline.settled(0.8, 1, 0) == 1


def test_a_recipe_prints_its_time_line():
    recipe = ls.Recipe(ls.Prune(sparsity=0.8), ls.Cluster(clusters=16, where=["a", "b.*"]))
    lines = str(recipe.laid_out(500)).splitlines()
    assert lines[0].split() == ["0", "500", "500", "training", "steps"]
    assert lines[1].startswith("1  prune    " + "~" * 16 + "=" * 24)
    assert lines[1].endswith("0.8 of the weights zero, at rest from step 200 on")
    assert lines[2].startswith("2  cluster  " + "~" * 28 + "=" * 12)
    assert lines[2].endswith("16 values, at rest from step 350 on (where a, b.*)")
    assert lines[3].strip() == timeline.LEGEND
    assert "at rest from 40% on" in str(recipe) and "as a study lays it out" in str(recipe)
    assert repr(recipe).startswith("Recipe(Prune(")
    assert recipe.laid_out(500) == recipe.laid_out(500)


def test_what_is_not_known_is_said():
    schedule = ls.PolynomialDecay(begin_step=80, end_step=320)
    recipe = ls.Recipe(
        ls.Prune(sparsity=0.5, schedule=schedule),
        ls.Cluster(clusters=4, where=lambda layer: True),
        ls.Prune(granularity=ls.NOfM(2, 4)),
    )
    title, *rows, _ = str(recipe).splitlines()
    assert title.endswith("400  training steps; their number is not known")
    assert rows[0].startswith("1  prune    " + "." * 8 + "~" * 24 + "=" * 8)
    assert "changing throughout (where <lambda>)" in rows[1]
    assert rows[2].endswith("2 of 4 weights kept, from the first step on")
    assert "empty" in str(ls.Recipe())
    assert "=" * 40 in str(ls.Recipe(ls.Prune(sparsity=0.5, schedule=ls.Constant())).laid_out(9))
