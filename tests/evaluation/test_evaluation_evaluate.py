"""`evaluate` on Keras models and on `.tflite` files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from litesmith.errors import DataError, EvaluationError, InputError, ModelError
from litesmith.evaluation import evaluate, predict, runner
from tests.evaluation import handmade

RNG = np.random.default_rng(2)
X = RNG.random((70, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, 70)
LOGITS = X @ handmade.WEIGHTS.T + handmade.BIAS


def dense_model():
    import keras

    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(inputs), name="dense")
    model.set_weights([handmade.WEIGHTS.T, handmade.BIAS])
    return model


@pytest.mark.every_backend
def test_keras_and_tflite_score_the_same(tmp_path):
    model = dense_model()
    path = handmade.write(tmp_path, handmade.dense(), "small.tflite")
    seen = []
    metrics = ["accuracy", "top2", "loss", "auc"]
    first = evaluate(
        model, (X, LABELS), metrics, reference=path, progress=lambda d, t: seen.append((d, t))
    )
    second = evaluate(path, (X, LABELS), metrics, reference=model, batch_size=16)
    assert first["accuracy"] == pytest.approx((LOGITS.argmax(1) == LABELS).mean())
    assert second.metrics == pytest.approx(first.metrics, rel=1e-5)
    assert first.agreement == second.agreement == 1.0
    assert first.samples == second.samples == 70
    assert seen[-1] == (70, 70)
    assert (second.name, second.source) == ("small", str(path))
    assert json.loads(json.dumps(second.to_dict()))["metrics"] == second.metrics


@pytest.mark.every_backend
def test_keras_models_of_several_inputs_and_outputs():
    import keras

    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    both = keras.layers.Concatenate()([a, b])
    outputs = [keras.layers.Dense(2, name="head")(both), keras.layers.Dense(1, name="box")(both)]
    model = keras.Model([b, a], outputs)
    ones = {"a": np.ones((9, 3), np.float32), "b": np.zeros((9, 2), np.float32)}
    by_name = predict(model, ones, batch_size=4)
    in_order = predict(model, [ones["b"], ones["a"]])
    for first, second in zip(by_name, in_order, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
    assert [output.shape for output in by_name] == [(9, 2), (9, 1)]
    truth = (by_name[0].argmax(1), by_name[1][:, 0] + 2)
    result = evaluate(model, (ones, truth), {"head": "accuracy", "box": "mse"})
    assert result.metrics == pytest.approx({"head/accuracy": 1.0, "box/mse": 4.0}, rel=1e-4)
    with pytest.raises(DataError, match="input 'c' is unknown to the model"):
        predict(model, {"a": ones["a"], "c": ones["b"]})


@pytest.mark.every_backend
def test_a_subclassed_model_and_a_dict_of_inputs():
    import keras

    class Twice(keras.Model):
        def call(self, inputs):
            return {"sum": inputs["a"] + inputs["b"], "a": inputs["a"]}

    inputs = {"a": np.ones((5, 2), np.float32), "b": np.full((5, 2), 2, np.float32)}
    first, total = predict(Twice(), inputs, batch_size=2)
    np.testing.assert_allclose(first, inputs["a"])
    np.testing.assert_allclose(total, inputs["a"] + inputs["b"])

    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"a": a, "b": b}, keras.layers.Subtract()([a, b]))
    with runner(model) as opened:
        (difference,) = opened.predict(inputs)
    np.testing.assert_allclose(difference, np.full((5, 2), -1))


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_names_are_those_of_the_file(tmp_path):
    import keras

    from litesmith.export import export

    z = keras.Input((4,), name="inp")
    heads = {"b": keras.layers.Dense(2, name="lb")(z), "a": keras.layers.Dense(2, name="la")(z)}
    model = keras.Model({"z": z}, heads)
    truth = {key: np.asarray(value) for key, value in model.predict({"z": X}, verbose=0).items()}
    truth["b"] = truth["b"] + 1
    file = export(model, tmp_path / "named.tflite")
    for each in (model, file):
        found = evaluate(each, ({"z": X}, truth), {"a": "mse", "b": "mse"})
        assert found.outputs == ("a", "b")
        assert found.metrics == pytest.approx({"a/mse": 0.0, "b/mse": 1.0}, abs=1e-5)
        with pytest.raises(DataError, match="labels: expected outputs a, b, received lb, la"):
            evaluate(each, ({"z": X}, {"lb": truth["b"], "la": truth["a"]}))


@pytest.mark.every_backend
def test_labels_by_name_of_a_subclassed_model():
    import keras

    class Heads(keras.Model):
        def call(self, inputs):
            return {"b": inputs + 1.0, "a": inputs}

    found = evaluate(Heads(), (X, {"b": X, "a": X}), ["mse"])
    assert found.outputs == ("a", "b") and found["mse"] == pytest.approx(0.0)


@pytest.mark.every_backend
def test_keras_models_that_fail():
    import keras

    class Broken(keras.Model):
        def call(self, inputs):
            raise RuntimeError("it broke")

    with pytest.raises(EvaluationError, match="could not be run: .*it broke"):
        predict(Broken(), X)
    with pytest.raises(DataError, match=r"shape of a sample: expected \(4,\), received \(3,\)"):
        predict(dense_model(), X[:, :3])


def test_the_model_is_left_as_it_was():
    model = dense_model()
    model.compile("sgd", "mse")
    before = [w.copy() for w in model.get_weights()]
    evaluate(model, (X, LABELS))
    assert model.compiled and model.loss == "mse"
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_keras_files_and_a_limit(tmp_path):
    dense_model().save(tmp_path / "model.keras")
    result = evaluate(tmp_path / "model.keras", (X, LABELS), limit=20)
    assert (result.name, result.samples) == ("model", 20)
    assert result["accuracy"] == pytest.approx((LOGITS[:20].argmax(1) == LABELS[:20]).mean())


def test_two_outputs_of_a_tflite():
    class Content:  # what export.FloatModel has
        content = handmade.two_outputs(("sum", "product"))

    a, b = X[:, :3], X[:, 1:]
    result = evaluate(
        Content(),
        ({"a": a, "b": b}, {"product": a * b + 1, "sum": a + b}),
        {"product": "mse", "sum": "mae"},
        reference=Content(),
    )
    assert result.metrics == pytest.approx({"product/mse": 1.0, "sum/mae": 0.0}, abs=1e-5)
    assert result.agreement is None  # labels with fractions: a regression


def test_a_runner_stays_open(tmp_path):
    with runner(handmade.write(tmp_path, handmade.dense())) as model:
        evaluate(model, (X, LABELS))
        assert runner(model) is model
        assert len(model.predict(X)[0]) == 70


def test_an_answer_of_nan_is_an_error(tmp_path):
    path = handmade.write(tmp_path, handmade.dense(), "wild.tflite")
    wild = X.copy()
    wild[65] = 3e38
    with pytest.raises(
        EvaluationError, match="answered (infinity|NaN) in output 'y' for sample 65"
    ):
        evaluate(path, (wild, LABELS), batch_size=32)


def test_what_is_missing_or_does_not_fit(tmp_path):
    path = handmade.write(tmp_path, handmade.dense())
    with pytest.raises(DataError, match="expected labels, for the metric 'accuracy', received inp"):
        evaluate(path, X)
    with pytest.raises(DataError, match="received 4 to 4; check that data and model belong"):
        evaluate(path, (X, np.full(70, 4)))
    with pytest.raises(DataError, match="expected outputs y, received y, z"):
        evaluate(path, (X, {"y": LABELS, "z": LABELS}))
    with pytest.raises(DataError, match="reference: expected 1 outputs, received 2"):
        two = handmade.write(tmp_path, handmade.two_outputs(), "two.tflite")
        with runner(two) as other:
            other.predict = lambda inputs: [np.zeros((len(inputs), 3))] * 2
            evaluate(path, (X, LABELS), reference=other)
    with pytest.raises(InputError, match="did you mean 'accuracy'"):
        evaluate(path, (X, LABELS), ["acuracy"])
    with pytest.raises(ModelError, match="expected a Keras model, a path, an Artifact or a Runner"):
        evaluate(3, (X, LABELS))


def test_metrics_may_be_left_out(tmp_path):
    path = handmade.write(tmp_path, handmade.dense())
    result = evaluate(path, X, (), reference=path)
    assert result.metrics == {} and result.agreement == 1.0
