"""The tensor arena: the memory LiteRT plans for what flows between operators.

LiteRT lays tensors out once, before the first inference (its `ArenaPlanner` and
`SimpleMemoryArena`), and so do we, from the file alone:

1. A tensor lives from the operator that writes it to the last that reads it. Inputs, outputs and
   variables (an LSTM's state) live through the whole inference; constants lie in the file and
   take no room.
2. Some operators write over their input: a RESHAPE always; an ADD, MUL or SOFTMAX where nobody
   else needs it and the sizes are equal. Input and output are then one tensor. The model's own
   inputs and outputs never take part.
3. Tensors alive from the first operator to the end are placed first, by index; then the others,
   the largest first, equal ones in the order they are written.
4. Each is put into the smallest gap that holds it between tensors alive at the same time, or
   behind the last of them; offsets are multiples of 64.

The arena is as long as its highest end. What a DEQUANTIZE or DENSIFY unfolds from a constant is
kept for good, in a second arena that is added. It is the plan without a delegate, for the default
batch, and without the scratch room some kernels ask for when they are prepared (im2col, for
instance), which no file tells; with XNNPACK most of it moves into the delegate's workspace.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from litesmith.export.flatbuffer import Flatbuffer, Subgraph, Tensor, read

ALIGNMENT = 64
_FOREVER = 1 << 31

# Registrations with an in-place flag, and how many leading inputs may be shared.
_SHARES_DATA = {"RESHAPE": 1, "EXPAND_DIMS": 1, "SQUEEZE": 1, "BITCAST": 1}
_OVERWRITES = {"ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "SOFTMAX": 1, "DYNAMIC_UPDATE_SLICE": 1}
_SCALAR_BYTES = 4
# Outputs of these are computed once where the input is a constant.
_UNFOLDS = ("DEQUANTIZE", "DENSIFY")
# What is known once shapes are is kept outside the arena (a few bytes a tensor).
_KNOWN = ("SHAPE", "RANK")

_BITS = {
    "FLOAT64": 64,
    "INT64": 64,
    "UINT64": 64,
    "COMPLEX64": 64,
    "COMPLEX128": 128,
    "FLOAT32": 32,
    "INT32": 32,
    "UINT32": 32,
    "FLOAT16": 16,
    "BFLOAT16": 16,
    "INT16": 16,
    "UINT16": 16,
    "INT8": 8,
    "UINT8": 8,
    "BOOL": 8,
    "INT4": 4,
    "UINT4": 4,
    "INT2": 2,
}


@dataclass
class Allocation:
    """A tensor's place in the arena.

    Attributes:
        tensor: its index.
        size: bytes.
        first: operator that writes it; 0 for what is there from the start.
        last: last operator that reads it.
        offset: first byte, once it is placed.
    """

    tensor: int
    size: int
    first: int
    last: int
    offset: int = 0

    def overlaps(self, other: Allocation) -> bool:
        """Whether both are alive at one time."""
        return self.first <= other.last and other.first <= self.last


def arena_bytes(model: Flatbuffer | str | os.PathLike[str]) -> int:
    """Length of a model's tensor arenas, in bytes, for its default batch.

    Args:
        model: a `.tflite`'s path, or its view.

    Raises:
        ModelError: the file is missing, or is no `.tflite`.
    """
    view = model if isinstance(model, Flatbuffer) else read(model)
    # The body of a loop or a condition has an arena of its own.
    return sum(length(plan(graph)) + _kept(graph) for graph in view.subgraphs)


def length(allocations: list[Allocation]) -> int:
    """Highest end of a plan, in bytes."""
    return max((each.offset + each.size for each in allocations), default=0)


def plan(graph: Subgraph) -> list[Allocation]:
    """Lay a graph's tensors out.

    Returns:
        A placed allocation for each tensor that has room of its own.
    """
    allocations = lifetimes(graph)
    permanent = [a for a in allocations if a.first == 0 and a.last == _FOREVER]
    passing = [a for a in allocations if not (a.first == 0 and a.last == _FOREVER)]
    order = sorted(permanent, key=lambda a: a.tensor)
    order += sorted(passing, key=lambda a: (-a.size, a.first))
    placed: list[Allocation] = []
    for allocation in order:
        _place(allocation, placed)
    return placed


def lifetimes(graph: Subgraph) -> list[Allocation]:
    """When each tensor is alive, tensors that share memory taken as one."""
    kept, known = _unfolded(graph), _known(graph)
    held = {i for i in (*graph.inputs, *graph.outputs) if i >= 0}
    held |= {t.index for t in graph.tensors if t.variable}
    start = {i for i in graph.inputs if i >= 0} | {t.index for t in graph.tensors if t.variable}
    same = _shared(graph, held)

    first: dict[int, int] = {index: 0 for index in start}
    last: dict[int, int] = {}
    for step, operator in enumerate(graph.operators):
        for index in operator.outputs:
            if index >= 0:
                first.setdefault(same.get(index, index), step)
        for index in operator.inputs:
            if index >= 0:
                last[same.get(index, index)] = step
    allocations = []
    for index, begin in sorted(first.items()):
        tensor = graph.tensors[index]
        size = tensor_bytes(tensor)
        if not size or tensor.constant or index in kept or index in known:
            continue
        # What nobody reads is never given back, as in the runtime.
        end = _FOREVER if index in held else last.get(index, _FOREVER)
        allocations.append(Allocation(index, size, begin, end))
    return allocations


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor at its default shape; 0 for strings and the like."""
    return -(-tensor.size * _BITS.get(tensor.type, 0) // 8)


def _shared(graph: Subgraph, held: set[int]) -> dict[int, int]:
    """Outputs that lie where an input lies: output index to the index that stands for both."""
    reads = [0] * len(graph.tensors)
    for index in held:
        reads[index] += 1
    for operator in graph.operators:
        for index in operator.inputs:
            if index >= 0:
                reads[index] += 1
    inputs, outputs = set(graph.inputs), set(graph.outputs)
    same: dict[int, int] = {}
    for operator in graph.operators:
        unchanged = operator.name in _SHARES_DATA
        choices = _SHARES_DATA.get(operator.name, _OVERWRITES.get(operator.name, 0))
        if not choices or not operator.outputs:
            continue
        target = operator.outputs[0]
        size = tensor_bytes(graph.tensors[target])
        for index in operator.inputs[:choices]:
            if index < 0 or index in inputs or target in outputs:
                continue
            source = graph.tensors[index]
            if source.constant or tensor_bytes(source) != size:
                continue
            root = same.get(index, index)
            if not unchanged and (size <= _SCALAR_BYTES or reads[index] > 1 or reads[root] > 1):
                continue
            same[target] = root
            break
    return same


def _place(new: Allocation, placed: list[Allocation]) -> None:
    """Best fit among the tensors alive with it; `placed` is kept in order of offset."""
    best: int | None = None
    smallest = 0
    end = 0
    for other in placed:
        if not new.overlaps(other):
            continue
        start = _aligned(end)
        gap = other.offset - end
        if start + new.size <= other.offset and (best is None or other.offset - start < smallest):
            best, smallest = start, gap
        end = max(end, other.offset + other.size)
    new.offset = _aligned(end) if best is None else best
    place = next((i for i, o in enumerate(placed) if o.offset > new.offset), len(placed))
    placed.insert(place, new)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _unfolded(graph: Subgraph) -> set[int]:
    """Tensors unfolded from constants, which are kept for good."""
    found: set[int] = set()
    for operator in graph.operators:
        if operator.name in _UNFOLDS and operator.inputs and operator.inputs[0] >= 0:
            source = operator.inputs[0]
            if graph.tensors[source].constant or source in found:
                found.update(operator.outputs)
    return found


def _known(graph: Subgraph) -> set[int]:
    """Tensors computed from shapes and constants alone, before the first inference."""
    found: set[int] = set()
    for operator in graph.operators:
        fixed = all(i < 0 or i in found or graph.tensors[i].constant for i in operator.inputs)
        if operator.name in _KNOWN or (fixed and found.intersection(operator.inputs)):
            found.update(operator.outputs)
    return found


def _kept(graph: Subgraph) -> int:
    sizes = [tensor_bytes(graph.tensors[index]) for index in sorted(_unfolded(graph))]
    return int(np.sum([_aligned(size) for size in sizes], dtype=np.int64)) if sizes else 0
