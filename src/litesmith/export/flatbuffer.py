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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from litesmith import files
from litesmith.errors import ModelError
from litesmith.export import tensor_data

_TYPE_NAMES = {code: name for name, code in vars(schema.TensorType).items() if name[0] != "_"}
_OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"
}

# What following an offset that points anywhere can raise.
_WRONG = (struct.error, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError)

# More entries than any real model has; a corrupt length must not keep us busy for hours.
_MAX_ENTRIES = 2_000_000


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        index: its place among the subgraph's tensors.
        name: its name, as the converter gave it.
        shape: static shape; 1 stands for a dynamic dimension.
        shape_signature: the same, with -1 for a dynamic dimension.
        type: name of the element type in the schema: ``"FLOAT32"``, ``"INT8"``, ``"INT4"``, …
        buffer: index of the buffer that holds its data; tensors may share one. 0 is empty.
        stored: bytes of that buffer, and of the indices where it is stored sparse; 0 where the
            tensor is computed at run time.
        scale: quantization scales, shape `(1,)` or `(channels,)`; None where not quantized.
        zero_point: zero points, int64, of the same shape; None where not quantized.
        axis: the dimension the scales run along.
        sparse: whether the data are stored sparse.
        variable: whether it keeps its value between invocations.
        raw: the stored bytes, as they are; None where there are none.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    type: str
    buffer: int
    stored: int
    scale: np.ndarray | None
    zero_point: np.ndarray | None
    axis: int
    sparse: bool
    variable: bool
    _load: Callable[[], np.ndarray | None] = field(repr=False)
    raw: np.ndarray | None = field(default=None, repr=False)

    @cached_property
    def data(self) -> np.ndarray | None:
        """The constant's values in their stored type, of `shape`.

        They are int8 where 4 or 2 bits are packed, and None for what is computed at run time and
        for strings.

        Raises:
            ModelError: the buffer does not hold what the shape says.
        """
        return self._load()

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """The values that occur in `data`, and how often each does; none where there are no data.

        −0 and 0 are two, as are NaNs of different bits.
        """
        return tensor_data.distinct(np.empty(0) if self.data is None else self.data)

    @property
    def unique(self) -> int:
        """How many distinct numbers occur in `data`; −0 is 0, and NaN is one."""
        values, same = self.distinct[0], 0
        if values.dtype.kind == "f":
            same = sum(
                max(0, int(np.count_nonzero(each)) - 1) for each in (values == 0, values != values)
            )
        return len(values) - same

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def constant(self) -> bool:
        """Whether the value is stored in the file."""
        return self.stored > 0

    def dequantized(self) -> np.ndarray | None:
        """The constant's values as float32: ``scale · (stored − zero_point)``, per channel too."""
        data = self.data
        if data is None or self.scale is None:
            return None if data is None else data.astype(np.float32)
        zero = np.zeros(1) if self.zero_point is None else self.zero_point
        form = [1] * data.ndim
        if self.scale.size > 1:
            form[self.axis] = -1
        return ((data - zero.reshape(form)) * self.scale.reshape(form)).astype(np.float32)


@dataclass(frozen=True)
class Operator:
    """One operator of a subgraph, in order of execution.

    Attributes:
        name: the builtin's name (``"CONV_2D"``), or the custom code of a custom operator.
        inputs: tensor indices; -1 where an optional input is absent.
        outputs: tensor indices.
        intermediates: tensor indices of inner results (fused LSTM).
        custom: whether the operator is no builtin; names of SELECT_TF_OPS begin with ``Flex``.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...] = ()
    custom: bool = False


@dataclass(frozen=True)
class Subgraph:
    """A graph: the main one, or the body of a loop or a condition."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """A named entry: argument names to tensor indices of its subgraph."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class Flatbuffer:
    """A whole `.tflite`.

    Attributes:
        size: bytes of the file.
        version: schema version, 3.
        description: what the tool that wrote it left.
        subgraphs: the first is the main one.
        signatures: may be empty.
    """

    size: int
    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]

    def operator_counts(self) -> dict[str, int]:
        """How often each operator occurs over all subgraphs, most frequent first."""
        counts = Counter(operator.name for graph in self.subgraphs for operator in graph.operators)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def constants(self) -> list[Tensor]:
        """Constant tensors of all subgraphs; one for each stored buffer."""
        seen: dict[int, Tensor] = {}
        for graph in self.subgraphs:
            for tensor in graph.tensors:
                if tensor.constant:
                    seen.setdefault(tensor.buffer, tensor)
        return list(seen.values())


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
