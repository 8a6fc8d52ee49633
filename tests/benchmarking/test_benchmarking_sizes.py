"""Sizes of a `.tflite`."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from litesmith.benchmarking import sizes
from litesmith.errors import ModelError
from litesmith.export.flatbuffer import read
from litesmith.export.sizes import entropy, ideal_bytes
from tests.evaluation import handmade


def with_weights(values, dtype="float32"):
    values = np.asarray(values)
    return handmade.model(
        [
            handmade.T("x", (1, values.shape[1])),
            handmade.T(
                "w", values.shape, dtype, value=values, scale=1.0 if dtype != "float32" else None
            ),
            handmade.T("y", (1, values.shape[0])),
        ],
        [("FULLY_CONNECTED", [0, 1, -1], [2], None)],
        [0],
        [2],
    )


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_entropy_by_hand(dtype):
    # A half, a quarter and two eighths: 1.75 bits.
    assert entropy(np.array([0, 0, 0, 0, 1, 1, -2, 3], dtype)) == pytest.approx(1.75)
    assert entropy(np.full((3, 3), 7, dtype)) == 0
    assert entropy(np.empty(0, dtype)) == 0
    assert entropy(np.arange(64).astype(dtype)) == pytest.approx(6)


def test_nan_is_a_value_like_others():
    assert entropy(np.array([np.nan, np.nan, 0.0, 0.0], np.float32)) == pytest.approx(1)


def test_distinct_numbers():
    values = np.array([[0.0, -0.0, np.nan, 2.0], [2.0, -np.nan, -1.0, 0.0]], np.float32)
    tensor = read(with_weights(values)).constants()[0]
    assert tensor.unique == 4 and tensor.distinct[1].sum() == 8
    assert read(with_weights(np.array([[1, 1, -1], [0, 7, 7]]), "int8")).constants()[0].unique == 4


def test_the_three_sizes(tmp_path):
    weights = np.random.default_rng(0).choice(3, (256, 256), p=[0.75, 0.125, 0.125])
    content = with_weights(weights)
    path = handmade.write(tmp_path, content)
    counts = np.unique(weights, return_counts=True)[1] / 65536
    bits = 65536 * -(counts * np.log2(counts)).sum()
    assert sizes(path) == {
        "file": len(content),
        "zip": len(zlib.compress(content, 9)),
        "entropy": math.ceil(len(content) - 4 * 65536 + bits / 8),
    }
    assert sizes(content, read(content)) == sizes(path)
    assert sizes(path)["entropy"] < sizes(path)["zip"] < sizes(path)["file"]


def test_random_bytes_stay_as_large_as_they_are():
    tensor = read(with_weights(np.arange(12).reshape(3, 4), "int8")).constants()[0]
    assert ideal_bytes(tensor) == pytest.approx(12 * np.log2(12) / 8) and tensor.stored == 12
    wild = np.random.default_rng(0).random((4, 4))
    assert ideal_bytes(read(with_weights(wild)).constants()[0]) == 16 * 4 / 8


def test_no_model(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        sizes(tmp_path / "none.tflite")
