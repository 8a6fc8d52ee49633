"""The parts of a `.tflite`, as `flatbuffer.read` gives them: read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from litesmith.export import tensor_data


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
