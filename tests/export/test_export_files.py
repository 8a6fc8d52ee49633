from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zlib

import keras
import numpy as np
import pytest
from keras import layers

import litesmith
from litesmith.comparison.results import Size
from litesmith.errors import ExportError
from litesmith.export import Manifest, convert, exporting, flatbuffer
from litesmith.export import export as write
from litesmith.export.sizes import sizes

from . import zoo


def test_a_file_and_its_manifest(calibrated, tmp_path):
    _, float_model, inputs, calibration = calibrated("nested")
    path = tmp_path / "out" / "model.tflite"
    artifact = write(float_model, path, quantize="int8", calibration=calibration)
    content = path.read_bytes()
    assert os.fspath(artifact) == str(path) == str(artifact)
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    told = json.loads((tmp_path / "out" / "model.tflite.json").read_text())
    assert Manifest.model_validate(told) == artifact.manifest
    assert told["schema"] == 1
    assert told["quantize"] == told["io"] == "int8"
    assert told["backend"] == keras.backend.backend()
    assert told["calibration"] == {"samples": 32, "rule": "min_max"}
    assert told["size"]["file"] == len(content)
    assert told["size"]["zip"] == len(zlib.compress(content, 9))
    assert told["inputs"][0]["dtype"] == "int8"
    assert told["inputs"][0]["shape"] == [-1, 8, 8, 2]
    assert told["operators"]["CONV_2D"] == 1
    assert told["recipe"] is None and told["select_tf_ops"] is False
    for version in ("litesmith", "keras", "tensorflow", "litert", "quantizer"):
        assert told[version]
    tensors = {t.name: t for t in flatbuffer.read(content).subgraphs[0].tensors}
    assert len(told["kernels"]) == 3
    for kernel in told["kernels"]:
        data = tensors[kernel["tensor"]].data
        assert kernel["size"] == data.size == kernel["bytes"]
        assert kernel["zeros"] == (data == 0).sum()
        assert kernel["unique"] == len(np.unique(data))


def test_four_bits_are_two_to_a_byte(converted, tmp_path):
    _, float_model, _ = converted("sequential")
    artifact = write(float_model, tmp_path / "m.tflite", quantize="weight_int4")
    dense = artifact.manifest.kernels[-1]
    assert (dense.dtype, dense.size, dense.bytes) == ("int4", 432, 216)
    assert dense.unique <= 16


def test_the_recipe_is_told(tmp_path):
    model = keras.Sequential([layers.Input((8,)), layers.Dense(8), layers.Dense(2)])
    recipe = litesmith.Recipe(litesmith.Prune(sparsity=0.5))
    small = litesmith.strip(litesmith.prepare(model, recipe))
    artifact = write(small, tmp_path / "m.tflite")
    assert artifact.manifest.recipe == recipe.to_dict()
    assert [(k.zeros, k.size) for k in artifact.manifest.kernels] == [(32, 64), (8, 16)]


def test_entropy_is_a_lower_bound():
    model = keras.Sequential([layers.Input((64,)), layers.Dense(64)])
    values = np.random.default_rng(0).choice([0.0, 0.0, 0.0, 1.5], (64, 64))
    model.layers[0].kernel.assign(values)
    content = convert(model).content
    size = Size(**sizes(content))
    share = (values != 0).mean()
    bits = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert size.entropy == pytest.approx(len(content) - 64 * 64 * 4 + 64 * 64 * bits / 8, abs=300)
    assert size.entropy < size.file


def test_a_file_that_cannot_be_run_is_not_written(converted, tmp_path, monkeypatch):
    _, float_model, _ = converted("nested")
    broken = bytearray(float_model.content)
    # An operator's code that no runtime knows: LiteRT refuses the file.
    monkeypatch.setattr(exporting, "derive", lambda *a, **k: _unknown_operator(bytes(broken)))
    with pytest.raises(ExportError, match="the float16 file cannot be run"):
        write(float_model, tmp_path / "m.tflite", quantize="float16")
    assert list(tmp_path.iterdir()) == []


def _unknown_operator(content):
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for code in model.operatorCodes:
        code.version = 99
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.mark.every_backend
def test_digits_agree():
    """The built-in study's promise: float32 100 %, float16 ≥ 99.5 %, int8 ≥ 98.5 %."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((8, 8, 1))])
    for filters in (8, 16):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(images[:1400], labels[:1400], epochs=4, batch_size=64, verbose=0)
    expected = model.predict(images[1400:], verbose=0).argmax(1)
    assert (expected == labels[1400:]).mean() > 0.85
    float_model = convert(model)
    calibration = litesmith.calibrate(float_model, images[:200])
    from litesmith.export.post_training import quantize
    from litesmith.export.presets import rules_of

    for preset, least in (
        ("float32", 1),
        ("float16", 0.995),
        ("int8", 0.985),
        ("dynamic_int8", 0.985),
    ):
        content = quantize(float_model, rules_of(preset), calibration)
        (got,) = zoo.run(content, [images[1400:]]).values()
        agreement = (got.argmax(1) == expected).mean()
        print(f"{keras.backend.backend()} {preset}: {100 * agreement:.2f} %")
        assert agreement >= least


def test_images_of_any_size(tmp_path):
    inputs = layers.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    artifact = write(keras.Model(inputs, layers.Dense(2)(x)), tmp_path / "m.tflite")
    assert artifact.manifest.inputs[0].shape == (-1, -1, -1, 3)
    assert artifact.manifest.notes == ()


def test_nan_on_random_input_is_noted(tmp_path):
    inputs = layers.Input((4,))
    x = inputs * 0
    artifact = write(
        keras.Model(inputs, x / keras.ops.max(x, -1, keepdims=True)), tmp_path / "m.tflite"
    )
    (note,) = artifact.manifest.notes
    assert "was NaN on random input" in note
    assert json.loads((tmp_path / "m.tflite.json").read_text())["notes"] == [note]


def test_the_trial_is_not_on_zeros(tmp_path):
    inputs = layers.Input((4,))
    model = keras.Model(inputs, inputs / keras.ops.max(inputs, -1, keepdims=True))
    assert write(model, tmp_path / "m.tflite").manifest.notes == ()


def test_token_ids_are_told_in_io(calibrated, tmp_path):
    _, float_model, _, calibration = calibrated("embedding")
    artifact = write(float_model, tmp_path / "m.tflite", quantize="int8", calibration=calibration)
    assert artifact.manifest.io == "int32, int8"
    assert write(float_model, tmp_path / "f.tflite").manifest.io == "int32, float32"


def test_a_kernel_that_cannot_be_read_is_unmapped(converted, tmp_path):
    _, float_model, _ = converted("nested")
    first, *rest = float_model.kernels
    lost = dataclasses.replace(first, tensor="nowhere")
    changed = dataclasses.replace(float_model, kernels=(lost, *rest))
    manifest = write(changed, tmp_path / "m.tflite").manifest
    assert manifest.unmapped == (first.variable,)
    assert len(manifest.kernels) == len(rest)
