"""Outputs that were computed before, behind the `Runner` protocol.

Many `.tflite` files come from one Keras model: it is run on the test split once, and every one of
them is compared with what it answered then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from litesmith.evaluation import TensorSpec


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
