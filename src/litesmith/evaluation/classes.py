"""Reading classes out of outputs and labels, and the agreement of two models.

Whether a model ends in probabilities or in logits cannot be asked of a `.tflite`; so it is seen
from the numbers, over all the data and not batch by batch:

* An output of two or more columns is a choice among classes: the largest column wins, for
  probabilities and logits alike.
* An output of one column is a probability if all its values lie in 0…1, and 0.5 is the
  threshold. Otherwise it is a logit where the labels are 0 and 1, with 0 as the threshold, and
  a regression where they are not.
* Labels that are real numbers with fractions, and are no rows of shares that sum to 1, make it
  a regression, however many columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from litesmith.errors import DataError

# A dequantized probability can lie a rounding error outside.
_SLACK = 1e-4


def columns(output: np.ndarray) -> np.ndarray:
    """The output with its classes along the last axis: `(batch,)` becomes `(batch, 1)`."""
    return output[:, None] if output.ndim == 1 else output


def within_unit(output: np.ndarray) -> bool:
    """Whether all values could be probabilities."""
    return bool(output.size == 0 or (output.min() >= -_SLACK and output.max() <= 1 + _SLACK))


class Labels:
    """A batch of labels, fitted to an output's shape.

    Args:
        labels: `(batch, …)`.
        output: the output they belong to, `(batch, …, classes)`.
        name: the output's name, for errors.

    Attributes:
        form: ``"sparse"`` (class numbers), ``"rows"`` (one column a class), ``"single"`` (one
            column, as the output has).
        values: class numbers as int64 of shape `(batch, …)` where sparse; else float64 of the
            output's shape.

    Raises:
        DataError: the shapes do not go together, a class number is out of range, or not finite.
    """

    def __init__(self, labels: np.ndarray, output: np.ndarray, name: str = "output"):
        labels, output = np.asarray(labels), columns(output)
        if labels.dtype.kind not in "fiub":
            raise DataError(
                "labels",
                expected="numbers",
                received=f"dtype {labels.dtype}",
                fix="turn the labels into numbers first",
            )
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise DataError(
                "labels",
                expected="finite numbers",
                received="NaN or infinity",
                fix="clean the labels first",
            )
        whole, last = output.shape, output.shape[-1]
        outer = whole[:-1]
        if last == 1:
            if labels.shape not in (whole, outer):
                raise _shape_error(labels, output, name)
            self.form = "single"
            self.values = labels.reshape(whole).astype(np.float64)
        elif labels.shape == whole:
            self.form, self.values = "rows", labels.astype(np.float64)
        elif labels.shape in (outer, (*outer, 1)):
            self.form = "sparse"
            self.values = _class_numbers(labels.reshape(outer), last, name)
        else:
            raise _shape_error(labels, output, name)

    @property
    def binary(self) -> bool:
        """Whether there are only zeros and ones."""
        return bool(((self.values == 0) | (self.values == 1)).all())

    @property
    def shares(self) -> bool:
        """Whether each row sums to 1: one-hot, or smoothed."""
        return self.form == "rows" and bool(
            self.values.min(initial=0) >= 0 and np.allclose(self.values.sum(-1), 1, atol=1e-3)
        )

    @property
    def classes(self) -> np.ndarray:
        """Class numbers, `(batch, …)`, from any form but ``single``."""
        return self.values if self.form == "sparse" else self.values.argmax(axis=-1)

    def one_hot(self, classes: int) -> np.ndarray:
        """float64 of the output's shape, from any form."""
        if self.form != "sparse":
            return self.values
        return (self.values[..., None] == np.arange(classes)).astype(np.float64)


def _class_numbers(labels: np.ndarray, classes: int, name: str) -> np.ndarray:
    numbers = labels.astype(np.int64)
    if labels.dtype.kind == "f" and (numbers != labels).any():
        raise DataError(
            "labels",
            expected=f"class numbers from 0 to {classes - 1} for {name!r}",
            received="numbers with fractions",
            fix="give whole class numbers, or a metric of a regression",
        )
    if numbers.size and (numbers.min() < 0 or numbers.max() >= classes):
        raise DataError(
            "labels",
            expected=f"class numbers from 0 to {classes - 1}, as {name!r} has {classes} columns",
            received=f"{numbers.min()} to {numbers.max()}",
            fix="check that data and model belong together",
        )
    return numbers


def _shape_error(labels: np.ndarray, output: np.ndarray, name: str) -> DataError:
    return DataError(
        "labels",
        expected=f"one for each result of {name!r}, whose shape is {list(output.shape)}",
        received=f"shape {list(labels.shape)}",
        fix="check that data and model belong together",
    )


class Agreement:
    """Share of samples to which two models give the same class, batch by batch; one output.

    Positions count singly where an output holds many a sample (segmentation).
    """

    def __init__(self) -> None:
        self.total = 0
        self.same = 0  # of several columns
        self.same_half = 0  # one column, thresholds 0.5 and 0
        self.same_zero = 0
        self.single = self.unit = True
        self.labels_seen = False
        self.binary = True
        self.regression = False

    def update(self, a: np.ndarray, b: np.ndarray, labels: Labels | None = None) -> None:
        """Count one batch of the same output of both models, `(batch, …, classes)`."""
        a, b = columns(a), columns(b)
        if a.shape != b.shape:
            raise DataError(
                "outputs to compare",
                expected=f"shape {list(a.shape)}",
                received=str(list(b.shape)),
                fix="compare two models of the same outputs",
            )
        self.total += a.size // max(a.shape[-1], 1)
        if labels is not None:
            self.labels_seen = True
            self.binary &= labels.form == "single" and labels.binary
            self.regression |= labels.form == "rows" and not (labels.shares or labels.binary)
            self.regression |= labels.form == "single" and not labels.binary
        if a.shape[-1] > 1:
            self.single = False
            self.same += int((a.argmax(-1) == b.argmax(-1)).sum())
            return
        self.unit &= within_unit(a) and within_unit(b)
        self.same_half += int(((a > 0.5) == (b > 0.5)).sum())
        self.same_zero += int(((a > 0) == (b > 0)).sum())

    def result(self) -> float | None:
        """The share, 0…1; None for a regression, where there are no classes to agree on."""
        if not self.total or self.regression:
            return None
        if not self.single:
            return self.same / self.total
        if self.unit:
            return self.same_half / self.total
        if self.labels_seen and self.binary:
            return self.same_zero / self.total
        return None


def agreement(
    outputs_a: np.ndarray | Sequence[np.ndarray], outputs_b: np.ndarray | Sequence[np.ndarray]
) -> float | None:
    """Share of samples where two models give the same class; the mean over their outputs.

    The largest of several columns is the class; a single column with values in 0…1 has its
    threshold at 0.5; any other single column is a regression and does not count.

    Args:
        outputs_a: outputs of one model, each `(samples, …, classes)`; or its only output.
        outputs_b: the other's, in the same order.

    Returns:
        0…1, or None where no output has classes.

    Raises:
        DataError: a different number of outputs, or of samples.
    """
    first = [outputs_a] if isinstance(outputs_a, np.ndarray) else list(outputs_a)
    second = [outputs_b] if isinstance(outputs_b, np.ndarray) else list(outputs_b)
    if len(first) != len(second):
        raise DataError(
            "outputs to compare",
            expected=f"{len(first)}",
            received=f"{len(second)}",
            fix="compare two models of the same outputs",
        )
    counters = []
    for a, b in zip(first, second, strict=True):
        counter = Agreement()
        counter.update(np.asarray(a), np.asarray(b))
        counters.append(counter)
    return mean_agreement(counters)


def mean_agreement(counters: Sequence[Agreement]) -> float | None:
    """Mean over the outputs that have classes; None where none has."""
    shares = [share for counter in counters if (share := counter.result()) is not None]
    return float(np.mean(shares)) if shares else None
