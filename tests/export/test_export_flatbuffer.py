from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from litesmith.errors import ModelError
from litesmith.export import flatbuffer, tensor_data
from litesmith.export.post_training import quantize
from litesmith.export.presets import rules_of


def test_what_is_in_a_file(converted):
    model, float_model, _ = converted("nested")
    read = flatbuffer.read(float_model.content)
    assert read.size == len(float_model.content)
    (graph,) = read.subgraphs
    assert [operator.name for operator in graph.operators] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
    ]
    weights = graph.tensors[graph.operators[0].inputs[1]]
    assert (weights.shape, weights.type, weights.scale) == ((4, 3, 3, 2), "FLOAT32", None)
    assert weights.constant and weights.data.dtype == np.float32
    inputs = graph.tensors[graph.inputs[0]]
    assert (inputs.shape, inputs.shape_signature) == ((1, 8, 8, 2), (-1, 8, 8, 2))
    assert inputs.data is None and not inputs.constant
    assert read.signatures[0].inputs == {inputs.name: inputs.index}
    dense = graph.tensors[graph.operators[3].inputs[1]]
    np.testing.assert_array_equal(dense.data.T, np.asarray(model.layers[-1].get_weights()[0]))


@pytest.mark.parametrize(("preset", "bits"), [("weight_int8", 8), ("weight_int4", 4)])
def test_integers_stand_for_the_weights(converted, preset, bits):
    _, float_model, _ = converted("sequential")
    before = {t.name: t for t in flatbuffer.read(float_model.content).constants()}
    content = quantize(float_model, rules_of(preset))
    after = {t.name: t for t in flatbuffer.read(content).constants()}
    for kernel in float_model.kernels:
        tensor = after[kernel.tensor]
        assert tensor.data.dtype == np.int8
        assert np.abs(tensor.data.astype(int)).max() <= 2 ** (bits - 1)
        assert tensor.scale.size == tensor.shape[tensor.axis]
        step = tensor.scale.max()
        difference = np.abs(tensor.dequantized() - before[kernel.tensor].data).max()
        assert difference <= step * 0.5001


def test_packed_bits_are_unfolded():
    raw = np.array([0x21, 0xF8], np.uint8)
    assert tensor_data.values(raw, "INT4", (4,), None).tolist() == [1, 2, -8, -1]
    assert tensor_data.values(raw, "INT4", (3,), None).tolist() == [1, 2, -8]
    assert tensor_data.values(raw, "UINT4", (4,), None).tolist() == [1, 2, 8, 15]
    raw = np.array([0b11100100], np.uint8)
    assert tensor_data.values(raw, "INT2", (4,), None).tolist() == [0, 1, -2, -1]


def test_bfloat16():
    raw = np.array([1.5, -2.0], np.float32).view(np.uint8).reshape(2, 4)[:, 2:].copy().reshape(-1)
    assert tensor_data.values(raw, "BFLOAT16", (2,), None).tolist() == [1.5, -2.0]


def _sparse(dense, order, block=None):
    """A tensor's sparsity as the schema reads it back: the last dimension compressed."""
    import flatbuffers

    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap = list(order), [] if block is None else [block[0]]
    if block is not None:
        axis, size = block
        shape = list(dense.shape)
        split = shape[:axis] + [shape[axis] // size, size] + shape[axis + 1 :]
        last = [*(d if d <= axis else d + 1 for d in range(dense.ndim)), axis + 1]
        table = dense.reshape(split).transpose(last)
    else:
        table = dense.transpose(order)
    sparsity.dimMetadata = []
    for size in table.shape[:-1]:
        level = schema.DimensionMetadataT()
        level.format, level.denseSize = schema.DimensionType.DENSE, size
        sparsity.dimMetadata.append(level)
    rows = table.reshape(-1, table.shape[-1])
    level = schema.DimensionMetadataT()
    level.format, level.denseSize = schema.DimensionType.SPARSE_CSR, table.shape[-1]
    for name, values in (
        ("arraySegments", np.concatenate([[0], np.cumsum((rows != 0).sum(1))])),
        ("arrayIndices", np.nonzero(rows)[1]),
    ):
        vector = schema.Uint8VectorT()
        vector.values = values.astype(np.uint8)
        setattr(level, name, vector)
        setattr(level, name + "Type", schema.SparseIndexVector.Uint8Vector)
    sparsity.dimMetadata.append(level)
    builder = flatbuffers.Builder(1024)
    builder.Finish(sparsity.Pack(builder))
    return schema.SparsityParameters.GetRootAs(builder.Output()), rows[rows != 0]


@pytest.mark.parametrize(("order", "block"), [((0, 1), None), ((1, 0), None), ((0, 1, 2), (1, 2))])
def test_sparse_tensors_are_unfolded(order, block):
    random = np.random.default_rng(0)
    dense = random.normal(size=(4, 6)).astype("float32") * (random.random((4, 6)) < 0.4)
    sparsity, stored = _sparse(dense, order, block)
    raw = stored.astype("<f4").view(np.uint8)
    np.testing.assert_array_equal(tensor_data.values(raw, "FLOAT32", (4, 6), sparsity), dense)
    with pytest.raises(ValueError, match="places"):
        tensor_data.values(raw[:-4], "FLOAT32", (4, 6), sparsity)
    with pytest.raises(ValueError, match="does not fit the shape"):
        tensor_data.values(raw, "FLOAT32", (4, 6, 1), sparsity)


def test_what_is_no_tflite(tmp_path):
    with pytest.raises(ModelError, match="received no such file"):
        flatbuffer.read(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="received an empty file"):
        flatbuffer.read(b"")
    (tmp_path / "x.tflite").write_bytes(b"PK\x03\x04" * 10)
    with pytest.raises(ModelError, match=r"expected a .tflite \('TFL3' at byte 4\)"):
        flatbuffer.read(tmp_path / "x.tflite")


def test_corrupt_files_raise_model_errors(converted):
    content = converted("nested")[1].content
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(150):
        broken = bytearray(content)
        if trial % 3 == 0:
            broken = broken[: random.integers(16, len(content))]
        else:
            for place in random.integers(8, len(broken), 20):
                broken[place] = random.integers(0, 256)
        try:
            read = flatbuffer.read(bytes(broken))
            for graph in read.subgraphs:
                for tensor in graph.tensors:
                    tensor.dequantized()
        except ModelError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 40
