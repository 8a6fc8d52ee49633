"""Read-only views of a `.tflite`: tensors, operators, subgraphs, signatures.

A `.tflite` is a flatbuffer; its schema is read with the pure Python reader that LiteRT ships, so
nothing native sees the bytes. Every offset in a corrupt file can point anywhere: whatever goes
wrong while following them is a `ModelError`.

    model = read("small.tflite")
    for operator in model.subgraphs[0].operators:
        print(operator.name, [model.subgraphs[0].tensors[i].shape for i in operator.inputs])
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from litesmith import files
from litesmith.errors import ModelError
from litesmith.export import tensor_data
from litesmith.export.parts import Flatbuffer, Operator, Signature, Subgraph, Tensor

_TYPE_NAMES = {code: name for name, code in vars(schema.TensorType).items() if name[0] != "_"}
_OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"
}

# What following an offset that points anywhere can raise.
_WRONG = (struct.error, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError)

# More entries than any real model has; a corrupt length must not keep us busy for hours.
_MAX_ENTRIES = 2_000_000


def read(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview, name: str | None = None
) -> Flatbuffer:
    """Read a `.tflite`: a view of it; the tensors' data are views of its bytes.

    Args:
        source: its path, or its bytes.
        name: what errors call it; default its path.

    Raises:
        ModelError: the file is missing, is no `.tflite`, or is corrupt.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        content, name = source, name or "the model"
    else:
        name = name or str(Path(source))
        content = files.read_model(source)
    if len(content) < 16 or bytes(content[4:8]) != b"TFL3":
        shown = "an empty file" if not len(content) else f"bytes {bytes(content[:8])!r}…"
        raise ModelError(
            name,
            expected="a .tflite ('TFL3' at byte 4)",
            received=shown,
            fix="write it with litesmith.export",
        )
    with followed(name):
        return _model(content, name)


@contextlib.contextmanager
def followed(name: str) -> Iterator[None]:
    """Turn what goes wrong while offsets are followed into a `ModelError`."""
    try:
        yield
    except ModelError:
        raise
    except (*_WRONG, TypeError, ValueError) as error:
        raise _corrupt(name, str(error) or type(error).__name__) from error


def _corrupt(name: str, why: str) -> ModelError:
    return ModelError(
        name,
        expected="a whole .tflite",
        received=f"a damaged one: {why}"[:240],
        fix="export or copy it again",
    )


def _length(count: int) -> range:
    if not 0 <= count <= _MAX_ENTRIES:
        raise ValueError(f"a list of {count} entries")
    return range(count)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", errors="replace")


def _numbers(values: Any) -> tuple[int, ...]:
    # The reader answers 0 for an absent vector.
    return () if isinstance(values, int) else tuple(int(value) for value in values)


def _floats(values: Any) -> np.ndarray | None:
    return None if isinstance(values, int) or not len(values) else np.array(values)


def _model(content: Any, name: str) -> Flatbuffer:
    root = schema.Model.GetRootAs(content, 0)
    if root.Version() != 3:
        raise ValueError(f"schema version {root.Version()}")
    codes = [_operator_code(root.OperatorCodes(i)) for i in _length(root.OperatorCodesLength())]
    buffers = [_Buffer(content, root.Buffers(i), name) for i in _length(root.BuffersLength())]
    if not root.SubgraphsLength():
        raise ValueError("no subgraph")
    graphs = tuple(
        _subgraph(root.Subgraphs(i), codes, buffers) for i in _length(root.SubgraphsLength())
    )
    signatures = tuple(
        _signature(root.SignatureDefs(i), graphs) for i in _length(root.SignatureDefsLength())
    )
    return Flatbuffer(len(content), root.Version(), _text(root.Description()), graphs, signatures)


def _operator_code(code: Any) -> tuple[str, bool]:
    # Codes below 127 used to be stored in one byte; the larger of the two fields is the code.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if builtin == schema.BuiltinOperator.CUSTOM:
        return _text(code.CustomCode()) or "CUSTOM", True
    return _OPERATOR_NAMES.get(builtin, f"BUILTIN_{builtin}"), False


class _Buffer:
    """Where a buffer's bytes lie, checked against the file's size."""

    def __init__(self, content: Any, table: Any, name: str):
        self.name = name
        self.raw = np.empty(0, np.uint8)
        offset, size = table.Offset(), table.Size()
        if offset > 1:  # stored behind the flatbuffer, as models over 2 GB are
            if offset + size > len(content):
                raise ValueError("a buffer ends beyond the file")
            self.raw = np.frombuffer(content, np.uint8, size, offset)
        elif table.DataLength():
            self.raw = table.DataAsNumpy()


def _signature(signature: Any, graphs: tuple[Subgraph, ...]) -> Signature:
    index = signature.SubgraphIndex()
    if not 0 <= index < len(graphs):
        raise ValueError("a signature names a subgraph that does not exist")
    count = len(graphs[index].tensors)

    def arguments(length: int, entry: Callable[[int], Any]) -> dict[str, int]:
        found = {_text(entry(i).Name()): entry(i).TensorIndex() for i in _length(length)}
        if any(not 0 <= tensor < count for tensor in found.values()):
            raise ValueError("a signature names a tensor that does not exist")
        return found

    return Signature(
        _text(signature.SignatureKey()),
        index,
        arguments(signature.InputsLength(), signature.Inputs),
        arguments(signature.OutputsLength(), signature.Outputs),
    )


def _subgraph(graph: Any, codes: list[tuple[str, bool]], buffers: list[_Buffer]) -> Subgraph:
    tensors = tuple(_tensor(i, graph.Tensors(i), buffers) for i in _length(graph.TensorsLength()))

    def checked(indices: Any) -> tuple[int, ...]:
        numbers = _numbers(indices)
        if any(not -1 <= number < len(tensors) for number in numbers):
            raise ValueError("an operator names a tensor that does not exist")
        return numbers

    operators = []
    for i in _length(graph.OperatorsLength()):
        operator = graph.Operators(i)
        index = operator.OpcodeIndex()
        if not 0 <= index < len(codes):
            raise ValueError("an operator has no code")
        name, custom = codes[index]
        operators.append(
            Operator(
                name,
                checked(operator.InputsAsNumpy()),
                checked(operator.OutputsAsNumpy()),
                checked(operator.IntermediatesAsNumpy()),
                custom,
            )
        )
    return Subgraph(
        _text(graph.Name()),
        tensors,
        tuple(operators),
        checked(graph.InputsAsNumpy()),
        checked(graph.OutputsAsNumpy()),
    )


def _tensor(index: int, tensor: Any, buffers: list[_Buffer]) -> Tensor:
    shape = _numbers(tensor.ShapeAsNumpy())
    if any(size < 0 for size in shape):
        raise ValueError("a negative shape")
    kind = _TYPE_NAMES.get(tensor.Type())
    if kind is None or not 0 <= tensor.Buffer() < max(len(buffers), 1):
        raise ValueError("a tensor of unknown type or buffer")
    buffer = buffers[tensor.Buffer()] if buffers else None
    name = _text(tensor.Name())
    scale = zero_point = None
    axis = 0
    quantization = tensor.Quantization()
    if quantization is not None:
        scale = _floats(quantization.ScaleAsNumpy())
        zero_point = _floats(quantization.ZeroPointAsNumpy())
        axis = quantization.QuantizedDimension()
        if scale is not None and scale.size > 1:
            if not 0 <= axis < len(shape) or scale.size != shape[axis]:
                raise ValueError(f"scales that do not fit the shape of {name!r}")
            if zero_point is not None and zero_point.size not in (1, scale.size):
                raise ValueError(f"zero points that do not fit the shape of {name!r}")
    sparsity = tensor.Sparsity()
    stored = 0 if buffer is None else int(buffer.raw.size)
    if stored and sparsity is not None:
        stored += tensor_data.index_bytes(sparsity)

    def load() -> np.ndarray | None:
        if buffer is None or not buffer.raw.size or kind == "STRING":
            return None
        try:
            return tensor_data.values(buffer.raw, kind, shape, sparsity)
        except (*_WRONG, TypeError, ValueError) as error:
            raise _corrupt(buffer.name, f"tensor {name!r}: {error}") from error

    signature = _numbers(tensor.ShapeSignatureAsNumpy())
    return Tensor(
        index=index,
        name=name,
        shape=shape,
        shape_signature=signature if len(signature) == len(shape) else shape,
        type=kind,
        buffer=tensor.Buffer(),
        stored=stored,
        scale=scale,
        zero_point=zero_point,
        axis=axis,
        sparse=sparsity is not None,
        variable=bool(tensor.IsVariable()),
        _load=load,
        raw=None if buffer is None else buffer.raw,
    )
