"""Packing a `.tflite` so that nothing stands in it twice.

The stock packer writes every vector and table anew: the zero points of each channel of each
kernel (eight bytes a channel, all zero), the scales of a kernel and again of what it unfolds to,
equal shapes and options. A flatbuffer's tables refer to each other by offset, so equal parts can be
one part with several references; any reader follows them without knowing. The reference network in
int8, its convs stored sparse, becomes a fifth smaller by that.

Only buffers keep a place of their own: XNNPACK's cache of packed weights knows a weight by where
its bytes are, and two weights stored sparse may have the same values in different places.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

_IDENTIFIER = b"TFL3"


def pack(model: Any) -> bytes:
    """Pack a model in the schema's object form.

    Args:
        model: a `ModelT`; lists of numbers in it become numpy arrays.

    Returns:
        The `.tflite`.
    """
    _lists_to_arrays(model)
    builder = _SharingBuilder({id(buffer.data) for buffer in model.buffers})
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    """A builder that gives equal vectors, strings and tables one place.

    Generated code writes each part in one go, children before the table that refers to them, and
    tells the builder every field: what has the same fields with the same values and offsets is
    the same table.

    Args:
        apart: ids of the arrays that are written whether there is an equal one or not.
    """

    def __init__(self, apart: set[int]) -> None:
        super().__init__(1024)
        self._apart = apart
        self._vectors: dict[Any, int] = {}
        self._tables: dict[Any, int] = {}
        self._fields: list[Any] = []
        self._before = 0

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        if id(x) in self._apart:
            return super().CreateNumpyVector(x)
        key = (x.dtype.str, x.tobytes())
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]

    def CreateString(self, s: Any, *arguments: Any) -> int:  # noqa: N802
        if s not in self._vectors:
            self._vectors[s] = super().CreateString(s, *arguments)
        return self._vectors[s]

    def StartObject(self, numfields: int) -> None:  # noqa: N802
        self._fields, self._before = [], self.Offset()
        super().StartObject(numfields)

    def PrependSlot(self, flags: Any, o: int, x: Any, d: Any) -> None:  # noqa: N802
        if x != d:
            self._fields.append((o, flags.__name__, x))
        super().PrependSlot(flags, o, x, d)

    def PrependUOffsetTRelativeSlot(self, o: int, x: int, d: int) -> None:  # noqa: N802
        if x != d:
            self._fields.append((o, "offset", x))
        super().PrependUOffsetTRelativeSlot(o, x, d)

    def EndObject(self) -> int:  # noqa: N802
        key = tuple(self._fields)
        if key not in self._tables:
            self._tables[key] = super().EndObject()
            return self._tables[key]
        # Take back what has been written of it.
        self.nested, self.current_vtable = False, None
        self.head = len(self.Bytes) - self._before
        return self._tables[key]


def _lists_to_arrays(model: Any) -> None:
    """Numbers in lists are written one by one; only arrays are recognised as equal."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            _convert(tensor, np.int32, "shape", "shapeSignature")
            if tensor.quantization is not None:
                _convert(tensor.quantization, np.float32, "scale", "min", "max")
                _convert(tensor.quantization, np.int64, "zeroPoint")
            if tensor.sparsity is not None:
                _convert(tensor.sparsity, np.int32, "traversalOrder", "blockMap")
        for operator in graph.operators:
            _convert(operator, np.int32, "inputs", "outputs", "intermediates")
    for buffer in model.buffers:
        if isinstance(buffer.data, (bytes, bytearray, list)):
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)


def _convert(table: Any, dtype: Any, *names: str) -> None:
    for name in names:
        values = getattr(table, name)
        if values is not None:
            setattr(table, name, np.asarray(values, dtype))
