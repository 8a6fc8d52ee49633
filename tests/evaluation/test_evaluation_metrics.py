"""Metrics against hand-worked values, in batches and in one."""

from __future__ import annotations

import numpy as np
import pytest

from litesmith.errors import DataError, EvaluationError, InputError
from litesmith.evaluation.classes import Agreement, Labels, agreement
from litesmith.evaluation.metrics import metric, metrics_by_output

RNG = np.random.default_rng(1)
LOGITS = RNG.normal(size=(40, 5)).astype(np.float32)
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
CLASSES = RNG.integers(0, 5, 40)
ONE_HOT = np.eye(5)[CLASSES]


def value(name, labels, output, step=7):
    """The metric over batches of 7: whatever is streamed must not depend on the cuts."""
    each = metric(name)
    for start in range(0, len(output), step):
        each.update(labels[start : start + step], output[start : start + step])
    return each.result()


@pytest.mark.parametrize("output", [LOGITS, SOFTMAX])
@pytest.mark.parametrize("labels", [CLASSES, CLASSES[:, None], ONE_HOT, CLASSES.astype(float)])
def test_classes_from_logits_and_probabilities(output, labels):
    right = (LOGITS.argmax(1) == CLASSES).mean()
    assert value("accuracy", labels, output) == pytest.approx(right)
    own = LOGITS[np.arange(40), CLASSES][:, None]
    assert value("top2", labels, output) == pytest.approx(((LOGITS > own).sum(1) < 2).mean())
    assert value("top_k", labels, output) == 1.0
    entropy = -np.log(SOFTMAX[np.arange(40), CLASSES]).mean()
    assert value("loss", labels, output) == pytest.approx(entropy, rel=1e-5)


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_one_column_of_probabilities_and_of_logits(shape):
    truth = RNG.integers(0, 2, shape)
    logit = RNG.normal(size=(40, 1)).astype(np.float32) * 3
    probability = 1 / (1 + np.exp(-logit))
    flat = truth.reshape(40, 1)
    right = ((logit > 0) == (flat == 1)).mean()
    entropy = -np.where(flat == 1, np.log(probability), np.log(1 - probability)).mean()
    for output in (logit, probability, probability[:, 0]):
        assert value("accuracy", truth, output) == pytest.approx(right)
        assert value("loss", truth, output) == pytest.approx(entropy, rel=1e-4)


def test_an_int8_softmax_that_sums_to_about_one_is_still_probabilities():
    rough = np.rint(SOFTMAX * 256) / 256
    exact = value("loss", CLASSES, SOFTMAX)
    assert value("loss", CLASSES, rough) == pytest.approx(exact, rel=0.02)


def test_several_ones_a_row():
    truth = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 0]])
    output = np.array([[0.9, 0.8, 0.6], [0.1, 0.2, 0.7], [0.4, 0.1, 0.2]])
    assert value("accuracy", truth, output, step=1) == pytest.approx(7 / 9)
    likely = np.where(truth == 1, output, 1 - output)
    assert value("loss", truth, output, step=1) == pytest.approx(-np.log(likely).mean())


def test_a_regression():
    truth, output = np.array([1.5, -2.0, 4.0]), np.array([[1.0], [-2.0], [6.0]])
    assert value("mse", truth, output, step=1) == pytest.approx((0.25 + 4) / 3)
    assert value("loss", truth, output, step=1) == pytest.approx((0.25 + 4) / 3)
    assert value("mae", truth, output, step=1) == pytest.approx(2.5 / 3)
    with pytest.raises(DataError, match="expected classes, for the metric 'accuracy'"):
        value("accuracy", truth, output)


def test_auc_counts_ties_half():
    # Positives 0.9, 0.5; negatives 0.5, 0.1: of four pairs three are won and one is a tie.
    truth, output = np.array([1, 0, 1, 0]), np.array([[0.9], [0.5], [0.5], [0.1]])
    assert value("auc", truth, output, step=3) == pytest.approx(3.5 / 4)
    assert value("auc", CLASSES, LOGITS) == pytest.approx(
        np.mean([_auc(CLASSES == c, LOGITS[:, c]) for c in range(5)])
    )
    with pytest.raises(DataError, match="expected samples of both classes"):
        value("auc", np.ones(4), output)
    with pytest.raises(DataError, match="expected 0 and 1, for the metric 'auc'"):
        value("auc", np.array([1.0, 0.3, 2.0, 0.0]), output)


def _auc(truth, scores):
    pairs = scores[truth][:, None] - scores[~truth][None]
    return ((pairs > 0) + 0.5 * (pairs == 0)).mean()


def test_each_position_of_a_segmentation_counts():
    output = RNG.normal(size=(3, 4, 4, 2))
    truth = output.argmax(-1)
    truth[0, 0, 0] = 1 - truth[0, 0, 0]
    assert value("accuracy", truth, output, step=2) == pytest.approx(47 / 48)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(40, 5), "expected class numbers from 0 to 4, .*received 5 to 5"),
        (np.full(40, -1), "received -1 to -1"),
        (np.full(40, 0.5), "received numbers with fractions"),
        (np.zeros((40, 4)), r"whose shape is \[40, 5\], received shape \[40, 4\]"),
        (np.full(40, np.nan), "expected finite numbers, received NaN"),
        (np.full(40, "a"), "received dtype <U1"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(DataError, match=message):
        Labels(labels, LOGITS)


def test_top_k_needs_columns():
    with pytest.raises(DataError, match="expected an output of several classes"):
        value("top3", np.ones(4), np.ones((4, 1)))


def test_agreement():
    assert agreement(SOFTMAX, LOGITS) == 1.0
    other = LOGITS.copy()
    other[:4] = -other[:4]  # the largest becomes the smallest
    assert agreement(LOGITS, other) == pytest.approx(36 / 40)
    sigmoid = np.array([[0.2], [0.8], [0.6]])
    assert agreement(sigmoid, np.array([[0.4], [0.3], [0.9]])) == pytest.approx(2 / 3)
    regression = sigmoid * 10
    assert agreement(regression, regression) is None
    assert agreement([LOGITS, sigmoid, regression], [other, sigmoid, regression]) == (
        pytest.approx((36 / 40 + 1) / 2)
    )
    with pytest.raises(DataError, match="outputs to compare: expected 2, received 1"):
        agreement([LOGITS, LOGITS], LOGITS)
    with pytest.raises(DataError, match=r"expected shape \[40, 5\], received \[40, 4\]"):
        agreement(LOGITS, LOGITS[:, :4])


def test_labels_tell_a_logit_from_a_regression():
    logit = np.array([[3.0], [-2.0], [0.7]])
    for labels, expected in (([1, 0, 1], 2 / 3), ([1.5, 0.0, 1.0], None)):
        counter = Agreement()
        fitted = Labels(np.array(labels), logit)
        counter.update(logit, np.array([[1.0], [-5.0], [-0.7]]), fitted)
        assert counter.result() == (expected if expected is None else pytest.approx(expected))
    columns = Agreement()
    columns.update(LOGITS, LOGITS, Labels(RNG.normal(size=(40, 5)), LOGITS))
    assert columns.result() is None


def test_names_that_are_none():
    with pytest.raises(
        InputError,
        match="metric: expected a metric's name, received 'acuracy'; did you mean 'accuracy'",
    ):
        metric("acuracy")
    with pytest.raises(InputError, match="received 'xq'; choose one of 'accuracy'"):
        metric("xq")
    with pytest.raises(InputError, match="expected a name, a Keras metric or a function"):
        metric(3)
    with pytest.raises(InputError, match="output 'heads' is unknown; did you mean 'head'"):
        metrics_by_output({"heads": "accuracy"}, ["head", "box"])
    with pytest.raises(InputError, match="name or number below 2, received 2"):
        metrics_by_output({2: "accuracy"}, ["head", "box"])
    with pytest.raises(InputError, match="expected each one once, received 'mse' twice"):
        metrics_by_output(["mse", "mse"], ["head"])


def test_metrics_of_several_outputs():
    rows = metrics_by_output({"box": ["mse", "mae"], 0: "accuracy"}, ["head", "box"])
    assert [(i, name) for i, name, _ in rows] == [
        (1, "box/mse"),
        (1, "box/mae"),
        (0, "head/accuracy"),
    ]


@pytest.mark.every_backend
def test_keras_metrics_and_functions():
    import keras

    right = (LOGITS.argmax(1) == CLASSES).mean()
    assert value("SparseCategoricalAccuracy", CLASSES, SOFTMAX) == pytest.approx(right)
    entropy = value("loss", CLASSES, SOFTMAX)
    assert value("sparse_categorical_crossentropy", CLASSES, SOFTMAX) == pytest.approx(
        entropy, rel=1e-4
    )
    used = keras.metrics.MeanSquaredError(name="error")
    used.update_state(ONE_HOT, ONE_HOT + 5)  # what was in it before must not count
    assert value(used, ONE_HOT, SOFTMAX) == pytest.approx(((ONE_HOT - SOFTMAX) ** 2).mean(), 1e-4)

    def worst(labels, outputs):
        return keras.ops.max(keras.ops.abs(labels - outputs), axis=-1)

    expected = np.abs(ONE_HOT - SOFTMAX).max(1).mean()
    assert value(worst, ONE_HOT, SOFTMAX) == pytest.approx(expected, rel=1e-4)
    assert metric(worst).name == "worst"
    with pytest.raises(EvaluationError, match="metric 'cosine_similarity' failed on labels of"):
        value("cosine_similarity", ONE_HOT[:, :3], SOFTMAX)
