"""Outputs that are kept, and outputs that were computed before, behind the `Runner` protocol.

Many `.tflite` files come from one Keras model: it is run on the test split once, and every one of
them is compared with what it answered then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from litesmith.evaluation import TensorSpec
from litesmith.evaluation.runners import Runner


class Replay:
    """Hands out recorded outputs in the order of the samples; one object a pass over the data.

    Args:
        name: the model's.
        outputs: what the model answered to all samples, one array an output.
        specs: the model's outputs.
        batch_size: samples a batch that suit the model.
    """

    def __init__(
        self,
        name: str,
        outputs: Sequence[np.ndarray],
        specs: Sequence[TensorSpec],
        batch_size: int = 256,
    ):
        self.name = self.source = name
        self.recorded = list(outputs)
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs, self.batch_size = tuple(specs), batch_size
        self._next = 0

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to free."""

    def predict(self, inputs: Any) -> list[np.ndarray]:
        """The recorded outputs of the next samples, as many as there are inputs."""
        first = inputs
        while isinstance(first, dict | list | tuple):
            first = next(iter(first.values())) if isinstance(first, dict) else first[0]
        start, self._next = self._next, self._next + len(first)
        return [output[start : self._next] for output in self.recorded]


class Recorder:
    """Runs a model, and keeps what its first output answers.

    Args:
        opened: what runs it; whoever opened it closes it.

    Attributes:
        kept: one array a batch, in the order of the samples.
    """

    def __init__(self, opened: Runner):
        self.opened = opened
        self.name, self.source, self.batch_size = opened.name, opened.source, opened.batch_size
        self.inputs, self.outputs = opened.inputs, opened.outputs
        self.model = getattr(opened, "model", None)  # whose weights are looked at after a NaN
        self.kept: list[np.ndarray] = []

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to free."""

    def predict(self, inputs: Any) -> list[np.ndarray]:
        """What the model answers."""
        outputs = self.opened.predict(inputs)
        if outputs[0].ndim == 2:  # an answer for each pixel would fill the memory
            self.kept.append(outputs[0])
        return outputs

    @property
    def answers(self) -> np.ndarray | None:
        """What was kept, all samples in one array; None where there is no row a sample."""
        return np.concatenate(self.kept) if self.kept else None
