"""The metric `loss`: cross-entropy or squared error, told from labels and outputs.

Whether outputs are probabilities or logits is known for sure only when all of them have been
seen; so both readings are summed up, and the right one is taken at the end.
"""

from __future__ import annotations

import numpy as np

from litesmith.evaluation.classes import Labels, columns, within_unit

# Keras clips probabilities by the same.
_EPSILON = 1e-7


class Loss:
    """Mean cross-entropy or squared error, whichever fits labels and outputs."""

    def __init__(self, name: str = "loss"):
        self.name = name
        self.rows = _LossSums()  # one class a row: categorical cross-entropy
        self.elements = _LossSums()  # columns on their own: binary cross-entropy
        self.squared = self.row_sum = 0.0
        self.unit = self.categorical = self.binary = True

    def update(self, labels: np.ndarray, output: np.ndarray) -> None:
        """Add up one batch, in each reading that may turn out to be the right one."""
        output = columns(output).astype(np.float64)
        fitted = Labels(labels, output)
        self.unit &= within_unit(output)
        if fitted.form == "sparse" or fitted.shares:
            self._add_rows(fitted, output)
        else:
            self.categorical = False
        if fitted.form != "sparse":
            self._add_elements(fitted.values, output)

    def _add_rows(self, labels: Labels, output: np.ndarray) -> None:
        target = labels.one_hot(output.shape[-1])
        sums = output.sum(-1, keepdims=True)
        self.row_sum += float(sums.sum())
        self.rows.count += sums.size
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.clip(output / sums, _EPSILON, 1 - _EPSILON)
            self.rows.probable -= float((target * np.log(shares)).sum())
        shifted = output - output.max(-1, keepdims=True)
        logarithm = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        self.rows.logit -= float((target * logarithm).sum())

    def _add_elements(self, truth: np.ndarray, output: np.ndarray) -> None:
        self.binary &= bool(((truth >= 0) & (truth <= 1)).all())
        self.elements.count += truth.size
        self.squared += float(((truth - output) ** 2).sum())
        clipped = np.clip(output, _EPSILON, 1 - _EPSILON)
        self.elements.probable -= float(
            (truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)).sum()
        )
        # log(1 + exp(x)) − x·t, written so that neither end overflows.
        self.elements.logit += float(
            (np.maximum(output, 0) - output * truth + np.log1p(np.exp(-np.abs(output)))).sum()
        )

    def result(self) -> float:
        """At least 0."""
        if self.categorical:
            return self.rows.mean(self.unit and 0.5 < self.row_sum / self.rows.count < 1.5)
        if self.binary:
            return self.elements.mean(self.unit)
        return self.squared / self.elements.count


class _LossSums:
    """A cross-entropy summed up in both readings of the outputs."""

    def __init__(self) -> None:
        self.count = 0
        self.probable = self.logit = 0.0

    def mean(self, probabilities: bool) -> float:
        return (self.probable if probabilities else self.logit) / self.count
