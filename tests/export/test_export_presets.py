from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from litesmith.errors import ExportError, PresetError
from litesmith.export import (
    PRESETS,
    Rule,
    Rules,
    calibrate,
    convert,
    export,
    flatbuffer,
    post_training,
)
from litesmith.export.post_training import float_operators, quantize
from litesmith.export.presets import rules_of

from . import zoo

BITS = {"float32": None, "float16": 11, "weight_int8": 8, "dynamic_int8": 8, "int8": 8}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", ["nested", "recurrent", "loop", "attention", "embedding", "dicts"])
def test_close_to_float(calibrated, kind, preset):
    _, float_model, inputs, calibration = calibrated(kind)
    flat = keras.tree.flatten(inputs)
    if float_model.inputs[0].shape[0] == 1:
        flat = [array[:1] for array in flat]
    reference = zoo.run(float_model.content, flat)
    content = quantize(float_model, rules_of(preset), calibration)
    for name, value in zoo.run(content, flat).items():
        error = np.abs(value - reference[name]).max() / np.abs(reference[name]).max()
        allowed = {"float32": 0, "float16": 2e-3}.get(preset, 0.3 if "int4" in preset else 0.06)
        assert error <= allowed
    if preset not in ("float32", "float16"):
        assert len(content) < 1.4 * len(float_model.content)


def _types(content):
    read = flatbuffer.read(content)
    graph = read.subgraphs[0]
    edges = [graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)]
    kernels = {t.name: t.type for g in read.subgraphs for t in g.tensors if t.constant}
    return edges, kernels


def test_small_kernels_stay_float_in_the_dynamic_presets(calibrated, monkeypatch):
    _, float_model, _, _ = calibrated("nested")
    names = {kernel.tensor: np.prod(kernel.shape) for kernel in float_model.kernels}
    conv = min(names, key=names.get)
    monkeypatch.setattr(post_training, "_LEAST_ELEMENTS", names[conv] + 1)
    kinds = {
        preset: _types(quantize(float_model, rules_of(preset)))[1]
        for preset in ("dynamic_int8", "dynamic_int4", "weight_int8")
    }
    assert kinds["dynamic_int8"][conv] == kinds["dynamic_int4"][conv] == "FLOAT32"
    assert kinds["weight_int8"][conv] == "INT8"
    largest = max(names, key=names.get)
    assert kinds["dynamic_int8"][largest] == "INT8"
    # A rule that asks for it has it.
    asked = rules_of({"rules": [{"where": ".*", "preset": "dynamic_int8"}]})
    assert _types(quantize(float_model, asked))[1][conv] == "INT8"


def test_types_of_kernels_and_edges(calibrated, monkeypatch):
    monkeypatch.setattr(post_training, "_LEAST_ELEMENTS", 0)
    _, float_model, _, calibration = calibrated("nested")
    conv, depthwise, dense = [kernel.tensor for kernel in float_model.kernels]
    expected = {
        "float32": ("FLOAT32", "FLOAT32", "FLOAT32"),
        "float16": ("FLOAT32", "FLOAT16", "FLOAT16"),
        "dynamic_int8": ("FLOAT32", "INT8", "INT8"),
        "weight_int8": ("FLOAT32", "INT8", "INT8"),
        "int8": ("INT8", "INT8", "INT8"),
        "int8_float_io": ("FLOAT32", "INT8", "INT8"),
        "int16x8": ("FLOAT32", "INT8", "INT8"),
        "weight_int4": ("FLOAT32", "INT4", "INT8"),
        "dynamic_int4": ("FLOAT32", "INT4", "INT8"),
    }
    for preset, (edge, conv_type, depthwise_type) in expected.items():
        edges, kernels = _types(quantize(float_model, rules_of(preset), calibration))
        assert set(edges) == {edge}, preset
        assert (kernels[conv], kernels[depthwise]) == (conv_type, depthwise_type), preset
        assert kernels[dense] == conv_type, preset


def test_an_int8_file_has_no_float_operator(calibrated):
    _, float_model, _, calibration = calibrated("nested")
    assert (
        float_operators(flatbuffer.read(quantize(float_model, rules_of("int8"), calibration))) == {}
    )
    assert float_operators(float_model.view)["CONV_2D"] == 1


def test_presets_of_one_conversion_do_not_disturb_each_other(calibrated):
    _, model, _, ranges = calibrated("nested")
    presets = ("int8", "weight_int4", "float16", "int8")
    one_by_one = [quantize(dataclasses.replace(model), rules_of(name), ranges) for name in presets]
    assert [quantize(model, rules_of(name), ranges) for name in presets] == one_by_one


def test_an_embedding_becomes_int8(calibrated):
    _, float_model, _, calibration = calibrated("embedding")
    table = next(k.tensor for k in float_model.kernels if k.variable.endswith("embeddings"))
    for preset in ("dynamic_int8", "weight_int8", "dynamic_int4", "int8"):
        kernels = _types(quantize(float_model, rules_of(preset), calibration))[1]
        assert kernels[table] == "INT8", preset


@pytest.mark.parametrize("kind", ["nested", "dicts", "lists"])
def test_unsigned_edges_give_the_same_numbers(calibrated, kind):
    _, float_model, inputs, calibration = calibrated(kind)
    flat = keras.tree.flatten(inputs)
    signed = quantize(float_model, rules_of("int8"), calibration)
    unsigned = quantize(float_model, rules_of("int8"), calibration, io_dtype="uint8")
    assert set(_types(unsigned)[0]) == {"UINT8"}
    expected, got = zoo.run(signed, flat), zoo.run(unsigned, flat)
    assert list(got) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


def test_zeros_stay_zero():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    random = np.random.default_rng(0)
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        if value.ndim > 1:
            weight.assign(np.where(random.random(value.shape) < 0.8, 0, value))
    float_model = convert(model)
    calibration = calibrate(float_model, random.normal(size=(8, 8, 8, 3)).astype("float32"))
    before = {t.name: t for t in flatbuffer.read(float_model.content).constants()}
    assert len(float_model.kernels) == 3
    for preset in PRESETS:
        content = quantize(float_model, rules_of(preset), calibration)
        after = {t.name: t for t in flatbuffer.read(content).constants()}
        for kernel in float_model.kernels:
            zeros = before[kernel.tensor].data == 0
            assert 0.7 < zeros.mean() < 0.9
            assert (after[kernel.tensor].dequantized()[zeros] == 0).all(), preset


def test_rules_by_layer(calibrated):
    _, float_model, _, calibration = calibrated("nested")
    conv, depthwise, dense = [kernel.tensor for kernel in float_model.kernels]
    rules = Rules(
        (Rule(where="inner/.*", preset="float32"), Rule(where="dense.*", preset="dynamic_int4")),
        default="int8",
    )
    content = quantize(float_model, rules, calibration)
    kernels = _types(content)[1]
    assert (kernels[conv], kernels[depthwise], kernels[dense]) == ("FLOAT32", "INT8", "INT4")


def test_the_first_rule_that_matches_decides(converted):
    _, float_model, _ = converted("nested")
    conv, depthwise, dense = [kernel.tensor for kernel in float_model.kernels]
    rules = [
        Rule(where="inner/conv2d.*", op="CONV_2D", preset="float16"),
        Rule(op="CONV_2D", preset="dynamic_int8"),
        {"where": "dense.*", "preset": "weight_int8"},
    ]
    kernels = _types(quantize(float_model, rules_of(rules)))[1]
    assert (kernels[conv], kernels[depthwise], kernels[dense]) == ("FLOAT16", "FLOAT32", "INT8")


def test_rules_as_json():
    rules = Rules((Rule(where="a", preset="int8"),), default="float16")
    table = {"default": "float16", "rules": [{"where": "a", "preset": "int8"}]}
    assert rules.to_json() == table
    assert rules_of(table) == rules
    assert rules_of("int8").to_json() == "int8"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: rules_of("int9"),
            "quantize: expected a preset, received int9; did you mean 'int8'",
        ),
        (lambda: rules_of(3), "expected a preset's name, Rules, or a list of rules, received 3"),
        (lambda: rules_of([]), "expected a preset's name, Rules, or a list of rules"),
        (lambda: Rule(preset="int8"), "rule: expected where= or op=, received neither"),
        (lambda: Rule(where="(", preset="int8"), "rule: where: expected a regular expression"),
        (lambda: rules_of([{"wher": "a"}]), "received wher; did you mean 'where'"),
        (lambda: rules_of([{"where": "a"}]), "expected a Rule, or a table with 'preset'"),
        (lambda: rules_of({"rules": [], "x": 1}), "expected the fields 'rules' and 'default'"),
    ],
)
def test_wrong_rules(make, message):
    with pytest.raises(PresetError, match=message.replace("(", r"\(")):
        make()


def test_rules_that_match_nothing(converted):
    _, float_model, _ = converted("nested")
    with pytest.raises(PresetError, match="path of a layer with a kernel.*did you mean 'inner/c"):
        quantize(float_model, rules_of([Rule(where="iner/conv2d", preset="float16")]))
    with pytest.raises(PresetError, match="rule: op.*received CONV_2; did you mean 'CONV_2D'"):
        quantize(float_model, rules_of([Rule(op="CONV_2", preset="float16")]))
    with pytest.raises(PresetError, match="preset 'float16'.*received MEAN"):
        quantize(float_model, rules_of([Rule(op="MEAN", preset="float16")]))


def test_wrong_options(converted, tmp_path):
    _, float_model, inputs = converted("nested")
    path = tmp_path / "model.tflite"
    with pytest.raises(PresetError, match="expected calibration data, received none; pass cal"):
        export(float_model, path, quantize="int8")
    with pytest.raises(PresetError, match="io_dtype: expected 'int8' or 'uint8', received int32"):
        export(float_model, path, io_dtype="int32")
    with pytest.raises(PresetError, match="use quantize='int8'"):
        export(float_model, path, quantize="int8_float_io", io_dtype="uint8", calibration=inputs)
    with pytest.raises(PresetError, match="expected a path that ends in .tflite"):
        export(float_model, tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_strict_names_what_stays_float(tmp_path):
    inputs = layers.Input((6,))
    model = keras.Model(inputs, layers.Dense(3)(layers.ELU()(layers.Dense(4)(inputs))))
    path, samples = tmp_path / "model.tflite", np.ones((4, 6), np.float32)
    with pytest.raises(ExportError, match="leaves operators in float: 1 × ELU"):
        export(model, path, quantize="int8", calibration=samples, strict=True)
    assert list(tmp_path.iterdir()) == []
    artifact = export(model, path, quantize="int8", calibration=samples)
    assert artifact.manifest.float_operators == {"ELU": 1}


def test_int16x8_names_the_operator_that_fails(tmp_path):
    inputs = layers.Input((8, 8, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    model = keras.Model(inputs, layers.Conv2D(2, 3, padding="same")(x))
    data = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype("float32")
    data[0, 0, 0, 0] = 255  # the ADD fails where the sum reaches as far as the constant
    with pytest.raises(ExportError, match=r"int16x8 file cannot be run.*ADD.*use 'int8'"):
        export(model, tmp_path / "m.tflite", quantize="int16x8", calibration=data)
    assert list(tmp_path.iterdir()) == []
