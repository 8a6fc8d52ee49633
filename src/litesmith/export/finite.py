"""Whether a `.tflite` holds numbers that no model can work with."""

from __future__ import annotations

import numpy as np

from litesmith.errors import ModelError
from litesmith.export.flatbuffer import Flatbuffer, Operator, Tensor

_FLOATS = {"FLOAT32": "<f4", "FLOAT16": "<f2", "FLOAT64": "<f8"}

# Operators that multiply by their second input, and where their weights and biases stand. A mask
# of −inf is a legitimate constant elsewhere; an infinite weight is not.
_WEIGHTED = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "CONV_3D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
    "BATCH_MATMUL": (0, 1),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 24)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2, 3),
}
# What only unfolds a constant: what it gives is a weight if it is used as one.
_UNFOLDS = ("DEQUANTIZE", "DENSIFY")


def check_finite(model: Flatbuffer, name: str) -> None:
    """Refuse a model with a NaN among its constants, or an infinite weight or scale.

    Args:
        model: as `flatbuffer.read` gave it.
        name: what the error calls it.

    Raises:
        ModelError: the first such tensor, by name.
    """
    for graph in model.subgraphs:
        weights = _weights(graph.operators)
        for tensor in graph.tensors:
            if tensor.scale is not None and not np.isfinite(tensor.scale).all():
                raise _error(f"{name}: the scale of tensor {tensor.name!r}", "NaN or infinity")
            count, kinds = _wrong(tensor, infinite=tensor.index in weights)
            if count:
                raise _error(f"{name}: tensor {tensor.name!r}", f"{count} that are {kinds}")


def _weights(operators: tuple[Operator, ...]) -> set[int]:
    """Indices of the tensors that operators multiply by or add."""
    found: set[int] = set()
    for operator in reversed(operators):
        places = _WEIGHTED.get(operator.name, ())
        found.update(operator.inputs[i] for i in places if i < len(operator.inputs))
        if operator.name in _UNFOLDS and found.intersection(operator.outputs):
            found.update(operator.inputs[:1])
    return found


def _wrong(tensor: Tensor, *, infinite: bool) -> tuple[int, str]:
    """How many stored values are not numbers (or not finite, where `infinite` counts)."""
    if not tensor.constant or tensor.raw is None or tensor.type not in _FLOATS:
        return 0, ""
    width = np.dtype(_FLOATS[tensor.type])
    values = tensor.raw[: len(tensor.raw) // width.itemsize * width.itemsize].view(width)
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(dtype=np.float64)  # one pass; only a strange one is looked at closely
    if np.isfinite(total):
        return 0, ""
    nan = int(np.isnan(values).sum())
    if not infinite:
        return nan, "NaN"
    return nan + int(np.isinf(values).sum()), "NaN or infinite"


def _error(place: str, received: str) -> ModelError:
    return ModelError(
        place,
        expected="finite numbers",
        received=received,
        fix="train the model again with a lower learning rate, and export it again",
    )
