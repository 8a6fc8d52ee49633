"""What only TensorFlow can make: SavedModels."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from litesmith.errors import ModelError
from litesmith.export import convert

from . import zoo

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="SavedModels are written by TensorFlow"
)


def test_a_saved_model(tmp_path):
    model = zoo.make("nested")
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    float_model = convert(tmp_path / "saved")
    inputs = zoo.samples(model)
    got = zoo.run(float_model.content, [inputs])
    np.testing.assert_allclose(*got.values(), zoo.outputs(model, inputs)[0], atol=1e-5)
    assert len(float_model.kernels) == 3


def test_a_broken_saved_model(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="expected a SavedModel with a serving signature"):
        convert(tmp_path)
