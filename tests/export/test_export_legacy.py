"""A real `.h5` of Keras 2, with depthwise convolutions: all the way, and the same all along."""

from pathlib import Path

import numpy as np
import pytest

import litesmith as ls
from litesmith import models
from litesmith.evaluation import agreement, predict
from litesmith.testing import promises

LEGACY = Path(__file__).parents[2] / "../shared/data/legacy-h5/vww_96.h5"

pytestmark = pytest.mark.skipif(not LEGACY.exists(), reason="../shared/data is not here")


@pytest.fixture(scope="module")
def x():
    """Smooth pictures, 0…1."""
    coarse = np.random.default_rng(0).random((32, 12, 12, 3), np.float32)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.mark.every_backend
def test_a_legacy_file_loads_exports_runs_and_agrees_with_itself(tmp_path, x):
    model = models.load(LEGACY)
    expected = model.predict(x, verbose=0)
    assert np.ptp(expected[:, 0]) > 0.1  # else anything would agree

    converted = ls.convert(LEGACY)
    assert not converted.unmapped
    as_float = ls.export(converted, tmp_path / "float.tflite")
    (found,) = predict(as_float, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    as_int8 = ls.export(converted, tmp_path / "int8.tflite", quantize="int8", calibration=x)
    assert not as_int8.manifest.float_operators
    (found,) = predict(as_int8, x)
    assert agreement([found], [expected]) >= 0.9
    assert np.abs(found - expected).mean() < 0.05

    model.save(tmp_path / "again.keras")
    again = models.load(tmp_path / "again.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)


def test_a_legacy_file_can_be_pruned(x):
    recipe = ls.Recipe(ls.Prune(sparsity=0.5))
    prepared = ls.prepare(models.load(LEGACY), recipe)
    converted = ls.convert(prepared)
    assert not list(promises.broken_in_file(prepared, recipe, converted, converted.content))
    (found,) = predict(converted, x)
    expected = prepared.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
