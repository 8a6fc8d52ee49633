"""How the weights of each kernel are spread, in a variant's `.tflite` and in the baseline's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from litesmith.comparison.results import Histogram, Layer
from litesmith.export import flatbuffer

BINS = 48

Weights = dict[tuple[str, str], np.ndarray]


def weights(content: bytes, kernels: Iterable[Any]) -> Weights:
    """The real values of each kernel in a `.tflite`.

    Args:
        content: the file.
        kernels: with `layer`, `variable` and `tensor`: a float model's, or a manifest's.

    Returns:
        Flat float32 arrays by layer and variable; kernels whose values cannot be read are left out.
    """
    tensors = {
        tensor.name: tensor
        for graph in flatbuffer.read(content).subgraphs
        for tensor in graph.tensors
    }
    parts: dict[tuple[str, str], list[np.ndarray]] = {}
    for kernel in kernels:
        values = tensors[kernel.tensor].dequantized() if kernel.tensor in tensors else None
        if values is not None:
            parts.setdefault((kernel.layer, kernel.variable), []).append(values.ravel())
    return {key: np.concatenate(values) for key, values in parts.items()}


def histogram(after: np.ndarray, before: np.ndarray | None) -> Histogram | None:
    """Counts of a kernel's values in bins of equal width, over the range of both.

    Args:
        after: flat, the variant's.
        before: flat, the baseline's; None where it has no such kernel.

    Returns:
        None where all values are one and the same.
    """
    both = after if before is None else np.concatenate([after, before])
    low, high = float(both.min()), float(both.max())
    if not low < high:
        return None

    def counts(values: np.ndarray) -> list[int]:
        return np.histogram(values, bins=BINS, range=(low, high))[0].tolist()

    return Histogram(
        low=low,
        high=high,
        counts=counts(after),
        before=[] if before is None else counts(before),
    )


def add(
    rows: Sequence[Layer], after: Weights, before: Mapping[tuple[str, str], np.ndarray]
) -> None:
    """Give each row the histogram of its kernel.

    Args:
        rows: a variant's layers.
        after: the variant's weights.
        before: the baseline's.
    """
    for row in rows:
        key = row.layer, row.variable
        if key in after and after[key].size:
            row.histogram = histogram(after[key], before.get(key))
