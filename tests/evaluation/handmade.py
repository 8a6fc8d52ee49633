"""Small `.tflite` models written by hand: no converter, no backend, known to the byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "string": schema.TensorType.STRING,
}


@dataclass
class T:
    """A tensor: its shape with -1 for the batch, and what is special about it."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    value: np.ndarray | None = None
    scale: float | None = None
    zero: int = 0
    variable: bool = False


def model(
    tensors: list[T],
    operators: list[tuple[str, list[int], list[int], Any]],
    inputs: list[int],
    outputs: list[int],
    signature: tuple[list[str], list[tuple[str, int]]] | None = None,
) -> bytes:
    """A `.tflite` of one graph; `operators` are (name, inputs, outputs, options or None)."""
    root = schema.ModelT()
    root.version, root.description = 3, b"handmade"
    root.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name, graph.inputs, graph.outputs, graph.tensors = b"main", inputs, outputs, []
    for spec in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.type = spec.name.encode(), _TYPES[spec.dtype]
        tensor.shape = [1 if size == -1 else size for size in spec.shape]
        if -1 in spec.shape:
            tensor.shapeSignature = list(spec.shape)
        tensor.isVariable = spec.variable
        if spec.scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.array([spec.scale], np.float32)
            tensor.quantization.zeroPoint = np.array([spec.zero], np.int64)
        tensor.buffer = 0
        if spec.value is not None:
            buffer = schema.BufferT()
            raw = np.asarray(spec.value, spec.dtype).tobytes()
            buffer.data = np.frombuffer(raw, np.uint8)
            tensor.buffer = len(root.buffers)
            root.buffers.append(buffer)
        graph.tensors.append(tensor)
    root.operatorCodes, graph.operators, names = [], [], []
    for name, ins, outs, options in operators:
        if name not in names:
            names.append(name)
            code = schema.OperatorCodeT()
            builtin = getattr(schema.BuiltinOperator, name)
            code.builtinCode, code.version = builtin, 1
            code.deprecatedBuiltinCode = min(builtin, 127)
            root.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = names.index(name), ins, outs
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        graph.operators.append(operator)
    root.subgraphs = [graph]
    if signature is not None:
        entry = schema.SignatureDefT()
        entry.signatureKey, entry.subgraphIndex = b"serving_default", 0
        entry.inputs = [_argument(n, i) for n, i in zip(signature[0], inputs, strict=True)]
        entry.outputs = [_argument(n, i) for n, i in signature[1]]
        root.signatureDefs = [entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(root))


def _argument(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4) / 7 - 0.5
BIAS = np.array([0.1, -0.2, 0.3], np.float32)


def dense(batch: int = -1) -> bytes:
    """`(batch, 4)` → `(batch, 3)`: `x @ WEIGHTS.T + BIAS`."""
    return model(
        [
            T("x", (batch, 4)),
            T("w", (3, 4), value=WEIGHTS),
            T("b", (3,), value=BIAS),
            T("y", (batch, 3)),
        ],
        [("FULLY_CONNECTED", [0, 1, 2], [3], schema.FullyConnectedOptionsT())],
        [0],
        [3],
    )


def requantized(kind: str, scale: float, zero: int) -> bytes:
    """A quantized input that comes out again through a float tensor, quantized the same way."""
    return model(
        [
            T("x", (-1, 3), kind, scale=scale, zero=zero),
            T("r", (-1, 3)),
            T("y", (-1, 3), kind, scale=scale, zero=zero),
        ],
        [("DEQUANTIZE", [0], [1], None), ("QUANTIZE", [1], [2], schema.QuantizeOptionsT())],
        [0],
        [2],
    )


def token_ids() -> bytes:
    """int32 ids → float32 of the same value."""
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = _TYPES["int32"], _TYPES["float32"]
    return model(
        [T("ids", (-1, 2), "int32"), T("y", (-1, 2))], [("CAST", [0], [1], options)], [0], [1]
    )


def fixed_reshape() -> bytes:
    """`(1, 2, 2)` → `(1, 4)`, the shape written into the file: a batch cannot go through."""
    shape = np.array([1, 4], np.int32)
    return model(
        [
            T("x", (-1, 2, 2)),
            T("shape", (2,), "int32", value=shape),
            T("flat", (1, 4)),
            T("w", (3, 4), value=WEIGHTS),
            T("b", (3,), value=BIAS),
            T("y", (1, 3)),
        ],
        [
            ("RESHAPE", [0, 1], [2], None),
            ("FULLY_CONNECTED", [2, 3, 4], [5], schema.FullyConnectedOptionsT()),
        ],
        [0],
        [5],
    )


def batch_mixing() -> bytes:
    """`x + mean of x over the batch`: takes a batch, and gives something else for it."""
    options = schema.ReducerOptionsT()
    options.keepDims = True
    return model(
        [
            T("x", (-1, 4)),
            T("axis", (1,), "int32", value=np.array([0], np.int32)),
            T("mean", (1, 4)),
            T("y", (-1, 4)),
        ],
        [("MEAN", [0, 1], [2], options), ("ADD", [0, 2], [3], schema.AddOptionsT())],
        [0],
        [3],
    )


def two_outputs(names: tuple[str, str] = ("output_0", "output_1")) -> bytes:
    """Inputs b `(n, 3)` and a `(n, 3)`; the first output is a + b, the second a · b.

    The graph lists the outputs the other way round, as TensorFlow's converter does.
    """
    return model(
        [T("in_b", (-1, 3)), T("in_a", (-1, 3)), T("sum", (-1, 3)), T("product", (-1, 3))],
        [
            ("ADD", [0, 1], [2], schema.AddOptionsT()),
            ("MUL", [0, 1], [3], schema.MulOptionsT()),
        ],
        [0, 1],
        [3, 2],
        (["b", "a"], [(names[0], 2), (names[1], 3)]),
    )


def identity(columns: int = 3) -> bytes:
    """Gives back what it takes: a file to try metrics on."""
    return model(
        [T("x", (-1, columns)), T("zero", (1,), value=np.zeros(1)), T("y", (-1, columns))],
        [("ADD", [0, 1], [2], schema.AddOptionsT())],
        [0],
        [2],
    )


def write(folder: Path, content: bytes, name: str = "model.tflite") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
