"""Test samples that a variant answers otherwise than the baseline, with pictures where they are."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litesmith.comparison.results import Changed, Sample
from litesmith.data.dataset import Split, is_class_index, is_one_hot
from litesmith.evaluation import predict
from litesmith.evaluation.classes import within_unit

SHOWN = 6  # pictures a variant
SIDE = 72  # pixels: as large as the report shows them


def answers(outputs: np.ndarray | None, kind: str) -> np.ndarray | None:
    """The class a model gives to each sample.

    Args:
        outputs: (samples, classes), or (samples, 1) of a sigmoid; None gives None.
        kind: of the output: `softmax`, `sigmoid` or `linear`.

    Returns:
        Class numbers; None where the output is no choice of one class a sample.
    """
    if outputs is None or outputs.ndim != 2:
        return None
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0.5).astype(np.int64) if kind == "sigmoid" else None
    return None if kind == "sigmoid" else outputs.argmax(axis=1)


def kind_of(outputs: np.ndarray | None, labels: np.ndarray | None) -> str:
    """What an output is, seen from its numbers, where no Keras model tells: as `answers` takes it.

    One column is a sigmoid's where all of it lies in 0…1 and the labels are 0 and 1.
    """
    if outputs is None or outputs.ndim != 2:
        return "linear"
    if outputs.shape[1] > 1:
        return "softmax"
    binary = labels is not None and is_class_index(labels) and set(np.unique(labels)) <= {0, 1}
    return "sigmoid" if binary and within_unit(outputs) else "linear"


def compare(
    before: np.ndarray, after: np.ndarray, test: Split, classes: Sequence[str] | None = None
) -> Changed | None:
    """Which answers changed, and some of them to look at.

    What became wrong is shown first, then what became right, then what is wrong in another way;
    each spread evenly over the split, so that all classes have their turn.

    Args:
        before: the baseline's class of each test sample.
        after: the variant's.
        test: samples and labels.
        classes: names of the classes, where the report cannot have them from a study.

    Returns:
        None where labels are no classes.
    """
    labels = _labels(test.y)
    if labels is None or len(labels) != len(before):
        return None
    differ = before != after
    worse = np.flatnonzero(differ & (before == labels))
    better = np.flatnonzero(differ & (after == labels))
    other = np.flatnonzero(differ & (before != labels) & (after != labels))
    chosen: list[int] = []
    for group in (worse, better, other):
        room = min(SHOWN - len(chosen), len(group))
        if room:
            places = np.linspace(0, len(group) - 1, room).round().astype(int)
            chosen += group[places].tolist()
    pictures = _pictures(test.x, chosen)
    return Changed(
        total=int(differ.sum()),
        worse=len(worse),
        better=len(better),
        of=len(labels),
        classes=list(classes) if classes else None,
        samples=[
            Sample(
                index=index,
                label=int(labels[index]),
                before=int(before[index]),
                after=int(after[index]),
                picture=picture,
            )
            for index, picture in zip(chosen, pictures, strict=True)
        ],
    )


class Changes:
    """The baseline's answers, and what changed against them.

    Args:
        kind: of the model's output, as `answers` takes it.
        test: samples and labels.
    """

    def __init__(self, kind: str, test: Split):
        self.kind, self.test = kind, test
        self._before: np.ndarray | None = None

    def before(self, outputs: np.ndarray | None) -> None:
        """Be told what the baseline's `.tflite` gives for the test samples."""
        self._before = answers(outputs, self.kind)

    def of(self, outputs: np.ndarray | None, baseline: Path | None) -> Changed | None:
        """What changed.

        Args:
            outputs: what a variant's `.tflite` gives for the test samples.
            baseline: the baseline's, which is run where nobody told what it gives: its variant
                was made earlier. None where there is none.
        """
        after = answers(outputs, self.kind)
        if after is None:
            return None
        if self._before is None and baseline is not None:
            self.before(predict(baseline, self.test)[0])
        return None if self._before is None else compare(self._before, after, self.test)


def _labels(y: np.ndarray | None) -> np.ndarray | None:
    if y is None:
        return None
    if is_class_index(y):
        return y.reshape(-1).astype(np.int64)
    return y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 and is_one_hot(y) else None


def _pictures(x: Any, chosen: Sequence[int]) -> list[str | None]:
    """Samples as PNG in base64; None each where they are no pictures, channel last."""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    if len(shape) != 4 or shape[-1] not in (1, 3) or min(shape[1:3]) < 4:
        return [None] * len(chosen)
    return [_png(np.asarray(x[index], np.float32)) for index in chosen]


def _png(values: np.ndarray) -> str:
    """Values of 0…1 or 0…255 as they are; any others stretched from the least to the most."""
    from PIL import Image

    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        values = (values - low) / max(high - low, 1e-12)
        high = 1.0
    pixels = np.rint(values * 255 if high <= 1 else values).astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
