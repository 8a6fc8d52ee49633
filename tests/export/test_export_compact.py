"""Packing without saying anything twice."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from litesmith.export import compact, edit, flatbuffer
from litesmith.export.post_training import quantize
from litesmith.export.presets import rules_of

from . import zoo


@pytest.mark.parametrize("preset", ["int8", "weight_int8", "float16"])
@pytest.mark.parametrize("kind", ["nested", "loop"])
def test_the_same_model_in_fewer_bytes(calibrated, kind, preset):
    _, float_model, inputs, ranges = calibrated(kind)
    content = quantize(float_model, rules_of(preset), ranges)
    packed = compact.pack(edit.unfold(content))
    assert len(packed) < len(edit._pack(edit.unfold(content)))
    before, after = flatbuffer.read(content), flatbuffer.read(packed)
    assert after.operator_counts() == before.operator_counts()
    assert after.signatures == before.signatures
    for one, other in zip(before.subgraphs, after.subgraphs, strict=True):
        assert (one.inputs, one.outputs) == (other.inputs, other.outputs)
        assert one.operators == other.operators
        for a, b in zip(one.tensors, other.tensors, strict=True):
            same = ("name", "shape", "shape_signature", "type", "stored", "axis", "variable")
            assert [getattr(a, name) for name in same] == [getattr(b, name) for name in same]
            for name in ("data", "scale", "zero_point"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    batch = inputs[:1] if float_model.inputs[0].shape[0] == 1 else inputs
    first, second = (zoo.run(each, [batch]) for each in (content, packed))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


def test_what_is_shared_and_what_is_not():
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [], [schema.SubGraphT()]
    graph = model.subgraphs[0]
    graph.inputs, graph.outputs, graph.operators, graph.tensors = [], [], [], []
    model.buffers = [schema.BufferT()]
    for name in (b"a", b"b"):
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.arange(4, dtype=np.uint8)
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [4], 9, len(model.buffers)
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5] * 4, [0] * 4
        graph.tensors.append(tensor)
        model.buffers.append(buffer)
    packed = compact.pack(model)
    root = schema.Model.GetRootAs(packed, 0)
    a, b = (root.Subgraphs(0).Tensors(i) for i in range(2))
    assert a.Quantization()._tab.Pos == b.Quantization()._tab.Pos

    def place(array):
        return array.__array_interface__["data"][0]

    assert place(a.ShapeAsNumpy()) == place(b.ShapeAsNumpy())
    # XNNPACK's cache of packed weights goes by the address of a weight's bytes.
    assert place(root.Buffers(1).DataAsNumpy()) != place(root.Buffers(2).DataAsNumpy())
    assert [t.data.tolist() for t in flatbuffer.read(packed).subgraphs[0].tensors] == [
        [0, 1, 2, 3]
    ] * 2
