"""The runner of `.tflite` files."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from litesmith.errors import DataError, EvaluationError, InputError, ModelError
from litesmith.evaluation import predict, runner
from litesmith.evaluation.litert_runner import LitertRunner
from tests.evaluation import handmade

X = np.random.default_rng(0).random((150, 4), np.float32)
Y = X @ handmade.WEIGHTS.T + handmade.BIAS


@pytest.mark.parametrize("count", [1, 2, 7, 128, 150])
def test_batches_give_what_samples_give(tmp_path, count):
    with runner(handmade.write(tmp_path, handmade.dense()), num_threads=2) as model:
        (output,) = model.predict(X[:count])
        np.testing.assert_allclose(output, Y[:count], atol=1e-6)
        (again,) = model.predict(X[-count:])
        np.testing.assert_allclose(again, Y[-count:], atol=1e-6)
        assert model.batched is (True if count > 1 else None)


def test_bytes_and_more_samples_than_a_message_holds():
    with LitertRunner(handmade.dense(), num_threads=1) as model:
        many = np.tile(X, (40, 1))
        assert len(many) > model.batch_size
        np.testing.assert_allclose(model.predict(many)[0], np.tile(Y, (40, 1)), atol=1e-6)


def test_without_shared_memory(monkeypatch):
    def refuse(*arguments):
        raise OSError("no room")

    monkeypatch.setattr("litesmith.evaluation.litert_runner.SharedBuffer", refuse)
    with LitertRunner(handmade.dense()) as model:
        np.testing.assert_allclose(model.predict(X)[0], Y, atol=1e-6)


def test_a_fixed_batch_is_filled_up(tmp_path):
    with runner(handmade.write(tmp_path, handmade.dense(batch=4))) as model:
        np.testing.assert_allclose(model.predict(X[:10])[0], Y[:10], atol=1e-6)
        np.testing.assert_allclose(model.predict(X[:3])[0], Y[:3], atol=1e-6)


def test_falls_back_where_a_batch_cannot_go_through():
    with LitertRunner(handmade.fixed_reshape()) as model:
        (output,) = model.predict(X.reshape(-1, 2, 2))
        np.testing.assert_allclose(output, Y, atol=1e-6)
        assert model.batched is False


def test_falls_back_where_a_batch_gives_something_else():
    with LitertRunner(handmade.batch_mixing()) as model:
        (output,) = model.predict(X)
        np.testing.assert_allclose(output, 2 * X, atol=1e-6)
        assert model.batched is False


@pytest.mark.parametrize(
    ("kind", "scale", "zero"), [("int8", 0.25, -3), ("uint8", 0.5, 7), ("int16", 0.001, 0)]
)
def test_integers_are_quantized_on_the_way_in_and_out(kind, scale, zero):
    limits = np.iinfo(kind)
    values = np.array([[0.0, 1.26, -0.9], [1e6, -1e6, 0.126]], np.float32)
    expected = np.clip(np.rint(values / np.float32(scale)) + zero, limits.min, limits.max)
    with LitertRunner(handmade.requantized(kind, scale, zero)) as model:
        assert model.inputs[0].dtype == kind and model.inputs[0].scale == pytest.approx(scale)
        (output,) = model.predict(values)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, (expected - zero) * scale, rtol=1e-5, atol=1e-6)


def test_uint8_images_are_read_as_numbers():
    with LitertRunner(handmade.requantized("int8", 1.0, -128)) as model:
        pixels = np.array([[0, 128, 255]], np.uint8)
        np.testing.assert_array_equal(model.predict(pixels)[0], [[0, 128, 255]])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.float32])
def test_token_ids_go_in_as_they_are(dtype):
    ids = np.array([[3, 7], [0, 200]], dtype)
    with LitertRunner(handmade.token_ids()) as model:
        np.testing.assert_array_equal(model.predict(ids)[0], ids)


def test_token_ids_with_fractions_or_out_of_range_are_refused():
    with LitertRunner(handmade.token_ids()) as model:
        with pytest.raises(DataError, match=r"input 'ids': expected whole numbers \(int32\)"):
            model.predict(np.array([[0.5, 1.0]], np.float32))
        with pytest.raises(DataError, match="expected numbers from -2147483648 to 2147483647"):
            model.predict(np.array([[0, 2**40]]))


def test_inputs_by_name_and_by_order_and_outputs_in_keras_order():
    a, b = X[:5, :3], X[5:10, :3]
    with LitertRunner(handmade.two_outputs()) as model:
        assert [spec.name for spec in model.inputs] == ["b", "a"]
        for inputs in ({"a": a, "b": b}, [b, a]):
            total, product = model.predict(inputs)
            np.testing.assert_allclose(total, a + b)
            np.testing.assert_allclose(product, a * b)
        with pytest.raises(DataError, match="input 'c' is unknown to the model"):
            model.predict({"a": a, "c": b})
        with pytest.raises(DataError, match=r"inputs: expected 2 \(b, a\), received 1"):
            model.predict(a)
        with pytest.raises(DataError, match="expected b, a, received a"):
            model.predict({"a": a})
        with pytest.raises(DataError, match="same number of samples in each, received b: 4, a: 5"):
            model.predict([b[:4], a])


def test_named_outputs_keep_the_order_of_the_signature():
    with LitertRunner(handmade.two_outputs(("zebra", "ape"))) as model:
        assert [spec.name for spec in model.outputs] == ["zebra", "ape"]


def test_only_names_that_tensorflow_numbered_are_put_in_order():
    with LitertRunner(handmade.two_outputs(("output_10", "output_2"))) as model:
        assert [spec.name for spec in model.outputs] == ["output_2", "output_10"]


@pytest.mark.parametrize("preset", ["float32", "int8_float_io"])
def test_numbers_in_our_own_files_are_names(tmp_path, preset):
    import keras

    from litesmith.export import export

    x = keras.Input((4,), name="x")
    heads = [keras.layers.Dense(3, name=f"output_{number}")(x) for number in (2, 1)]
    model = keras.Model(x, heads)
    file = export(model, tmp_path / "own.tflite", quantize=preset, calibration=X)
    with runner(file) as opened:
        assert [spec.name for spec in opened.outputs] == ["output_2", "output_1"]
        for found, expected in zip(opened.predict(X), predict(model, X), strict=True):
            np.testing.assert_allclose(found, expected, atol=0.05)


def test_wrong_data_are_refused():
    with LitertRunner(handmade.fixed_reshape()) as model:
        wrong = r"shape of a sample: expected \(2, 2\), received \(4,\); reshape each sample"
        with pytest.raises(DataError, match=wrong):
            model.predict(X)
        with pytest.raises(DataError, match="expected finite numbers, received NaN in sample 1"):
            model.predict(np.array([np.zeros((2, 2)), np.full((2, 2), np.nan)]))
        with pytest.raises(DataError, match="expected at least one sample, received none"):
            model.predict(np.zeros((0, 2, 2), np.float32))
        with pytest.raises(DataError, match="expected numbers, received dtype <U1"):
            model.predict(np.full((1, 2, 2), "a"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "received an empty file"),
        (handmade.dense()[:8], "expected a .tflite"),
        (handmade.dense()[:300], "a damaged one"),
        (b"some text that is no model", "expected a .tflite"),
    ],
)
def test_files_that_are_no_models(tmp_path, content, message):
    path = tmp_path / "broken.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        runner(path)
    assert "broken.tflite" in str(caught.value) and "\n" not in str(caught.value)


def test_an_operator_that_litert_does_not_have(tmp_path):
    content = handmade.model(
        [handmade.T("x", (-1, 4)), handmade.T("y", (-1, 4))],
        [("CUSTOM", [0], [1], None)],
        [0],
        [1],
    )
    with pytest.raises(ModelError, match="LiteRT cannot open the model"):
        runner(handmade.write(tmp_path, content))


def test_a_string_input_is_refused():
    content = handmade.model(
        [handmade.T("x", (-1, 4), "string"), handmade.T("y", (-1, 4))],
        [("CAST", [0], [1], None)],
        [0],
        [1],
    )
    with pytest.raises(ModelError, match="'x': expected numbers, received type string"):
        LitertRunner(content)


def test_a_child_that_dies_is_one_line(tmp_path):
    with LitertRunner(handmade.dense()) as model:
        model.predict(X)
        model._child._process.kill()
        with pytest.raises(EvaluationError, match="could not be run"):
            model.predict(X)


@pytest.mark.parametrize("warm", [True, False])
def test_a_child_that_hangs_is_stopped(monkeypatch, warm):
    with LitertRunner(handmade.dense()) as model:
        if warm:
            model.predict(X)
        monkeypatch.setattr("litesmith.evaluation.litert_runner._PATIENCE", 0.2)
        os.kill(model._child.pid, signal.SIGSTOP)
        with pytest.raises(EvaluationError, match="could not be run: .* did not answer within 1 s"):
            model.predict(X[:1])


def test_threads_must_be_a_count():
    with pytest.raises(InputError, match="num_threads: expected 1 or more, received 0"):
        LitertRunner(handmade.dense(), num_threads=0)


def test_no_shared_file_is_left(tmp_path, monkeypatch):
    with LitertRunner(handmade.dense()) as model:
        path = model._shared.path
        with pytest.raises(
            FileNotFoundError
        ):  # from the start: a killed process leaves none either
            open(path, "rb")
        np.testing.assert_allclose(model.predict(X)[0], Y, atol=1e-6)


def test_predict_goes_through_all_of_the_data(tmp_path):
    seen = []
    (output,) = predict(
        handmade.write(tmp_path, handmade.dense()),
        X,
        batch_size=64,
        progress=lambda done, total: seen.append((done, total)),
    )
    np.testing.assert_allclose(output, Y, atol=1e-6)
    assert seen == [(64, 150), (128, 150), (150, 150)]
