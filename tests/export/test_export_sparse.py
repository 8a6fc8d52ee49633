"""Weights stored without their zeros: what the file becomes, and that nothing else changes."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

from litesmith.cli import run as command
from litesmith.errors import ExportError, ModelError
from litesmith.export import calibrate, convert, flatbuffer, sparse, sparse_layout
from litesmith.export import export as write
from litesmith.export.float_model import FloatModel
from litesmith.export.sizes import sizes
from litesmith.study import engine
from tests.study.small import CLASSES, SIDE, write_data

from . import zoo

ZEROS = 0.9


def network():
    """Two convolutions and a dense layer with 90 % zeros, a depthwise one with none."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 1)),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="first"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            layers.Conv2D(48, 3, strides=2, padding="same", activation="relu", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(64, activation="relu", name="third"),
            layers.Dense(CLASSES, activation="softmax", name="head"),
        ],
        name="pruned",
    )
    for name in ("second", "third"):
        model.get_layer(name).kernel.assign(zeroed(model.get_layer(name).kernel.shape))
    return model


def zeroed(shape, share=ZEROS, seed=0):
    random = np.random.default_rng(seed)
    values = random.normal(0, 0.2, shape).astype(np.float32)
    values[random.random(shape) < share] = 0
    return values


@pytest.fixture(scope="module")
def pruned():
    model = network()
    source = convert(model)
    images = np.random.default_rng(1).random((16, SIDE, SIDE, 1), np.float32)
    return source, images, calibrate(source, images)


@pytest.fixture(scope="module")
def exported(pruned, tmp_path_factory):
    """The dense and the sparse artifact of a preset, written once."""
    made, folder = {}, tmp_path_factory.mktemp("sparse")

    def get(preset):
        if preset not in made:
            source, _, ranges = pruned
            options = {"quantize": preset, "calibration": ranges}
            made[preset] = (
                write(source, folder / f"{preset}.tflite", **options),
                write(source, folder / f"{preset}-sparse.tflite", sparse=True, **options),
            )
        return made[preset]

    return get


def answers(path, images, **options):
    interpreter = Interpreter(model_path=str(path), num_threads=1, **options)
    found = []
    for batch in (images[:1], images, images[:3]):
        detail = interpreter.get_input_details()[0]
        interpreter.resize_tensor_input(detail["index"], batch.shape)
        interpreter.allocate_tensors()
        if detail["dtype"] == np.int8:
            scale, zero = detail["quantization"]
            batch = np.clip(np.round(batch / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(detail["index"], batch)
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return found


# --- the file -------------------------------------------------------------------------------------

# Weights stored sparse, and how small the file must be against the dense one: the depthwise
# kernel, biases, scales and names stay as they are.
STORED = {
    "float32": ({"second", "third"}, 0.37),
    "float16": ({"second", "third"}, 0.47),
    "weight_int8": ({"second", "third"}, 0.55),
    "int8": ({"second"}, 0.65),
    "int8_float_io": ({"second"}, 0.65),
}


@pytest.mark.parametrize("preset", STORED)
def test_smaller_and_the_same(exported, pruned, preset):
    dense, small = exported(preset)
    names, share = STORED[preset]
    assert small.path.stat().st_size < share * dense.path.stat().st_size
    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        before = answers(dense, pruned[1], experimental_op_resolver_type=resolver)
        after = answers(small, pruned[1], experimental_op_resolver_type=resolver)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))
        assert all(np.ptp(each.astype(float)) > 0 for each in after)

    told = small.manifest.sparse
    layers_of = {kernel.tensor: kernel.layer for kernel in small.manifest.kernels}
    assert {layers_of[each.tensor] for each in told.tensors} == names
    assert told.dense_size == dense.manifest.size and dense.manifest.sparse is None
    assert small.manifest.operators["DENSIFY"] == len(names)
    assert small.manifest.size.file == small.path.stat().st_size
    if preset.startswith("int8"):
        assert "DENSIFY" not in small.manifest.float_operators


@pytest.mark.parametrize("preset", STORED)
def test_the_manifest_counts_what_the_file_unfolds_to(exported, preset):
    dense, small = exported(preset)
    stored = {each.tensor: each for each in small.manifest.sparse.tensors}
    tensors = {t.name: t for t in flatbuffer.read(small.path).subgraphs[0].tensors if t.constant}
    for before, after in zip(dense.manifest.kernels, small.manifest.kernels, strict=True):
        same = {"layer", "variable", "tensor", "dtype", "shape", "size", "zeros", "unique"}
        assert before.model_dump(include=same) == after.model_dump(include=same)
        assert after.sparse == (after.tensor in stored) == tensors[after.tensor].sparse
        if after.sparse:
            entry = stored[after.tensor]
            assert (entry.zeros, entry.size) == (after.zeros, after.size)
            assert entry.bytes == after.bytes < before.bytes == entry.dense_bytes
        else:
            assert after.bytes == before.bytes
    # What is stored of a weight, indices included, is no part of the file's remainder.
    entropy = sizes(small.path)["entropy"]
    assert abs(entropy - sizes(dense.path)["entropy"]) < 0.05 * small.path.stat().st_size + 1500
    assert json.loads((small.path.parent / f"{small.path.name}.json").read_text())["sparse"]


def test_what_xnnpack_cannot_unfold_stays_dense(exported):
    dense, small = exported("int8")
    (left,) = small.manifest.sparse.dense
    assert left.operator == "FULLY_CONNECTED" and left.reason == (
        "XNNPACK takes int8 weights of FULLY_CONNECTED dense only"
    )
    dense, small = exported("dynamic_int8")
    assert small.manifest.sparse.tensors == ()
    assert {each.operator for each in small.manifest.sparse.dense} == {"CONV_2D", "FULLY_CONNECTED"}
    assert dense.path.read_bytes() == small.path.read_bytes()
    first, *others = small.manifest.sparse.notes(small.manifest.size)
    assert first == "stored dense: no weight gains by being stored sparse"
    assert any("cannot quantize activations on the fly" in each for each in others)


def test_models_without_zeros_are_left_alone(converted, tmp_path):
    _, source, _ = converted("nested")
    dense = write(source, tmp_path / "dense.tflite")
    asked = write(source, tmp_path / "asked.tflite", sparse=True)
    assert dense.path.read_bytes() == asked.path.read_bytes() == source.content
    assert asked.manifest.sparse.tensors == asked.manifest.sparse.dense == ()


@pytest.mark.every_backend
def test_other_operators(tmp_path):
    """Loops' bodies, tables and transposed convolutions, from the Keras model in one go."""
    tokens = layers.Input((6,), dtype="int32")
    x = layers.LSTM(24)(layers.Embedding(200, 24)(tokens))
    x = layers.Conv2DTranspose(16, 3)(layers.Reshape((1, 1, 24))(x))
    model = keras.Model(tokens, layers.Flatten()(x))
    for seed, weight in enumerate(model.trainable_weights):
        if len(weight.shape) > 1:
            weight.assign(zeroed(tuple(weight.shape), seed=seed))
    artifact = write(model, tmp_path / "m.tflite", sparse=True)
    told = artifact.manifest.sparse
    assert {each.operator for each in told.tensors} == {
        "FULLY_CONNECTED",
        "GATHER",
        "TRANSPOSE_CONV",
    }
    assert artifact.manifest.size.file < 0.4 * told.dense_size.file
    ids = np.arange(6, dtype=np.int32)[None] * 30
    (got,) = zoo.run(artifact.path.read_bytes(), [ids]).values()
    np.testing.assert_allclose(got, zoo.outputs(model, ids)[0], atol=1e-5)


def test_blocks_run_in_litert(tmp_path):
    model = keras.Sequential([layers.Input((48,)), layers.Dense(64)])
    model.layers[0].kernel.assign(np.kron(zeroed((12, 32), 0.8), np.ones((4, 2), np.float32)))
    artifact = write(model, tmp_path / "m.tflite", sparse=True)
    (stored,) = artifact.manifest.sparse.tensors
    weight = artifact.manifest.kernels[0]
    assert stored.bytes < 1.35 * 4 * (weight.size - weight.zeros)
    inputs = np.random.default_rng(0).normal(size=(2, 48)).astype("float32")
    (got,) = zoo.run(artifact.path.read_bytes(), [inputs]).values()
    np.testing.assert_allclose(got, zoo.outputs(model, inputs)[0], atol=1e-5)


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_kind_that_the_runtime_refuses_is_left_dense(pruned, tmp_path, monkeypatch):
    monkeypatch.setattr(sparse._Kind, "refused", property(lambda self: None))
    source, _, ranges = pruned
    artifact = write(
        source, tmp_path / "m.tflite", quantize="int8", calibration=ranges, sparse=True
    )
    told = artifact.manifest.sparse
    assert [each.operator for each in told.tensors] == ["CONV_2D"]
    assert "does not run with XNNPACK (failed to delegate FULLY_CONNECTED" in told.dense[0].reason


def test_an_encoding_that_kills_the_runtime(pruned, tmp_path, monkeypatch):
    """A compressed level inside a block: the schema allows it, and LiteRT divides by zero."""

    def parameters(encoded):
        made = schema.SparsityParametersT()
        rank = len(encoded.sizes)
        made.traversalOrder, made.blockMap = list(range(rank + 1)), [rank - 1]
        sizes = [encoded.sizes[encoded.layout.order.index(axis)] for axis in range(rank)]
        made.dimMetadata = [sparse._dense_level(size) for size in (*sizes[:-1], 1)]
        inner = schema.DimensionMetadataT()
        inner.format, inner.denseSize = schema.DimensionType.SPARSE_CSR, sizes[-1]
        rows = int(np.prod(sizes[:-1]))
        plain = dense[encoded.values.size].reshape(rows, -1)
        segments = np.concatenate([[0], np.cumsum((plain != 0).sum(axis=1))]).astype(np.uint16)
        inner.arraySegmentsType, inner.arraySegments = sparse._vector(segments)
        indices = np.nonzero(plain)[1].astype(np.uint8)
        inner.arrayIndicesType, inner.arrayIndices = sparse._vector(indices)
        encoded.values[:] = plain[plain != 0]
        made.dimMetadata.append(inner)
        return made

    source = pruned[0]
    constants = [t.data for t in flatbuffer.read(source.content).constants()]
    dense = {np.count_nonzero(data): data for data in constants if data is not None}
    monkeypatch.setattr(sparse, "_parameters", parameters)
    artifact = write(source, tmp_path / "m.tflite", sparse=True)
    told = artifact.manifest.sparse
    assert told.tensors == () and artifact.path.read_bytes() == source.content
    assert all("died (signal 8)" in each.reason for each in told.dense) and told.dense


def test_an_encoding_of_something_else_is_noticed(pruned, tmp_path, monkeypatch):
    right = sparse_layout.encode

    def wrong(weight, layout):
        encoded = right(weight, layout)
        encoded.values[0] *= 2
        return encoded

    monkeypatch.setattr(sparse_layout, "encode", wrong)
    artifact = write(pruned[0], tmp_path / "m.tflite", sparse=True)
    assert artifact.manifest.sparse.tensors == ()
    assert all("does not unfold to" in each.reason for each in artifact.manifest.sparse.dense)


def test_refusals(pruned, exported, tmp_path, monkeypatch):
    _, small = exported("float32")
    with pytest.raises(ModelError, match="expected a .tflite whose weights are stored dense"):
        convert(small.path)
    monkeypatch.setattr(FloatModel, "select_tf_ops", True)
    with pytest.raises(ExportError, match="sparse=True needs the file to be run"):
        write(pruned[0], tmp_path / "m.tflite", sparse=True)
    assert list(tmp_path.iterdir()) == []


# --- the study and the command line ---------------------------------------------------------------


VARIANTS = """
[[variant]]
name = "float"
sparse = true
[[variant]]
name = "half"
quantize = "float16"
sparse = {sparse}
"""


class Speed:
    """What a benchmark says, but for the seconds it takes."""

    latency_ms = {"p50": 1.0, "p95": 2.0}
    load_ms = 3.0
    memory = {"peak_rss": 4, "arena": 5}

    def __init__(self, artifact):
        self.size = artifact.manifest.size.model_dump()


def test_a_study(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "benchmark", Speed)
    network().save(tmp_path / "pruned.keras")
    write_data(tmp_path)
    study = tmp_path / "study.toml"

    def run(sparse, resume=False):
        text = '[model]\nsource = "pruned.keras"\n[data]\nsource = "npz:blobs.npz"\n'
        study.write_text(text + VARIANTS.format(sparse=sparse))
        told = []
        rows = engine.run(study, tmp_path / "out", resume=resume, progress=told.append).variants
        return rows, [event.name for event in told if event.kind == "reused"]

    (base, float32, half), _ = run("true")
    assert [row.status for row in (base, float32, half)] == ["done"] * 3
    assert (base.sparse, base.dense_size) == (False, None)
    for row in (float32, half):
        assert row.sparse and row.size.file < 0.5 * row.dense_size.file
    assert float32.dense_size == base.size
    assert (float32.metrics, float32.sparsity) == (base.metrics, base.sparsity)
    assert float32.notes == [
        f"2 weights stored sparse: {float32.size.file:,} bytes where the dense file has "
        f"{base.size.file:,}; zipped {float32.size.zip:,} where it has {base.size.zip:,}"
    ]
    report = (tmp_path / "out/report.md").read_text()
    assert "| dense file |" in report and "float32 · stored sparse" in report
    assert f"{base.size.file / 1000:.1f} kB" in report

    (_, _, again), reused = run("false", resume=True)  # another variant, though all else is equal
    assert reused == ["baseline", "float"]
    assert (again.sparse, again.dense_size) == (False, None)
    assert again.size == half.dense_size


@pytest.mark.every_backend
def test_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    network().save("pruned.keras")
    assert command(["export", "pruned.keras", "-o", "m.tflite", "--sparse", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert len(told["sparse"]["tensors"]) == 2
    assert told["size"]["file"] < 0.5 * told["sparse"]["dense_size"]["file"]
    assert command(["export", "pruned.keras", "-o", "m.tflite", "--sparse"]) == 0
    dense = told["sparse"]["dense_size"]["file"] / 1000
    assert capfd.readouterr().out.endswith(
        f"{told['size']['file'] / 1000:.1f} kB ({dense:.1f} kB dense)\n"
    )
