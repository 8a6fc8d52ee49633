"""Fields of `Quantize`, to and from files, and what they refuse."""

import pytest

import litesmith as ls


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("weights", 1, "from 2 to 8"),
        ("weights", 9, "from 2 to 8"),
        ("weights", 4.0, "from 2 to 8"),
        ("activations", 4, "8, 16 or None"),
        ("activations", True, "8, 16 or None"),
        ("freeze", -1, "of 0 or more"),
        ("freeze", 1.5, "below 1"),
        ("freeze_batch_norm", -3, "of 0 or more"),
        ("momentum", 1.0, "below 1"),
        ("ranges", "lsq", "'moving_average' or 'learned'"),
    ],
)
def test_a_value_out_of_range(field, value, message):
    with pytest.raises(ls.RecipeError, match=message):
        ls.Quantize(**{field: value})


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(ls.RecipeError, match="did you mean 'weights'"):
        ls.Recipe({"technique": "quantize", "weight": 4})


@pytest.mark.parametrize(
    "technique",
    [
        ls.Quantize(),
        ls.Quantize(weights=4, where="conv.*", freeze=100),
        ls.Quantize(activations=None),
        ls.Quantize(activations=16, momentum=0.5),
    ],
)
def test_files_hold_it(technique):
    recipe = ls.Recipe(technique)
    assert ls.Recipe.from_json(recipe.to_json()) == recipe
    assert ls.Recipe.from_toml(recipe.to_toml()) == recipe


def test_a_study_freezes_ranges_in_the_last_quarter():
    assert ls.Recipe(ls.Quantize()).laid_out(1000).techniques[0].freeze == 750
    shares = ls.Quantize(freeze=0.5, freeze_batch_norm=0.25)
    found = ls.Recipe(shares).laid_out(1000).techniques[0]
    assert (found.freeze, found.freeze_batch_norm) == (500, 250)
    assert ls.Recipe(ls.Quantize(freeze=3)).laid_out(1000).techniques[0].freeze == 3


def test_a_share_of_a_run_of_unknown_length():
    from tests.quantization import small

    with pytest.raises(ls.RecipeError, match="pass steps= to prepare"):
        ls.prepare(small.convolutional(), ls.Quantize(freeze_batch_norm=0.5))
