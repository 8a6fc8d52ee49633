"""Edits of a `.tflite` after the fact: names of the signature, unsigned inputs and outputs.

These use the schema's object form: the file is unfolded, changed and packed again. They are for
files we wrote ourselves; what a user brings goes through `flatbuffer.read` first.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

SIGNATURE = "serving_default"


def unfold(content: bytes) -> Any:
    """A `.tflite` in the schema's object form (`ModelT`), to be changed and packed."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.read_model_from_bytearray(bytearray(content))


def _pack(model: Any) -> bytes:
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def name_signature(
    content: bytes, inputs: Sequence[str], outputs: Sequence[str] | None = None
) -> bytes:
    """Give the main subgraph a signature whose arguments have these names.

    The tensors are named so too, where no other tensor has the name.

    Args:
        content: a `.tflite`.
        inputs: a name for each input, in order.
        outputs: a name for each output, in order; None numbers them ``output``, ``output_1``, ….
            Outputs that are one tensor share it.

    Returns:
        The edited `.tflite`.
    """
    model = unfold(content)
    _distinguish(model)
    graph = model.subgraphs[0]
    if outputs is None:
        count = len(graph.outputs)
        outputs = ["output" if count == 1 else f"output_{i}" for i in range(count)]
    taken = {tensor.name for tensor in graph.tensors}
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE.encode()
    signature.subgraphIndex = 0
    done: set[int] = set()  # an output may be an input, or another output, passed through
    signature.inputs = _argument_maps(graph, graph.inputs, inputs, taken, done)
    signature.outputs = _argument_maps(graph, graph.outputs, outputs, taken, done)
    model.signatureDefs = [signature]
    return _pack(model)


def distinct_names(content: bytes) -> bytes:
    """Give every tensor a name of its own over all subgraphs, which litert-quantizer needs."""
    model = unfold(content)
    return _pack(model) if _distinguish(model) else content


def _distinguish(model: Any) -> bool:
    seen: set[bytes] = set()
    changed = False
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            base, count = tensor.name or b"", 0
            name = base
            while name in seen:
                count += 1
                name = base + b"#%d" % count
            changed |= name != tensor.name
            tensor.name = name
            seen.add(name)
    return changed


def _argument_maps(
    graph: Any,
    indices: Sequence[int],
    names: Sequence[str],
    taken: set[bytes],
    done: set[int],
) -> list[Any]:
    maps = []
    for index, name in zip(indices, names, strict=True):
        entry = schema.TensorMapT()
        entry.name = name.encode()
        entry.tensorIndex = int(index)
        maps.append(entry)
        tensor = graph.tensors[index]
        if entry.name not in taken and index not in done:
            tensor.name = entry.name
            taken.add(entry.name)
        done.add(int(index))
    return maps


def with_outputs(content: bytes, names: Container[str]) -> bytes:
    """The file with more tensors among its outputs, so that a delegate keeps what they hold.

    Args:
        content: a `.tflite`.
        names: tensors of the main subgraph; those that no operator makes are left out.

    Returns:
        The edited `.tflite`, without a signature.
    """
    model = unfold(content)
    graph = model.subgraphs[0]
    made = [index for operator in graph.operators for index in operator.outputs]
    added = [index for index in made if graph.tensors[index].name.decode() in names]
    graph.outputs = list(dict.fromkeys([*graph.outputs, *added]))
    model.signatureDefs = []
    return _pack(model)


def unsigned_edges(content: bytes, *, inputs: bool = True, outputs: bool = True) -> bytes:
    """Turn int8 inputs and outputs into uint8 ones.

    A QUANTIZE operator at each edge shifts by 128: uint8 with zero point z + 128 stands for the
    same real number as int8 with zero point z, at the same scale, so no value changes.

    Args:
        content: a quantized `.tflite`.
        inputs: whether int8 inputs are changed.
        outputs: whether int8 outputs are changed.

    Returns:
        The edited `.tflite`.
    """
    model = unfold(content)
    graph = model.subgraphs[0]
    code = operator_code(model, schema.BuiltinOperator.QUANTIZE)
    moved: dict[int, int] = {}
    if inputs:
        front = []
        for place, index in enumerate(graph.inputs):
            index = int(index)
            if graph.tensors[index].type != schema.TensorType.INT8:
                continue
            outer = _unsigned_twin(graph, index)
            front.append(_quantize(code, outer, index))
            graph.inputs[place] = outer
            moved[index] = outer
        graph.operators = front + list(graph.operators)
        _move_arguments(model, moved, "inputs")
    if outputs:
        moved = {}
        for place, index in enumerate(graph.outputs):
            index = int(index)
            if graph.tensors[index].type != schema.TensorType.INT8:
                continue
            if index not in moved:
                moved[index] = _unsigned_twin(graph, index)
                graph.operators.append(_quantize(code, index, moved[index]))
            graph.outputs[place] = moved[index]
        _move_arguments(model, moved, "outputs")
    return _pack(model)


def without_negations(content: bytes) -> bytes:
    """Turn each NEG of a float `.tflite` into a product with −1: the same bits.

    LiteRT has no integer NEG that litert-quantizer would use; a product with −1 it has.
    """
    model = unfold(content)
    negations = {
        number
        for number, code in enumerate(model.operatorCodes)
        if code.builtinCode == schema.BuiltinOperator.NEG
    }
    changed = False
    for graph in model.subgraphs:
        constant = None
        for operator in graph.operators:
            taken = graph.tensors[operator.inputs[0]] if len(operator.inputs) else None
            if operator.opcodeIndex not in negations or taken is None:
                continue
            if taken.type != schema.TensorType.FLOAT32:
                continue
            if constant is None:
                constant = _minus_one(model, graph)
            operator.opcodeIndex = operator_code(model, schema.BuiltinOperator.MUL)
            operator.inputs = [int(operator.inputs[0]), constant]
            operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
            operator.builtinOptions = schema.MulOptionsT()
            changed = True
    return _pack(model) if changed else content


def integer_zeros(content: bytes) -> bytes:
    """Have the zeros that a recurrent layer starts from made as integers where they become some.

    A FILL of a float constant that only QUANTIZE operators of one scale take is one of an integer.
    """
    model = unfold(content)
    codes = [code.builtinCode for code in model.operatorCodes]
    changed = False
    for graph in model.subgraphs:
        kept = list(graph.operators)
        for operator in list(kept):
            if codes[operator.opcodeIndex] != schema.BuiltinOperator.FILL:
                continue
            output = int(operator.outputs[0])
            takers = [each for each in kept if output in [int(i) for i in each.inputs]]
            value = graph.tensors[int(operator.inputs[1])]
            data = model.buffers[value.buffer].data
            plain = all(
                codes[each.opcodeIndex] == schema.BuiltinOperator.QUANTIZE for each in takers
            )
            results = [graph.tensors[int(each.outputs[0])] for each in takers]
            alike = {
                (r.type, float(r.quantization.scale[0]), int(r.quantization.zeroPoint[0]))
                for r in results
            }
            if not takers or not plain or len(alike) != 1 or data is None or np.any(data):
                continue
            kind, _, zero = alike.pop()
            if kind != schema.TensorType.INT8 or output in [int(i) for i in graph.outputs]:
                continue
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.int8(zero).tobytes(), np.uint8)
            model.buffers.append(buffer)
            constant = schema.TensorT()
            constant.name, constant.type = value.name + b"_int8_%d" % output, kind
            constant.shape, constant.hasRank = np.zeros(0, np.int32), True
            constant.buffer = len(model.buffers) - 1
            constant.quantization = results[0].quantization
            graph.tensors.append(constant)
            operator.inputs = [int(operator.inputs[0]), len(graph.tensors) - 1]
            first = int(takers[0].outputs[0])
            operator.outputs = [first]
            gone = {int(each.outputs[0]) for each in takers[1:]}
            kept = [each for each in kept if not any(each is taker for taker in takers)]
            for each in kept:
                each.inputs = [first if int(i) in gone else int(i) for i in each.inputs]
            changed = True
        graph.operators = kept
    return _pack(model) if changed else content


def _minus_one(model: Any, graph: Any) -> int:
    """A new constant of a graph, the float −1; its number."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.float32(-1.0).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    names = {each.name for each in graph.tensors}
    tensor.name = next(name for n in range(99) if (name := b"minus_one%d" % n) not in names)
    tensor.shape, tensor.hasRank = np.zeros(0, np.int32), True
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def operator_code(model: Any, builtin: int) -> int:
    """The index of a builtin operator (one of the first 127) among a model's, added if need be."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            code.version = max(code.version, 1)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _unsigned_twin(graph: Any, index: int) -> int:
    tensor = graph.tensors[index]
    twin = schema.TensorT()
    twin.name, tensor.name = tensor.name, tensor.name + b"_int8"
    twin.shape, twin.shapeSignature = tensor.shape, tensor.shapeSignature
    twin.hasRank, twin.buffer = tensor.hasRank, 0
    twin.type = schema.TensorType.UINT8
    old, new = tensor.quantization, schema.QuantizationParametersT()
    new.scale = np.asarray(old.scale, np.float32)
    new.zeroPoint = np.asarray(old.zeroPoint, np.int64) + 128
    new.quantizedDimension = 0
    twin.quantization = new
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _quantize(code: int, source: int, target: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = [source], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    return operator


def _move_arguments(model: Any, moved: dict[int, int], side: str) -> None:
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for entry in getattr(signature, side):
                entry.tensorIndex = moved.get(entry.tensorIndex, entry.tensorIndex)
