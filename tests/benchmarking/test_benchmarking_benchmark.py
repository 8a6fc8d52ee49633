"""`benchmark`: the figures, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from litesmith.benchmarking import benchmark, machine
from litesmith.benchmarking.delegate import taken
from litesmith.errors import BenchmarkError, InputError, ModelError
from tests.evaluation import handmade


def node(name, inputs, outputs):
    return {"op_name": name, "inputs": np.array(inputs), "outputs": np.array(outputs)}


def test_the_figures(tmp_path):
    path = handmade.write(tmp_path, handmade.dense(), "small.tflite")
    seen = []
    result = benchmark(
        path, runs=20, warmup=2, repeats=2, progress=lambda d, t: seen.append((d, t))
    )
    latency = result.latency_ms
    assert 0 < latency["min"] <= latency["p50"] <= latency["p95"] <= latency["max"] < 100
    low, high = latency["spread"]
    assert latency["min"] <= low <= latency["p50"] <= high <= latency["max"]
    assert latency["min"] <= latency["mean"] <= latency["max"]
    assert result.load_ms > 0 and result.first_ms > 0
    assert 100_000 < result.memory["peak_rss"] < 100_000_000
    assert result.memory["arena"] == 64 + 12
    assert list(result.input_shape.values()) == [[1, 4]]
    assert result.size["file"] == path.stat().st_size
    assert result.delegate == {"name": "XNNPACK", "operators": 1, "delegated": 1, "left": {}}
    assert (result.name, result.source, result.runs, result.threads) == ("small", str(path), 20, 1)
    assert seen == [(1, 2), (2, 2)]
    document = json.loads(json.dumps(result.to_dict()))
    assert document["machine"] == machine() and document["repeats"] == 2


def test_memory_counts_the_model(tmp_path):
    weights = np.random.default_rng(0).random((2000, 2000), np.float32)  # 16 MB
    content = handmade.model(
        [
            handmade.T("x", (-1, 2000)),
            handmade.T("w", weights.shape, value=weights),
            handmade.T("y", (-1, 2000)),
        ],
        [("FULLY_CONNECTED", [0, 1, -1], [2], handmade.schema.FullyConnectedOptionsT())],
        [0],
        [2],
    )
    small = benchmark(handmade.write(tmp_path, handmade.dense(), "a.tflite"), runs=3, repeats=1)
    large = benchmark(handmade.write(tmp_path, content, "b.tflite"), runs=3, repeats=1)
    assert large.memory["peak_rss"] - small.memory["peak_rss"] > 15_000_000


def test_batches_threads_and_quantized_inputs(tmp_path):
    path = handmade.write(tmp_path, handmade.requantized("int8", 0.5, 3))
    result = benchmark(path, runs=2, warmup=0, repeats=1, threads=2, batch_size=8, name="q")
    assert (result.name, result.batch_size, result.threads) == ("q", 8, 2)
    assert benchmark(handmade.write(tmp_path, handmade.token_ids()), runs=1, repeats=1).load_ms > 0


def test_a_model_that_takes_no_batch(tmp_path):
    path = handmade.write(tmp_path, handmade.fixed_reshape())
    with pytest.raises(BenchmarkError, match="does not take batches of 8: .*; use batch_size=1"):
        benchmark(path, runs=1, repeats=1, batch_size=8)


def test_a_keras_model_is_converted_first():
    import keras

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs), name="mine")
    result = benchmark(model, runs=2, repeats=1)
    assert (result.name, result.source) == ("mine", "mine")
    assert result.size["file"] > 500


@pytest.mark.parametrize(("kernel", "shape"), [(3, [2, 224, 224, 3]), (None, [2, 32, 32, 3])])
def test_open_dimensions_are_measured_at_a_realistic_size(kernel, shape):
    import keras

    inputs = keras.Input((None, None, 3))
    if kernel:
        x = keras.layers.Conv2D(4, kernel)(inputs)
    else:
        x = inputs + np.zeros((32, 32, 3), "float32")  # runs at 32 only
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    result = benchmark(model, runs=2, repeats=1, batch_size=2)
    assert list(result.input_shape.values()) == [shape]
    assert result.memory["arena"] is None


@pytest.mark.parametrize("content", [None, b"", handmade.dense()[:8], handmade.dense()[:300]])
def test_files_that_are_no_models(tmp_path, content):
    path = tmp_path / "broken.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="broken.tflite") as caught:
        benchmark(path)
    assert "\n" not in str(caught.value)


def test_an_operator_that_litert_does_not_have(tmp_path):
    content = handmade.model(
        [handmade.T("x", (1, 4)), handmade.T("y", (1, 4))], [("CUSTOM", [0], [1], None)], [0], [1]
    )
    with pytest.raises(ModelError, match="model.tflite: LiteRT cannot open the model"):
        benchmark(handmade.write(tmp_path, content), repeats=1)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("runs", 0, "runs: expected a whole number from 1, received 0"),
        ("warmup", -1, "warmup: expected a whole number from 0, received -1"),
        ("repeats", 1.5, "repeats: expected a whole number from 1, received 1.5"),
        ("threads", True, "threads: expected a whole number from 1, received True"),
        ("batch_size", 0, "batch_size: expected a whole number from 1, received 0"),
    ],
)
def test_counts_that_are_none(tmp_path, option, value, message):
    with pytest.raises(InputError, match=message):
        benchmark(tmp_path / "any.tflite", **{option: value})


def test_what_is_no_model():
    with pytest.raises(ModelError, match="expected the path of a model, an Artifact or a Keras"):
        benchmark(3)


def test_operators_left_to_litert():
    # 0 → CONV → 1 → GELU → 2 → CONV → 3: both convolutions are delegated, apart.
    operators = [
        node("CONV_2D", [0, 8], [1]),
        node("GELU", [1], [2]),
        node("CONV_2D", [2, 9], [3]),
        node("DELEGATE", [0, 8], [1]),
        node("DELEGATE", [2, 9], [3]),
    ]
    assert taken(operators) == {
        "name": "XNNPACK",
        "operators": 3,
        "delegated": 2,
        "left": {"GELU": 1},
    }
    assert taken(operators[:3]) == {
        "name": None,
        "operators": 3,
        "delegated": 0,
        "left": {"CONV_2D": 2, "GELU": 1},
    }


def test_a_part_of_several_operators():
    operators = [
        node("ADD", [0, 1], [2]),
        node("MUL", [2, 2], [3]),
        node("SUM", [3], [4]),
        node("DELEGATE", [0, 1], [3]),
    ]
    assert taken(operators)["delegated"] == 2 and taken(operators)["left"] == {"SUM": 1}
