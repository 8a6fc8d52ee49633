"""How far a trained model's `.tflite` files agree with it, on real data."""

from __future__ import annotations

import keras
import pytest

from litesmith import data, models
from litesmith.evaluation import evaluate
from litesmith.export import convert, export

pytestmark = pytest.mark.every_backend
FIGURES = {"float32": 1.0, "float16": 0.995, "int8": 0.985}


def test_files_agree_with_the_trained_model(tmp_path):
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    model = models.load("builtin:digits")
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(digits.train.x, digits.train.y, batch_size=32, epochs=4, verbose=0)
    test = (digits.test.x, digits.test.y)
    assert evaluate(model, test)["accuracy"] > 0.9  # one that learned nothing agrees by chance

    source = convert(model)
    for preset, least in FIGURES.items():
        path = tmp_path / f"{preset}.tflite"
        file = export(source, path, quantize=preset, calibration=digits.train.x)
        found = evaluate(file, test, reference=model).agreement
        assert found is not None and found >= least, f"{preset}: {found:.4f}"
