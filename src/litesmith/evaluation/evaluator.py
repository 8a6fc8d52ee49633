"""The same metrics on a Keras model and on a `.tflite`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litesmith.errors import DataError, EvaluationError
from litesmith.evaluation.classes import Agreement, Labels, mean_agreement
from litesmith.evaluation.metrics import metrics_by_output
from litesmith.evaluation.runners import Runner, runner
from litesmith.evaluation.specs import first_not_finite

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        name: the model's name.
        source: where the model came from.
        metrics: value by name; shares are 0…1.
        samples: how many were run.
        agreement: share of samples to which the reference gives the same class, 0…1; None
            without a reference, and for a regression.
        seconds: time spent, opening the model included.
    """

    name: str
    source: str
    metrics: dict[str, float]
    samples: int
    agreement: float | None = None
    seconds: float = 0.0
    outputs: tuple[str, ...] = field(default=(), repr=False)

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "source": self.source,
            "metrics": dict(self.metrics),
            "samples": self.samples,
            "agreement": self.agreement,
            "seconds": round(self.seconds, 3),
        }


def evaluate(
    model: Any,
    data: Any,
    metrics: Any = ("accuracy",),
    *,
    batch_size: int | None = None,
    num_threads: int | None = None,
    reference: Any = None,
    limit: int | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a model on labelled data and score it.

    Args:
        model: a `keras.Model`, the path of a model (`.keras`, `.h5`, `.tflite`, a SavedModel
            folder), an `Artifact`, a `FloatModel` or a `Runner`.
        data: labelled data in any form `litesmith.data.batches` takes. Inputs are the real
            numbers the Keras model takes, also for an integer-only `.tflite`.
        metrics: names, Keras metrics or functions (`litesmith.evaluation.metrics`); for a model
            of several outputs those of the first, or a dict by output name or number. Labels of
            several outputs come as a list, tuple or dict.
        batch_size: samples a batch, where the data leave it open; default what suits the model.
        num_threads: processor cores for a `.tflite`; default all.
        reference: a second model, run on the same samples for `agreement`.
        limit: use only so many samples.
        name: what to call the model in the result; default its own name.
        progress: called after each batch with the samples done and their total (None if unknown).

    Returns:
        The metrics by name, `result["accuracy"]` for short, and the agreement with the reference.

    Raises:
        DataError: data or labels do not fit the model.
        ModelError: the model cannot be opened.
        InputError: there is no such metric.
        EvaluationError: the model failed on the data, or answered NaN.
    """
    from litesmith.data import batches

    started = time.perf_counter()
    opened: list[Runner] = []
    try:
        subject = _opened(model, num_threads, opened)
        other = None if reference is None else _opened(reference, num_threads, opened)
        size = batch_size or subject.batch_size
        tally = _Tally(subject, other, metrics)
        total = _count(data, limit)
        for inputs, labels in batches(data, size, limit=limit):
            tally.add(inputs, labels)
            if progress is not None:
                progress(tally.samples, total)
        if not tally.samples:
            raise DataError(
                "data", expected="at least one sample", received="none", fix="give some data"
            )
        return Evaluation(
            name=name or subject.name,
            source=subject.source,
            metrics=tally.results(),
            samples=tally.samples,
            agreement=tally.agreement(),
            seconds=time.perf_counter() - started,
            outputs=tuple(spec.name for spec in subject.outputs),
        )
    finally:
        for each in opened:
            each.close()


def predict(
    model: Any,
    data: Any,
    *,
    batch_size: int | None = None,
    num_threads: int | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """All outputs of a model for all of the data.

    Args:
        model: as in `evaluate`.
        data: as in `evaluate`; labels are not needed.
        batch_size: as in `evaluate`.
        num_threads: as in `evaluate`.
        limit: use only so many samples.
        progress: as in `evaluate`.

    Returns:
        One array `(samples, …)` an output, in the model's order.
    """
    from litesmith.data import batches

    opened: list[Runner] = []
    try:
        subject = _opened(model, num_threads, opened)
        total, done = _count(data, limit), 0
        parts: list[list[np.ndarray]] = []
        for inputs, _ in batches(data, batch_size or subject.batch_size, limit=limit):
            parts.append(subject.predict(inputs))
            done += len(parts[-1][0])
            if progress is not None:
                progress(done, total)
    finally:
        for each in opened:
            each.close()
    if not parts:
        raise DataError(
            "data", expected="at least one sample", received="none", fix="give some data"
        )
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


class _Tally:
    """Metrics and agreement, as batches come in."""

    def __init__(self, subject: Runner, other: Runner | None, metrics: Any):
        self.subject, self.other = subject, other
        self.rows = metrics_by_output(metrics, [spec.name for spec in subject.outputs])
        self.counters: list[Agreement] = []
        self.samples = 0

    def add(self, inputs: Any, labels: Any) -> None:
        outputs = self._checked(self.subject, self.subject.predict(inputs))
        targets = _targets(labels, [spec.name for spec in self.subject.outputs])
        for index, name, metric in self.rows:
            if index >= len(outputs):
                raise DataError(
                    f"metric {name!r}",
                    expected=f"output {index}",
                    received="none",
                    fix="name one of the model's outputs",
                )
            if index >= len(targets) or targets[index] is None:
                raise DataError(
                    "data",
                    expected=f"labels, for the metric {name!r}",
                    received="inputs only" if not targets else f"labels of {len(targets)} outputs",
                    fix="pass (x, y)",
                )
            if len(targets[index]) != len(outputs[index]):
                raise DataError(
                    "labels",
                    expected=f"{len(outputs[index])}, one a sample",
                    received=f"{len(targets[index])}",
                    fix="give one label a sample",
                )
            metric.update(targets[index], outputs[index])
        if self.other is not None:
            self._compare(outputs, self._checked(self.other, self.other.predict(inputs)), targets)
        self.samples += len(outputs[0])

    def _checked(self, model: Runner, outputs: list[np.ndarray]) -> list[np.ndarray]:
        for position, output in enumerate(outputs):
            if output.dtype.kind != "f" or np.isfinite(output).all():
                continue
            bad = first_not_finite(output)
            assert bad is not None
            keras_model = getattr(model, "model", None)
            if keras_model is not None:
                from litesmith import models

                models.check(keras_model, model.source)  # a NaN weight is the likely cause
            names = [spec.name for spec in model.outputs]
            shown = repr(names[position]) if position < len(names) else str(position)
            raise EvaluationError(
                f"{model.source} answered {bad[1]} in output {shown} for sample "
                f"{self.samples + bad[0]}"
            )
        return outputs

    def _compare(
        self, outputs: list[np.ndarray], others: list[np.ndarray], targets: list[Any]
    ) -> None:
        if len(outputs) != len(others):
            raise DataError(
                "reference",
                expected=f"{len(outputs)} outputs",
                received=f"{len(others)}",
                fix="compare two models of the same outputs",
            )
        if not self.counters:
            self.counters = [Agreement() for _ in outputs]
        for i, (counter, a, b) in enumerate(zip(self.counters, outputs, others, strict=True)):
            fitted = None
            if i < len(targets) and targets[i] is not None:
                try:
                    fitted = Labels(targets[i], a)
                except DataError:  # labels of a form of the user's own metric
                    fitted = None
            counter.update(a, b, fitted)

    def results(self) -> dict[str, float]:
        return {name: float(metric.result()) for _, name, metric in self.rows}

    def agreement(self) -> float | None:
        return mean_agreement(self.counters)


def _targets(labels: Any, names: Sequence[str]) -> list[Any]:
    """Labels by output number."""
    if labels is None:
        return []
    if isinstance(labels, Mapping):
        if any(key not in names for key in labels):
            given = ", ".join(map(str, labels))
            raise DataError(
                "labels",
                expected=f"outputs {', '.join(names)}",
                received=given,
                fix="name the labels as the model's outputs",
            )
        return [np.asarray(labels[name]) if name in labels else None for name in names]
    if isinstance(labels, (list, tuple)) and len(names) > 1:
        return [np.asarray(value) for value in labels]
    return [np.asarray(labels)]


def _opened(model: Any, num_threads: int | None, opened: list[Runner]) -> Runner:
    found = runner(model, num_threads=num_threads)
    if found is not model:  # a runner the caller opened is the caller's to close
        opened.append(found)
    return found


def _count(data: Any, limit: int | None) -> int | None:
    """Samples there will be, for the progress bar; None where only running tells."""
    source = data
    if isinstance(source, tuple) and source:
        source = source[0]
    if isinstance(source, Mapping) and source:
        source = next(iter(source.values()))
    elif isinstance(source, list) and source:
        source = source[0]
    source = getattr(source, "x", source)
    shape = getattr(source, "shape", None)
    total = int(shape[0]) if shape is not None and len(shape) else None
    if total is None:
        return limit
    return total if limit is None else min(total, limit)
