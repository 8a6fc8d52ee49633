"""Metrics, computed from batches as they come; nothing but sums is kept.

| name | what |
|---|---|
| `accuracy`, `acc` | share of right classes, as `classes.py` reads them |
| `top5` (`top3`, …; `top_k` is `top5`) | share of samples whose class is among the five largest |
| `loss` | mean cross-entropy, categorical or binary; mean squared error for a regression |
| `auc` | area under the ROC curve, exact, ties count half |
| `mse`, `mae` | mean squared and mean absolute error; class numbers are read as one-hot |

Where labels have several ones a row, `accuracy` is the share of right columns. Of several classes
`auc` is the mean, each against the rest. Any other name is looked up in `keras.metrics`; a
`keras.metrics.Metric` and a function `(labels, outputs) -> number, or one a sample` work as well.

Outputs may be probabilities or logits. `accuracy`, `top5` and `auc` need not know. `loss` has to:
it sums up both readings and takes the one that all the values allow (rows in 0…1 that sum to
about 1, or single columns in 0…1, are probabilities; about, since an int8 softmax rounds each of
its columns).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from litesmith.errors import DataError, EvaluationError, InputError, did_you_mean
from litesmith.evaluation.classes import Labels, columns, within_unit
from litesmith.evaluation.losses import Loss

NAMES = ("accuracy", "top5", "loss", "auc", "mse", "mae")
_ALIASES = {
    "acc": "accuracy",
    "top_k": "top5",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
}


class StreamingMetric(Protocol):
    """A metric that sees one batch at a time."""

    name: str

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Take in one batch: labels `(batch, …)`, output `(batch, …, classes)`."""
        ...

    def result(self) -> float:
        """The value over everything seen."""
        ...


class Accuracy:
    """Share of right classes."""

    def __init__(self, name: str = "accuracy"):
        self.name = name
        self.total = self.entries = 0
        self.right = self.right_half = self.right_zero = self.right_columns = 0
        self.unit = self.shares = True

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Count one batch."""
        output = columns(output)
        fitted = Labels(labels, output)
        self.unit &= within_unit(output)
        if fitted.form == "single":
            self._need_binary(fitted)
            truth = fitted.values == 1
            self.right_half += int(((output > 0.5) == truth).sum())
            self.right_zero += int(((output > 0) == truth).sum())
            self.total += truth.size
            self.single = True
            return
        self.single = False
        self.right += int((output.argmax(-1) == fitted.classes).sum())
        self.total += fitted.classes.size
        if fitted.form == "rows" and not fitted.shares:
            self._need_binary(fitted)
            self.shares = False
        if fitted.form == "rows":
            truth = fitted.values == 1
            self.right_half += int(((output > 0.5) == truth).sum())
            self.right_zero += int(((output > 0) == truth).sum())
            self.entries += truth.size

    def _need_binary(self, labels: Labels) -> None:
        if not labels.binary:
            raise DataError(
                "labels",
                expected=f"classes, for the metric {self.name!r}",
                received="other numbers than 0 and 1",
                fix="use 'mse' or 'mae' for a regression",
            )

    def result(self) -> float:
        """0…1."""
        if self.single or not self.shares:
            right = self.right_half if self.unit else self.right_zero
            return right / (self.total if self.single else self.entries)
        return self.right / self.total


class TopK:
    """Share of samples whose class is among the k largest columns."""

    def __init__(self, k: int, name: str | None = None):
        self.k, self.name = k, name or f"top{k}"
        self.total = self.right = 0

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Count one batch."""
        output = columns(output)
        classes = Labels(labels, output).classes
        if output.shape[-1] < 2:
            raise DataError(
                f"metric {self.name!r}",
                expected="an output of several classes",
                received="an output of one column",
            )
        own = np.take_along_axis(output, classes[..., None].astype(np.int64), -1)
        # Rank 0 is the largest; equal values share the better rank, as in Keras.
        self.right += int(((output > own).sum(-1) < self.k).sum())
        self.total += classes.size

    def result(self) -> float:
        """0…1."""
        return self.right / self.total


class AreaUnderCurve:
    """Area under the ROC curve: the chance that a positive scores above a negative.

    Computed from ranks (Mann and Whitney), so the scores are kept: one number a column and
    sample. A class that never occurs, or always, has no curve and is left out of the mean.
    """

    def __init__(self, name: str = "auc"):
        self.name = name
        self.scores: list[np.ndarray] = []
        self.truths: list[np.ndarray] = []

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Keep one batch's scores."""
        output = columns(output)
        fitted = Labels(labels, output)
        if fitted.form != "sparse" and not fitted.binary:
            raise DataError(
                "labels", expected="0 and 1, for the metric 'auc'", received="other numbers"
            )
        truth = fitted.one_hot(output.shape[-1]) == 1
        self.scores.append(output.reshape(-1, output.shape[-1]).astype(np.float32))
        self.truths.append(truth.reshape(-1, output.shape[-1]))

    def result(self) -> float:
        """0…1; 0.5 is chance."""
        scores, truths = np.concatenate(self.scores), np.concatenate(self.truths)
        areas = [_area(scores[:, i], truths[:, i]) for i in range(scores.shape[1])]
        known = [area for area in areas if area is not None]
        if not known:
            raise DataError(
                "metric 'auc'", expected="samples of both classes", received="samples of one"
            )
        return float(np.mean(known))


def _area(scores: np.ndarray, truth: np.ndarray) -> float | None:
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        return None
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[places]  # equal scores share their mean rank
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


class MeanError:
    """Mean squared or mean absolute error."""

    def __init__(self, name: str, function: Callable[[np.ndarray], np.ndarray]):
        self.name, self.function = name, function
        self.total, self.sum = 0, 0.0

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Add up one batch."""
        output = columns(output).astype(np.float64)
        fitted = Labels(labels, output)
        target = fitted.one_hot(output.shape[-1])
        self.sum += float(self.function(target - output).sum())
        self.total += target.size

    def result(self) -> float:
        """At least 0."""
        return self.sum / self.total


class KerasMetric:
    """A `keras.metrics.Metric`, reset first."""

    def __init__(self, metric: Any, name: str | None = None):
        self.metric = metric
        self.name = name or metric.name
        self.metric.reset_state()

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Hand one batch to Keras."""
        try:
            self.metric.update_state(labels, output)
        except Exception as error:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise EvaluationError(
                f"metric {self.name!r} failed on labels of shape {list(labels.shape)} and "
                f"outputs of shape {list(output.shape)}: {text}"
            ) from error

    def result(self) -> float:
        """Keras' number; the mean where it gives several."""
        value = self.metric.result()
        values = list(value.values()) if isinstance(value, Mapping) else [value]
        return float(np.mean([np.mean(_to_numpy(each)) for each in values]))


class FunctionMetric:
    """A function of labels and outputs: one number for each sample, or one for the batch."""

    def __init__(self, function: Callable[..., Any], name: str | None = None):
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.total, self.sum = 0, 0.0

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Add up one batch; a single number counts for each of its samples."""
        value = np.asarray(_to_numpy(self.function(labels, output)), np.float64)
        self.total += len(output)
        self.sum += float(value.mean()) * len(output)

    def result(self) -> float:
        """Mean over the samples."""
        return self.sum / self.total


def _to_numpy(value: Any) -> np.ndarray:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(value))


def metric(what: Any) -> StreamingMetric:
    """A metric from a name, a Keras metric or a function.

    Args:
        what: one of `NAMES`, a `topN`, a name `keras.metrics` knows, a `keras.metrics.Metric`, or
            a function `(labels, outputs) -> number or numbers`.

    Raises:
        InputError: there is no such metric.
    """
    if isinstance(what, str):
        return _named(what)
    if all(hasattr(what, name) for name in ("update_state", "result", "reset_state")):
        return KerasMetric(what)
    if callable(what):
        return FunctionMetric(what)
    raise InputError("metric", expected="a name, a Keras metric or a function", received=what)


def _named(name: str) -> StreamingMetric:
    plain = _ALIASES.get(name, name)
    top = re.fullmatch(r"top_?(\d+)", plain)
    if top and int(top[1]):
        return TopK(int(top[1]), name)
    if plain == "accuracy":
        return Accuracy(name)
    if plain == "loss":
        return Loss(name)
    if plain == "auc":
        return AreaUnderCurve(name)
    if plain == "mse":
        return MeanError(name, np.square)
    if plain == "mae":
        return MeanError(name, np.abs)
    import keras

    try:
        found = keras.metrics.get(name)
    except ValueError:
        found = None
    if found is None:
        known = [each for each in dir(keras.metrics) if not each.startswith("_")]
        raise InputError(
            "metric",
            expected="a metric's name",
            received=repr(name),
            fix=_suggestion(name, known),
        )
    if isinstance(found, type):
        found = found()
    if isinstance(found, keras.metrics.Metric):
        return KerasMetric(found, name)
    return KerasMetric(keras.metrics.MeanMetricWrapper(found, name=name), name)


def _suggestion(name: str, known: Iterable[str]) -> str:
    hint = did_you_mean(name, [*NAMES, *known])
    if hint.startswith("did you mean"):
        return hint
    return f"choose one of {', '.join(map(repr, NAMES))} or a name of keras.metrics"


def metrics_by_output(
    wanted: Any, outputs: Sequence[str]
) -> list[tuple[int, str, StreamingMetric]]:
    """The metrics of each output.

    Args:
        wanted: a metric, a list of them for the first output, or a dict of these by the output's
            name or number.
        outputs: the model's output names, in order.

    Returns:
        Output number, name of the result (``"accuracy"``, or ``"output/accuracy"`` for a dict)
        and metric, for each.

    Raises:
        InputError: no such metric or output, or one metric asked for twice.
    """
    if isinstance(wanted, Mapping):
        rows = [
            (index, f"{outputs[index] if index < len(outputs) else index}/{each.name}", each)
            for key, some in wanted.items()
            for index in [_output_index(key, outputs)]
            for each in _listed(some)
        ]
    else:
        rows = [(0, each.name, each) for each in _listed(wanted)]
    names = [name for _, name, _ in rows]
    for name in names:
        if names.count(name) > 1:
            raise InputError("metrics", expected="each one once", received=f"{name!r} twice")
    return rows


def _listed(some: Any) -> list[StreamingMetric]:
    if isinstance(some, (list, tuple)):
        return [metric(each) for each in some]
    return [metric(some)]


def _output_index(key: Any, outputs: Sequence[str]) -> int:
    if isinstance(key, str):
        if key not in outputs:
            raise InputError(f"output {key!r} is unknown", fix=did_you_mean(key, outputs))
        return list(outputs).index(key)
    if not isinstance(key, int) or not 0 <= key < max(len(outputs), 1):
        raise InputError(
            "metrics", expected=f"an output's name or number below {len(outputs)}", received=key
        )
    return key
