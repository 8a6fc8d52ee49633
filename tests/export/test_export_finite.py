"""A `.tflite` whose weights are not finite is refused by everything that takes one."""

from __future__ import annotations

import numpy as np
import pytest

from litesmith.benchmarking import benchmark
from litesmith.cli import describe
from litesmith.errors import ModelError
from litesmith.evaluation import runner
from litesmith.export import export, flatbuffer
from litesmith.export.finite import check_finite
from tests.evaluation import handmade


def with_weight(value):
    content, weight = handmade.dense(), handmade.WEIGHTS[1, 2].tobytes()
    assert content.count(weight) == 1
    return content.replace(weight, np.float32(value).tobytes())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "take",
    [
        runner,
        benchmark,
        describe.tflite,
        lambda path: export(path, path.with_name("out.tflite")),
    ],
    ids=["evaluate", "benchmark", "inspect", "export"],
)
def test_a_weight_that_is_not_finite(tmp_path, take, value):
    path = handmade.write(tmp_path, with_weight(value))
    with pytest.raises(ModelError) as caught:
        take(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: tensor 'w': expected finite numbers, received 1 that are NaN")
    assert "lower learning rate" in told
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_large_weights_are_finite():
    check_finite(flatbuffer.read(with_weight(3e38)), "model")


def masked(value):
    """`x + mask`: a constant that no operator multiplies by."""
    return handmade.model(
        [
            handmade.T("x", (-1, 3)),
            handmade.T("mask", (3,), value=np.array([0, value, 0], np.float32)),
            handmade.T("y", (-1, 3)),
        ],
        [("ADD", [0, 1], [2], handmade.schema.AddOptionsT())],
        [0],
        [2],
    )


def test_a_mask_may_be_infinite_but_not_nan():
    check_finite(flatbuffer.read(masked(-np.inf)), "model")
    with pytest.raises(ModelError, match="tensor 'mask': expected finite numbers, received 1 that"):
        check_finite(flatbuffer.read(masked(np.nan)), "model")


def test_weights_that_are_unfolded_first():
    content = handmade.model(
        [
            handmade.T("x", (-1, 4)),
            handmade.T("half", (3, 4), value=np.full((3, 4), np.inf, np.float32)),
            handmade.T("w", (3, 4)),
            handmade.T("y", (-1, 3)),
        ],
        [
            ("DEQUANTIZE", [1], [2], handmade.schema.DequantizeOptionsT()),
            ("FULLY_CONNECTED", [0, 2, -1], [3], handmade.schema.FullyConnectedOptionsT()),
        ],
        [0],
        [3],
    )
    with pytest.raises(ModelError, match="tensor 'half': expected finite numbers, received 12"):
        check_finite(flatbuffer.read(content), "model")


def test_a_scale_that_is_not_finite():
    content = handmade.requantized("int8", float("nan"), 0)
    with pytest.raises(ModelError, match="the scale of tensor"):
        check_finite(flatbuffer.read(content), "model")
