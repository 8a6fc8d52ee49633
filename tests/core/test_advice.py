"""What to try first: the rules, the page that shows them, and the command that applies them."""

import json
import math
import re
from pathlib import Path

import pytest

from litesmith import advice
from litesmith.advice import Situation, advise
from litesmith.cli import run
from litesmith.errors import InputError

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "choosing.md"
# Of each step, the rows of docs/benchmarks.md that tell what it costs: a section, how a row begins.
STOCK, QAT, TOGETHER = "Fashion-MNIST", "Quantization-aware", "Techniques together"
ROWS = {
    "float16": [(STOCK, "float16")],
    "dynamic range": [(STOCK, "dynamic")],
    "8-bit weights": [(STOCK, "int8, ")],  # the same weights; activations stay float
    "full integer": [(STOCK, "int8, ")],
    "full integer behind float inputs": [(STOCK, "int8, ")],
    "8-bit training": [(QAT, "8, 8")],
    "4-bit training": [(QAT, "4, 8")],
    "pruning 80 %, float16": [(STOCK, "pruned 80"), (STOCK, "float16")],
    "pruning 80 %, 8-bit training": [(TOGETHER, "pruned 80 %, 8-bit training")],
    "16 clusters, 8-bit training": [(TOGETHER, "16 clusters, 8-bit training")],
}


def worst_seed(section, row):
    """Points lost on the worst seed: the largest of the cell that lists them."""
    text = (DOCS / "benchmarks.md").read_text("utf-8")
    (part,) = re.findall(rf"^## {section}.*?(?=^## )", text, re.M | re.S)
    lines = part.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith(f"| {row}")]
    line = lines[at + 1] if "| stock |" in lines[at] else lines[at]
    (cell,) = [cell for cell in line.split("|") if cell.count(",") == 2 and "." in cell]
    return max(float(each.replace("−", "-")) for each in cell.split(","))


def tried(situation, found=None):
    return [one.rule.step.name for one in advise(situation, found) if not one.against]


def kernel(size, kind="conv", **can):
    techniques = {"prune": "by default", "cluster": "by default", "quantize": "by default", **can}
    return {
        "parameters": size,
        "bytes": 4 * size,
        "kind": kind,
        "techniques": {name: {"can": value, "reason": ""} for name, value in techniques.items()},
    }


def model(*kernels, kind="Conv2D"):
    size = sum(each["bytes"] for each in kernels)
    return {"layers": [{"type": kind, "kernels": list(kernels)}], "weight_bytes": size + 400}


def test_the_page_shows_the_rules():
    page = PAGE.read_text("utf-8")
    assert advice.matrix() in page
    for target in advice.TARGETS:
        assert advice.table(target) in page


def test_costs_are_those_of_the_benchmarks():
    for rule in advice.RULES:
        lost = sum(worst_seed(*row) for row in ROWS[rule.step.name])
        shown = math.ceil(round(10 * lost, 6)) if lost > 0.015 else 0  # one picture of 10,000
        assert round(1000 * rule.step.costs) == max(0, shown), (rule.step.name, lost)


def test_every_step_is_a_variant_a_study_takes():
    from litesmith.export.presets import check_preset, rules_of
    from litesmith.export.trained import check_fits
    from litesmith.recipe import Recipe

    for rule in advice.RULES:
        check_preset(rule.step.quantize)
        for technique in Recipe.from_dict(list(rule.step.recipe)) if rule.step.recipe else ():
            if technique.name == "quantize":
                check_fits(technique.activations, rules_of(rule.step.quantize))


def test_what_there_is_decides():
    assert tried(Situation("cpu", "nothing")) == ["dynamic range"]
    assert tried(Situation("microcontroller", "nothing")) == []
    assert tried(Situation("microcontroller", "samples")) == ["full integer"]
    assert tried(Situation("microcontroller"))[:2] == ["full integer", "8-bit training"]
    assert tried(Situation("gpu", "nothing"))[0] == "float16"
    assert tried(Situation("gpu", max_drop=0.0)) == ["float16"]
    assert tried(Situation("cpu", max_drop=0.001)) == ["dynamic range", "8-bit training"]
    reasons = {one.rule.step.name: one.against for one in advise(Situation("cpu", max_drop=0.001))}
    assert "lost up to 0.2 points" in reasons["full integer behind float inputs"]
    for needs, allowed in (("nothing", {"nothing"}), ("samples", {"nothing", "samples"})):
        for target in advice.TARGETS:
            for one in advise(Situation(target, needs)):
                assert bool(one.against) == (one.rule.step.needs not in allowed)


def test_the_model_decides_too():
    big, small = kernel(10_000), kernel(500)
    depthwise = kernel(5_000, "depthwise", prune="when asked", cluster="when asked")
    assert "dynamic range" not in tried(Situation(), model(small))
    steps = {one.rule.step.name: one for one in advise(Situation(), model(big, small, depthwise))}
    dynamic = steps["dynamic range"]
    assert dynamic.remarks == (
        "1 of 3 kernels stay in float, having fewer than 1,024 weights: 3 % of all",
    )
    assert dynamic.weight_bytes == 10_000 + 5_000 + 4 * 500 + 400
    pruned = steps["pruning 80 %, 8-bit training"]
    assert pruned.remarks == ("prune takes 68 % of the kernels' weights by default",)
    only = [one for one in advise(Situation(), model(depthwise)) if "prune" in one.rule.step.name]
    assert all(one.against == "prune takes none of the model's kernels" for one in only)
    four = advise(Situation("microcontroller"), model(big, depthwise))[2]
    assert four.weight_bytes == 5_000 + 5_000 + 400
    assert four.remarks == ("67 % of the kernels' weights can be int4, the rest is int8",)
    attention = advise(Situation("cpu"), model(big, kind="MultiHeadAttention"))[1]
    assert "MultiHeadAttention may stay in float" in attention.remarks[0]
    assert tried(Situation(), {"layers": [], "weight_bytes": 0}) == []


def test_a_target_that_is_none():
    with pytest.raises(InputError, match="did you mean 'cpu'"):
        Situation("cpus")


@pytest.fixture
def saved(tmp_path, monkeypatch):
    from litesmith import models

    monkeypatch.chdir(tmp_path)
    models.load("builtin:digits").save("digits.keras")


@pytest.mark.every_backend
def test_inspect_advises(saved, capfd):
    asked = ["inspect", "digits.keras", "--target", "microcontroller", "--data", "digits"]
    assert run([*asked, "--max-drop", "0.003", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["kind"] == "keras" and told["layers"]
    steps = told["advice"].pop("steps")
    assert told["advice"] == {"target": "microcontroller", "needs": "training", "max_drop": 0.003}
    assert [(step["quantize"], step["try"]) for step in steps] == [
        ("int8", True),
        ("int8", True),
        ("int8", False),
    ]
    assert steps[1]["recipe"] == [{"technique": "quantize"}]
    assert 14_000 < steps[0]["weight_bytes"] < 20_000
    assert run(["inspect", "digits.keras", "--advise", "--data", "none"]) == 0
    out = capfd.readouterr().out
    assert "What to try, for a cpu, with no data:" in out
    assert "1. dynamic range: weights of about" in out and 'quantize = "dynamic_int8"' in out
    assert "not: 8-bit training: needs labelled data and the time to train" in out
    assert run(["inspect", "digits.keras", "--no-training"]) == 0
    assert "with samples, and no training:" in capfd.readouterr().out
    assert run(["inspect", "digits.keras"]) == 0
    assert "What to try" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--target", "gpus"],
            "--target: expected cpu, gpu, microcontroller, received gpus",
        ),
        (["--max-drop", "lots"], "--max-drop: expected accuracy that may be lost, from 0 to 1"),
        (["--max-drop", "loss=0.1"], "--max-drop: expected accuracy"),
        (["--data", "digitz"], "did you mean 'digits'"),
    ],
)
def test_inspect_refuses(saved, capfd, options, message):
    assert run(["inspect", "digits.keras", *options]) == 2
    out, err = capfd.readouterr()
    assert out == "" and message in err.splitlines()[-1]


def test_no_advice_for_a_tflite(saved, capfd):
    assert run(["inspect", "some.tflite", "--advise"]) == 2
    assert "expected a Keras model" in capfd.readouterr().err
