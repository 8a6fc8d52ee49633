"""Kernels of few distinct values (clustered ones): kept few through folding and quantization.

**Folding.** The converter multiplies a kernel by its BatchNorm's scale in float32, which splits
equal values by a unit in the last place. `settle` makes those equal again.

**Integers.** With a scale for each channel, sixteen values become up to sixteen integers a channel.
`ranges` gives the channels that share a codebook one scale, so that the integers are as few as the
values; they lie symmetric about zero, so a negative factor in folding adds none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from litesmith.export import flatbuffer
from litesmith.export.kernels import Kernel

# A codebook has at most so many values.
LARGEST = 256
# Values this close, relative to their size, differ by rounding alone (a float32 has 1.2e-7).
_ROUNDING = 1e-6
# The axis of a kernel that litert-quantizer has scales along.
CHANNELS = {
    "CONV_2D": 0,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 0,
    "CONV_3D": 4,
    "DEPTHWISE_CONV_2D": 3,
}
# How much larger than the largest value a range may be, if that brings the values onto the grid.
_STRETCH = np.linspace(1.0, 1.25, 101)


def settle(content: bytes, kernels: Iterable[Kernel]) -> bytes:
    """Make values of folded kernels equal that differ by rounding alone.

    Kernels with more than a codebook's worth of values are left as they are.

    Args:
        content: a float `.tflite`.
        kernels: its kernels.

    Returns:
        The edited `.tflite`: the same bytes where nothing was to be done.
    """
    folded = {kernel.tensor for kernel in kernels if kernel.folded}
    if not folded:
        return content
    changed = bytearray(content)
    done = False
    for graph in flatbuffer.read(changed).subgraphs:
        for tensor in graph.tensors:
            if tensor.name in folded and tensor.type == "FLOAT32" and tensor.raw is not None:
                folded.discard(tensor.name)
                values = tensor.raw.view("<f4")
                merged = merge_rounded(values)
                if merged is not None:
                    values[:] = merged
                    done = True
    return bytes(changed) if done else content


def merge_rounded(values: np.ndarray) -> np.ndarray | None:
    """Values with those made equal that differ by rounding alone.

    Args:
        values: float32, flat.

    Returns:
        The merged values; None where nothing differs by rounding alone, or where so many values
        are left that it was no codebook.
    """
    distinct, place = np.unique(values, return_inverse=True)
    gaps = np.diff(distinct.astype(np.float64))
    apart = gaps > _ROUNDING * np.maximum(np.abs(distinct[1:]), np.abs(distinct[:-1]))
    group = np.concatenate([[0], np.cumsum(apart)])
    count = int(group[-1]) + 1
    if count == len(distinct) or count > max(LARGEST, len(values) // 8):
        return None
    first = np.searchsorted(group, np.arange(count))
    last = np.searchsorted(group, np.arange(count), side="right") - 1
    low, high = distinct[first].astype(np.float64), distinct[last].astype(np.float64)
    if (high - low > 4 * _ROUNDING * np.maximum(np.abs(low), np.abs(high))).any():
        return None  # a chain of neighbours: a crowd of values, not one value rounded
    return distinct[(first + last) // 2][group][place].reshape(values.shape)


def ranges(
    read: flatbuffer.Flatbuffer, shared: dict[str, int] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Ranges that give the channels of a codebook one scale, for litert-quantizer.

    Args:
        read: the float `.tflite`.
        shared: by tensor, how many consecutive channels share a codebook, where it is not all.

    Returns:
        By the tensor's name `{"min", "max"}`, each of the weight's rank; kernels of many values,
        and those whose integers are few anyway, are left out.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for tensor, axis in _weights(read):
        data = tensor.data
        assert data is not None
        channels = np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)
        size = (shared or {}).get(tensor.name, len(channels))
        if size < 2:
            continue
        limits = np.empty(len(channels))
        needed = False
        for start in range(0, len(channels), size):
            part = channels[start : start + size]
            values, counts = np.unique(part, return_counts=True)
            limits[start : start + size] = np.abs(part).max(axis=1)
            if len(values) <= LARGEST and _integers(part) > len(values):
                limits[start : start + size] = _limit(values, counts)
                needed = True
        if needed:
            form = [1] * data.ndim
            form[axis] = -1
            limit = limits.reshape(form).astype(np.float32)
            found[tensor.name] = {"min": -limit, "max": limit}
    return found


def _weights(read: flatbuffer.Flatbuffer) -> Iterator[tuple[flatbuffer.Tensor, int]]:
    seen: set[str] = set()
    for graph in read.subgraphs:
        for operator in graph.operators:
            axis = CHANNELS.get(operator.name)
            if axis is None or len(operator.inputs) < 2 or operator.inputs[1] < 0:
                continue
            tensor = graph.tensors[operator.inputs[1]]
            usable = tensor.constant and tensor.type == "FLOAT32" and len(tensor.shape) > axis
            if usable and tensor.name not in seen:
                seen.add(tensor.name)
                yield tensor, axis


def _integers(channels: np.ndarray) -> int:
    """Distinct integers with a scale for each channel, 8 bits."""
    scale = np.abs(channels).max(axis=1, keepdims=True) / 127
    return len(np.unique(np.round(channels / np.where(scale == 0, 1, scale))))


def _limit(values: np.ndarray, counts: np.ndarray) -> float:
    """The end of a range on whose grid of 8 bits the values lie best, by squared error."""
    limits = float(np.abs(values).max()) * _STRETCH
    scales = limits[:, None] / 127
    errors = (values - scales * np.round(values / scales)) ** 2 @ counts
    return float(limits[errors.argmin()])


def shared_channels(model: Any) -> dict[str, int]:
    """By tensor, how many channels share a codebook, as the report of `prepare` tells.

    Args:
        model: a `FloatModel`.
    """
    report = getattr(model.origin, "report", None)
    if report is None:
        return {}
    channels = {
        (entry.layer, entry.variable): int(entry.detail["channels"])
        for entry in report.done
        if entry.technique == "cluster" and "channels" in entry.detail
    }
    return {
        kernel.tensor: channels[kernel.layer, kernel.variable]
        for kernel in model.kernels
        if (kernel.layer, kernel.variable) in channels
    }
