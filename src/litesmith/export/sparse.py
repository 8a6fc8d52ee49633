"""Weights stored without their zeros, in the `.tflite` itself.

A weight keeps its name, its type and its scales; its zeros are left out (`sparse_layout`), and a
DENSIFY operator in front of whoever uses it unfolds it once, when the file is loaded. Where a
DEQUANTIZE follows (float16, weight-only), DENSIFY comes first: delegates unfold in that order.

What the runtime cannot do stays dense. XNNPACK takes an unfolded weight for a constant, but asks
for the constant's bytes where it quantizes activations on the fly, and in FULLY_CONNECTED with
int8 weights: it then refuses the whole file. Other operators may have limits nobody has written
down; so a file is shown to the runtime, in a child process, before anybody gets it, and a kind of
weight that changes any bit of its outputs, or kills it, is left as it was.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from pydantic import BaseModel

from litesmith.children import kept
from litesmith.comparison.results import Size
from litesmith.errors import ChildError
from litesmith.export import compact, edit, sparse_layout
from litesmith.export.sizes import sizes

_TYPES: dict[int, Any] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT8: np.dtype("i1"),
}
_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
_TYPE_NAMES = {code: name for name, code in vars(schema.TensorType).items() if name[0] != "_"}
# Operators that XNNPACK computes in integers on float activations.
_ON_THE_FLY = ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
# Bytes of the tensor that is unfolded to, of its operator, and of the references to both.
_OVERHEAD = 160
# Unfolding takes time and memory at every start: less than this is not worth it.
_LEAST_GAIN = 0.1
_TIMEOUT = 900.0


class SparseTensor(BaseModel):
    """A weight stored sparse.

    Attributes:
        tensor: its name.
        operator: whose weight it is.
        dtype: element type, as in the dense file.
        size: number of weights, zeros included.
        zeros: how many are left out.
        bytes: what it takes in the file, indices included.
        dense_bytes: what it takes in the dense file.
    """

    tensor: str
    operator: str
    dtype: str
    size: int
    zeros: int
    bytes: int
    dense_bytes: int


class DenseTensor(BaseModel):
    """A weight that would be smaller sparse, but stays dense, and why."""

    tensor: str
    operator: str
    dtype: str
    reason: str


class Sparse(BaseModel):
    """What `export(…, sparse=True)` did.

    Attributes:
        tensors: what is stored sparse.
        dense: what would gain by it, and cannot be.
        dense_size: bytes of the same file with every weight dense.
    """

    tensors: tuple[SparseTensor, ...]
    dense: tuple[DenseTensor, ...]
    dense_size: Size

    def notes(self, size: Size) -> list[str]:
        """What a reader of a report should know, in sentences.

        Args:
            size: of the file that was written.
        """
        if not self.tensors:
            notes = ["stored dense: no weight gains by being stored sparse"]
        else:
            was = self.dense_size
            notes = [
                f"{len(self.tensors)} weights stored sparse: {size.file:,} bytes where the dense "
                f"file has {was.file:,}; zipped {size.zip:,} where it has {was.zip:,}"
            ]
        left = Counter(each.reason for each in self.dense)
        return notes + [f"{count} left dense: {reason}" for reason, count in left.items()]


@dataclass(frozen=True)
class _Kind:
    """What decides whether the runtime takes a weight sparse."""

    operator: str
    type: int
    unfolded: bool  # whether a DEQUANTIZE stands between
    gives: int  # type of what the operator computes

    def __str__(self) -> str:
        return f"{_TYPE_NAMES[self.type].lower()} weights of {self.operator}"

    @property
    def refused(self) -> str | None:
        """Why it is known not to work."""
        if self.type == schema.TensorType.INT8 and not self.unfolded:
            if self.gives == schema.TensorType.FLOAT32 and self.operator in _ON_THE_FLY:
                return f"XNNPACK cannot quantize activations on the fly for sparse {self}"
            if self.operator == "FULLY_CONNECTED" and self.gives == schema.TensorType.INT8:
                return f"XNNPACK takes {self} dense only"
        return None


@dataclass(frozen=True, eq=False)
class _Candidate:
    graph: int
    tensor: int
    name: str
    kind: _Kind
    weight: np.ndarray
    encoded: sparse_layout.Encoded


def store_sparse(content: bytes) -> tuple[bytes, Sparse]:
    """Store sparse what gains by it and gives the same outputs, bit for bit.

    Args:
        content: a `.tflite` we wrote, every weight dense.

    Returns:
        The new file, and what was done. Where nothing gains, the file is `content`.

    Raises:
        ExportError: LiteRT cannot run `content` itself.
    """
    candidates = _candidates(content)
    reasons = {kind: kind.refused for kind in dict.fromkeys(each.kind for each in candidates)}
    chosen = [each for each in candidates if reasons[each.kind] is None]
    stored = content
    if chosen:
        stored = _encoded(content, chosen)
        problem = _difference(content, stored)
        if problem is not None:
            chosen, stored = _by_kind(content, chosen, reasons)
    if len(stored) >= len(content):
        chosen, stored = [], content
    names = {each.name for each in chosen}
    report = Sparse(
        tensors=tuple(_told(each) for each in chosen),
        dense=tuple(
            DenseTensor(
                tensor=each.name,
                operator=each.kind.operator,
                dtype=_TYPE_NAMES[each.kind.type].lower(),
                reason=reasons[each.kind] or "the file would not be smaller",
            )
            for each in candidates
            if each.name not in names
        ),
        dense_size=Size(**sizes(content)),
    )
    return stored, report


def _by_kind(
    content: bytes, candidates: list[_Candidate], reasons: dict[_Kind, str | None]
) -> tuple[list[_Candidate], bytes]:
    """Take one kind of weight after the other, and keep those that go well."""
    kept: list[_Candidate] = []
    stored = content
    for kind in dict.fromkeys(each.kind for each in candidates):
        trial = kept + [each for each in candidates if each.kind == kind]
        attempt = _encoded(content, trial)
        problem = _difference(content, attempt)
        if problem is None:
            kept, stored = trial, attempt
        else:
            reasons[kind] = f"LiteRT does not run sparse {kind} as it runs dense ones: {problem}"
    return kept, stored


def _difference(dense: bytes, sparse: bytes) -> str | None:
    """What differs between two files when they run, found out in a child process.

    Raises:
        ExportError: the dense one does not run.
    """
    arrays = [np.frombuffer(each, np.uint8) for each in (dense, sparse)]
    with kept("litesmith.export.litert_child", timeout=_TIMEOUT) as child:
        try:
            fields, _ = child.call("compare", arrays)
        except ChildError as error:
            return str(error)
    return str(fields["difference"]) if fields["difference"] else None


def _told(candidate: _Candidate) -> SparseTensor:
    weight = candidate.weight
    return SparseTensor(
        tensor=candidate.name,
        operator=candidate.kind.operator,
        dtype=_TYPE_NAMES[candidate.kind.type].lower(),
        size=weight.size,
        zeros=weight.size - int(np.count_nonzero(weight)),
        bytes=candidate.encoded.bytes,
        dense_bytes=weight.nbytes,
    )


# --- which weights --------------------------------------------------------------------------------


def _candidates(content: bytes) -> list[_Candidate]:
    """Weights that take less room sparse than dense."""
    model = edit.unfold(content)
    shared = Counter(tensor.buffer for graph in model.subgraphs for tensor in graph.tensors)
    found = []
    for number, graph in enumerate(model.subgraphs):
        kinds = _kinds(model, graph)
        for index, tensor in enumerate(graph.tensors):
            data = model.buffers[tensor.buffer].data
            if index not in kinds or data is None or shared[tensor.buffer] > 1:
                continue
            weight = np.frombuffer(bytes(data), _TYPES[tensor.type]).reshape(tensor.shape)
            layout = sparse_layout.best(weight)
            if layout is None or layout.bytes + _OVERHEAD > (1 - _LEAST_GAIN) * weight.nbytes:
                continue
            name = (tensor.name or b"").decode(errors="replace")
            encoded = sparse_layout.encode(weight, layout)
            found.append(_Candidate(number, index, name, kinds[index], weight, encoded))
    return found


def _kinds(model: Any, graph: Any) -> dict[int, _Kind]:
    """The constants of a graph that operators take as weights, by tensor index."""
    names = [_OPERATORS.get(_code(code), "") for code in model.operatorCodes]
    users: dict[int, list[Any]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            users.setdefault(int(index), []).append(operator)
    outputs = {int(index) for index in graph.outputs}
    found = {}
    for index, tensor in enumerate(graph.tensors):
        if tensor.type not in _TYPES or tensor.isVariable or tensor.sparsity is not None:
            continue
        if len(tensor.shape if tensor.shape is not None else ()) < 2 or index in outputs:
            continue
        direct = users.get(index, [])
        if not direct:
            continue
        user, unfolded = direct[0], False
        if names[user.opcodeIndex] == "DEQUANTIZE":
            behind = users.get(int(user.outputs[0]), [])
            user, unfolded = (behind or direct)[0], True
        operator = names[user.opcodeIndex]
        gives = graph.tensors[int(user.outputs[0])].type if len(user.outputs) else tensor.type
        found[index] = _Kind(operator, tensor.type, unfolded, gives)
    return found


def _code(code: Any) -> int:
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


# --- storing them ---------------------------------------------------------------------------------


def _encoded(content: bytes, candidates: list[_Candidate]) -> bytes:
    """The file with these weights sparse, packed anew."""
    model = edit.unfold(content)
    code = edit.operator_code(model, schema.BuiltinOperator.DENSIFY)
    for number, graph in enumerate(model.subgraphs):
        moved: dict[int, int] = {}
        for candidate in candidates:
            if candidate.graph == number:
                moved[candidate.tensor] = _unfold_to(model, graph, candidate)
        waiting = dict(moved)
        operators = []
        for operator in graph.operators:
            inputs = [int(index) for index in operator.inputs]
            for index in inputs:
                if index in waiting:
                    operators.append(_densify(code, index, waiting.pop(index)))
            operator.inputs = [moved.get(index, index) for index in inputs]
            operators.append(operator)
        graph.operators = operators
    return compact.pack(model)


def _unfold_to(model: Any, graph: Any, candidate: _Candidate) -> int:
    """Store a tensor sparse and add the one it is unfolded to; returns the new one's index."""
    tensor = graph.tensors[candidate.tensor]
    tensor.sparsity = _parameters(candidate.encoded)
    values = candidate.encoded.values
    model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    twin = schema.TensorT()  # without a name: nothing refers to it by one
    twin.shape, twin.type, twin.buffer = tensor.shape, tensor.type, 0
    twin.quantization, twin.hasRank = tensor.quantization, tensor.hasRank
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _parameters(encoded: sparse_layout.Encoded) -> Any:
    layout, rank = encoded.layout, len(encoded.sizes)
    blocks = [axis for axis in range(rank) if layout.blocks[axis] > 1]
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder = [*layout.order, *range(rank, rank + len(blocks))]
    parameters.blockMap = blocks
    parameters.dimMetadata = []
    for size, arrays in zip(encoded.sizes, encoded.levels, strict=True):
        if arrays is None:
            parameters.dimMetadata.append(_dense_level(size))
            continue
        level = schema.DimensionMetadataT()
        level.format = schema.DimensionType.SPARSE_CSR
        level.arraySegmentsType, level.arraySegments = _vector(arrays[0])
        level.arrayIndicesType, level.arrayIndices = _vector(arrays[1])
        parameters.dimMetadata.append(level)
    parameters.dimMetadata += [_dense_level(layout.blocks[axis]) for axis in blocks]
    return parameters


def _dense_level(size: int) -> Any:
    level = schema.DimensionMetadataT()
    level.format, level.denseSize = schema.DimensionType.DENSE, int(size)
    return level


def _vector(values: np.ndarray) -> tuple[int, Any]:
    kinds = schema.SparseIndexVector
    if values.dtype == np.uint8:
        kind, vector = kinds.Uint8Vector, schema.Uint8VectorT()
    elif values.dtype == np.uint16:
        kind, vector = kinds.Uint16Vector, schema.Uint16VectorT()
    else:
        kind, vector = kinds.Int32Vector, schema.Int32VectorT()
    vector.values = values
    return kind, vector


def _densify(code: int, source: int, target: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = [source], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
    operator.builtinOptions = schema.DensifyOptionsT()
    return operator
