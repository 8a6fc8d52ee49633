"""Ranges that are not too narrow for LiteRT.

A unit that died, such as a ReLU that gives nothing but zeros, leaves a tensor a range of next to
nothing. A scale so small is refused, or worse: a bias in units of it has no room in 32 bits. What
is made wider here is far finer than what the tensor is computed from, so that nothing is lost.

    product      S_in · s_w ÷ S_out < 256    XNNPACK makes no such convolution or dense layer
    its bias     |b| ÷ (S_in · s_w) < 2^31   int32
    sum          S_in ÷ S_out < 2^14         LiteRT's kernel ends the process (2^19 with 8 bits)
    hard swish   S_in ÷ 128 ÷ S_out < 1      its kernel refuses
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from litesmith.export.flatbuffer import Flatbuffer, Tensor
from litesmith.export.operators import FIXED, PRODUCTS, SAME_SCALE

# The most that is let through, a good deal under LiteRT's own limits: a kernel's scale is taken for
# that of 8 bits here, and channels have scales of their own.
_PRODUCT, _BIAS, _SUM, _HARD_SWISH = 8.0, 2.0**26, 2.0**12, 126.0
_LEVELS = 255.0


def within_limits(
    read: Flatbuffer, ranges: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Ranges, those that are too narrow made wider.

    Args:
        read: the float `.tflite`.
        ranges: by tensor, ``"min"`` and ``"max"``, as litert-quantizer takes them.
    """
    found: dict[str, Any] = dict(ranges)
    graph = read.subgraphs[0]
    tensors, operators = graph.tensors, graph.operators
    scales = [_scale(tensor, found) for tensor in tensors]
    least = [0.0] * len(tensors)

    def widen(index: int) -> None:
        """Have a tensor the scale it needs; one of 0 is not known."""
        name = tensors[index].name
        if name in found and 0.0 < scales[index] < least[index]:
            found[name] = _wide(found[name], least[index])
        scales[index] = max(scales[index], least[index])

    for operator in reversed(operators):
        if operator.name in PRODUCTS:
            weight, bias, taken = (_at(operator.inputs, place) for place in PRODUCTS[operator.name])
            data = tensors[bias].data if bias >= 0 else None
            if data is not None and data.size and scales[weight] > 0:
                need = float(np.abs(data).max()) / (scales[weight] * _BIAS)
                least[taken] = max(least[taken], need)
        elif operator.name in SAME_SCALE and operator.inputs:
            first = operator.inputs[0]
            least[first] = max(least[first], *(least[index] for index in operator.outputs))
    for index in graph.inputs:
        widen(index)
    for operator in operators:
        given = [index for index in operator.inputs if index >= 0]
        largest = max((scales[index] for index in given), default=0.0)
        need = 0.0
        if operator.name in PRODUCTS:
            weight, _, taken = (_at(operator.inputs, place) for place in PRODUCTS[operator.name])
            need = scales[taken] * scales[weight] / _PRODUCT
        elif operator.name in ("ADD", "SUB"):
            need = largest / _SUM
        elif operator.name == "HARD_SWISH":
            need = largest / _HARD_SWISH
        elif operator.name == "CONCATENATION":  # what it takes is made in its scale
            need = max(least[index] for index in given)
        for index in operator.outputs:
            if operator.name in FIXED:
                scales[index] = FIXED[operator.name] / _LEVELS
            elif operator.name in SAME_SCALE:
                scales[index] = scales[given[0]]
            else:
                least[index] = max(least[index], need)
                widen(index)
    return found


def _at(inputs: tuple[int, ...], place: int) -> int:
    return inputs[place] if place < len(inputs) else -1


def _scale(tensor: Tensor, ranges: Mapping[str, Any]) -> float:
    """Of 8 bits; 0 where no range is known. With 16 bits the ratios are the same."""
    known = ranges.get(tensor.name)
    if known is not None:
        low, high = float(np.min(known["min"])), float(np.max(known["max"]))
    elif tensor.constant and tensor.type == "FLOAT32" and (data := tensor.data) is not None:
        low, high = float(data.min(initial=0.0)), float(data.max(initial=0.0))
    else:
        return 0.0
    return max(max(high, 0.0) - min(low, 0.0), 1e-9) / _LEVELS


def _wide(known: Mapping[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    """A range of at least this scale, from its lower end on."""
    low = np.minimum(known["min"], 0.0).astype(np.float32)
    return {"min": low, "max": (low + np.float32(scale * _LEVELS)).astype(np.float32)}
