"""Post-training quantization by the same `Quantize` that serves training.

The model is prepared, its ranges are taken from calibration data, and it is exported: what the
rules leave float, how many bits each layer has and where rounding stands is decided by the same
code, so that training and export cannot drift.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from litesmith.errors import PresetError


def is_recipe(quantize: Any) -> bool:
    """Whether what `quantize=` was given is a technique, a recipe, or a list of techniques."""
    if isinstance(quantize, str):
        return False
    from litesmith.recipe import Recipe
    from litesmith.technique import Technique

    if isinstance(quantize, (Recipe, Technique)):
        return True
    several = isinstance(quantize, (list, tuple)) and bool(quantize)
    return several and all(isinstance(each, Technique) for each in quantize)


def prepared(
    model: Any, quantize: Any, calibration: Any, samples: int, *, strict: bool
) -> tuple[Any, str]:
    """A model prepared by `Quantize` rules and calibrated, and the preset it is exported by.

    Args:
        model: a Keras model, or the path of one.
        quantize: rules of `Quantize`.
        calibration: inputs, where activations are to be quantized.
        samples: how many of them to take at most.
        strict: whether what cannot be taken is an error.

    Raises:
        PresetError: another technique, a model that is no Keras model, no calibration data.
    """
    import keras

    from litesmith import models
    from litesmith.quantization import Quantize
    from litesmith.quantization.calibrating import calibrate
    from litesmith.recipe import Recipe, prepare
    from litesmith.sampling import collected

    recipe = Recipe.of(quantize)
    for technique in recipe:
        if not isinstance(technique, Quantize):
            raise PresetError(
                "quantize",
                expected="rules of Quantize, which need no training",
                received=technique.name,
                fix="prepare the model with it, train, and export what was trained",
            )
    if isinstance(model, (str, os.PathLike)) and Path(model).suffix in (".keras", ".h5", ".hdf5"):
        model = models.load(os.fspath(model))
    if not isinstance(model, keras.Model):
        raise PresetError(
            "quantize=Quantize(…)",
            expected="a Keras model, or the path of a .keras or .h5 file",
            received=type(model).__name__,
            fix="give the Keras model, or quantize= a preset's name or Rules",
        )
    first = recipe.techniques[0]
    assert isinstance(first, Quantize)
    if first.activations is not None and calibration is None:
        raise PresetError(
            "quantize=Quantize(…)",
            expected="calibration data",
            received="none",
            fix="pass calibration= (some 200 samples of the training data), or activations=None",
        )
    made = prepare(model, recipe, strict=strict)
    if first.activations is not None:
        calibrate(made, collected(made, calibration, samples))
    fewest = min(technique.weights for technique in recipe if isinstance(technique, Quantize))
    presets = {8: "int8", 16: "int16x8", None: "weight_int4" if fewest <= 4 else "weight_int8"}
    return made, presets[first.activations]
