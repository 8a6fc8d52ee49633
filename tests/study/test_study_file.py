"""The study file: defaults, and one clear line for everything that can be wrong with it."""

from __future__ import annotations

import pytest

from litesmith.errors import StudyError
from litesmith.study import Study, Training
from litesmith.study.settings import BASELINE_POLICY, FINE_TUNE_POLICY

SHORTEST = '[model]\nsource = "model.keras"\n[data]\nsource = "digits"\n'


def parse(text, tmp_path):
    return Study.parse(SHORTEST + text, "study.toml", tmp_path)


def test_every_field_but_the_two_sources_has_a_default(tmp_path):
    study = parse("", tmp_path)
    assert study.seed == 0
    assert (study.model.loss, study.model.metrics, study.model.arguments) == (
        "auto",
        ["accuracy"],
        {},
    )
    assert (study.data.validation, study.data.calibration_samples) == (0.1, 200)
    assert study.baseline is None
    assert [variant.name for variant in study.variants] == ["baseline"]
    assert study.variants[0].quantize == "float32"


def test_all_of_the_design(tmp_path):
    study = parse(
        "image_size = [96, 64]\n[baseline]\nepochs = [8, 2]\nlearning_rate = [1e-3, 1e-4]\n"
        'batch_size = 64\noptimizer = "sgd"\n[fine_tune]\nepochs = 3\n[[variant]]\n'
        'name = "pruned-80"\nrecipe = [{ technique = "prune", sparsity = 0.8 }]\n'
        'quantize = "float32"\nsparse = false\nfine_tune = { epochs = 5 }\n',
        tmp_path,
    )
    assert study.data.image_size == (96, 64)
    assert study.baseline is not None
    assert study.baseline.over(BASELINE_POLICY).stages == [(8, 1e-3), (2, 1e-4)]
    tuning = study.fine_tuning(study.variants[1])
    assert (tuning.total_epochs, tuning.optimizer, tuning.decay) == (5, "adam", "cosine")
    assert study.variants[1].recipe == [{"technique": "prune", "sparsity": 0.8}]


def test_the_baseline_comes_first_also_when_it_is_named(tmp_path):
    study = parse(
        '[[variant]]\nname = "half"\nquantize = "float16"\n[[variant]]\nname = "baseline"\n',
        tmp_path,
    )
    assert [variant.name for variant in study.variants] == ["baseline", "half"]


def test_stages_of_rates_give_way_where_epochs_are_overridden():
    merged = Training(epochs=4).over(BASELINE_POLICY)
    assert merged.stages == [(4, 1e-3)]
    assert Training(learning_rate=1e-2).over(BASELINE_POLICY).stages == [(8, 1e-2), (2, 1e-2)]
    assert Training().over(FINE_TUNE_POLICY) == FINE_TUNE_POLICY


@pytest.mark.parametrize(
    ("given", "base", "message"),
    [
        (Training(learning_rate=[1, 2, 3]), BASELINE_POLICY, "(2: epochs = [8, 2]), received 3"),
        (Training(learning_rate=[1, 2]), FINE_TUNE_POLICY, "(1: epochs = 3), received 2"),
    ],
)
def test_stages_given_here_are_never_dropped(given, base, message):
    with pytest.raises(StudyError) as caught:
        given.over(base)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("validaton = 0.2", "study.toml: [data] validaton: expected fields it has, received va"),
        ("validation = 1.5", "study.toml: [data] validation: expected less than 1, received 1.5"),
        ("validation = 0", "study.toml: [data] validation: expected greater than 0, received 0"),
        ("calibration_samples = 0", "[data] calibration_samples: expected greater than or equal"),
        ("image_size = [96]", "[data] image_size.1: expected height and width, as in [96, 96]"),
        ("[basline]", "received basline; did you mean 'baseline'?"),
        ('[baseline]\nepochs = "many"', "[baseline] epochs: expected a valid integer, received"),
        ("[baseline]\nepochs = -1", "[baseline] epochs: expected a number of epochs from 0"),
        ("[baseline]\nlearning_rate = 0", "[baseline] learning_rate: expected a learning rate ab"),
        (
            "[baseline]\nepochs = [1, 2]\nlearning_rate = [1]",
            "baseline: expected as many learning rates as stages of epochs (2), received 1",
        ),
        ("[fine_tune]\nepoch = 3", "received epoch; did you mean 'epochs'?"),
        ('[fine_tune]\ndecay = "step"', "[fine_tune] decay: expected 'cosine' or 'none', recei"),
        ('[[variant]]\nquantize = "int8"', "variant 1: name: expected a name for the variant, re"),
        ('[[variant]]\nname = "a/b"', "variant 'a/b': name: expected a name that can be a folder"),
        ('[[variant]]\nname = ".."', "variant '..': name: expected a name that can be a folder"),
        (
            '[[variant]]\nname = "a"\n[[variant]]\nname = "A"',
            "expected variant names that differ by more than capitals, received 'a' and 'A'",
        ),
        (
            '[[variant]]\nname = "x"\nquantise = "int8"',
            "received quantise; did you mean 'quantize'?",
        ),
        (
            '[[variant]]\nname = "x"\nsparse = "yes please"',
            "variant 'x': sparse: expected",
        ),
        (
            '[[variant]]\nname = "baseline"\nsparse = true',
            "expected the variant 'baseline' to have no recipe, quantize = \"float32\" and sparse",
        ),
        (
            '[[variant]]\nname = "x"\nrecipe = ["prune"]',
            "variant 'x': recipe.0: expected a table, received 'prune'",
        ),
        (
            '[[variant]]\nname = "x"\nrecipe = { version = 99, techniques = [] }',
            "variant 'x': recipe: recipe version: expected 1, received 99",
        ),
        (
            '[[variant]]\nname = "x"\nfine_tune = { epochz = 5 }',
            "variant 'x': fine_tune.epochz: expected fields it has",
        ),
        (
            '[[variant]]\nname = "baseline"\nquantize = "int8"',
            "expected the variant 'baseline' to have no recipe, quantize = \"float32\" and sparse",
        ),
    ],
)
def test_one_line_says_what_is_wrong(text, message, tmp_path):
    with pytest.raises(StudyError) as caught:
        parse(text, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "study.toml: model: expected a table with source ="),
        ('model = "x"\n[data]\nsource = "digits"', "model: expected a table with source ="),
        ("[model]\n[data]\nsource = 'digits'", '[model] source: expected "model.keras"'),
        ("[model]\nsource = 'm.keras'\n[data]", '[data] source: expected "digits", "idx:DIR"'),
        ("model = ", "study.toml: expected valid TOML, received Invalid"),
    ],
)
def test_a_file_without_the_needed(text, message, tmp_path):
    with pytest.raises(StudyError) as caught:
        Study.parse(text, "study.toml", tmp_path)
    assert message in str(caught.value)


def test_load(tmp_path):
    path = tmp_path / "deep" / "study.toml"
    path.parent.mkdir()
    path.write_text(SHORTEST)
    study = Study.load(path)
    assert study.root == path.parent.resolve()
    assert study.text == SHORTEST
    with pytest.raises(StudyError, match="received .*missing.toml .no such file"):
        Study.load(tmp_path / "missing.toml")
    with pytest.raises(StudyError, match="a folder"):
        Study.load(tmp_path)
    path.write_bytes(b"\xff\xfe")
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(StudyError, match="received the model .*; write --model .* --data DATA"):
        Study.load(tmp_path / "model.keras")
    with pytest.raises(StudyError, match="received bytes that are no utf-8"):
        Study.load(path)


def test_the_builtin_study():
    study = Study.load("builtin:digits")
    assert [variant.name for variant in study.variants] == [
        "baseline",
        "float16",
        "dynamic",
        "int8",
        "pruned-50",
        "pruned-80",
        "pruned-80-int8",
        "pruned-2-4",
        "clustered-16-int8",
        "pruned-80-clustered-16-int8",
        "qat",
        "pruned-80-clustered-16-qat",
    ]
    with pytest.raises(StudyError, match="did you mean 'digits'"):
        Study.load("builtin:digit")


def test_from_dict_takes_recipe_objects():
    class Recipe:
        def to_dict(self):
            return {"version": 1, "techniques": [{"technique": "prune", "sparsity": 0.5}]}

    study = Study.from_dict(
        {
            "model": {"source": "m.keras"},
            "data": {"source": "digits"},
            "variant": [{"name": "half", "recipe": Recipe()}],
        }
    )
    assert study.variants[1].recipe == [{"technique": "prune", "sparsity": 0.5}]


@pytest.mark.parametrize(
    ("extra", "source", "rate"),
    [
        ("[baseline]\nlearning_rate = 1e-4\nepochs = 2\n", "builtin:digits", 8e-4),
        ("[baseline]\nlearning_rate = [1e-2, 1e-3]\nepochs = [2, 1]\n", "model.keras", 8e-3),
        ("[baseline]\noptimizer = 'sgd'\n", "builtin:digits", 1e-3),
        ("", "builtin:digits", 8e-3),  # it is trained by the baseline's policy
        ("", "model.keras", 1e-3),
        ("", "applications:MobileNetV2", 8e-3),
        ("[fine_tune]\nlearning_rate = 2e-3\n", "builtin:digits", 2e-3),
    ],
)
def test_a_network_that_the_study_trained_is_fine_tuned_warmer(tmp_path, extra, source, rate):
    variant = '[[variant]]\nname = "half"\nrecipe = [{ technique = "prune", sparsity = 0.5 }]\n'
    text = f'[model]\nsource = "{source}"\n[data]\nsource = "digits"\n{extra}{variant}'
    study = Study.parse(text, "study.toml", tmp_path)
    assert study.fine_tuning(study.variants[1]).learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("recipe", "source", "rate"),
    [
        ("{ technique = 'quantize' }", "builtin:digits", 5e-4),
        ("{ technique = 'quantize' }", "model.keras", 5e-4),
        ("{ technique = 'quantize', weights = 2 }", "builtin:digits", 2e-3),
        ("{ technique = 'quantize', weights = 2 }", "model.keras", 1e-3),
        (
            "{ technique = 'prune', sparsity = 0.5 }, { technique = 'quantize' }",
            "builtin:digits",
            8e-3,
        ),
        ("{ technique = 'cluster', clusters = 2 }", "builtin:digits", 1e-3),
        ("{ technique = 'cluster', clusters = 16 }", "builtin:digits", 2.5e-4),
        ("{ technique = 'cluster', clusters = 16 }", "model.keras", 2.5e-4),
        (
            "{ technique = 'cluster', clusters = 16 }, { technique = 'quantize' }",
            "model.keras",
            5e-4,
        ),
        (
            "{ technique = 'cluster', clusters = 16, initialization = 'linear' }",
            "builtin:digits",
            1e-3,
        ),
    ],
)
def test_what_starts_well_is_fine_tuned_by_small_steps(tmp_path, recipe, source, rate):
    text = f'[model]\nsource = "{source}"\n[data]\nsource = "digits"\n'
    text += f'[[variant]]\nname = "a"\nrecipe = [{recipe}]\n'
    study = Study.parse(text, "study.toml", tmp_path)
    assert study.fine_tuning(study.variants[1]).learning_rate == pytest.approx(rate)
