"""A stripped model that a user saves keeps its ranges; rules serve as a preset; freezing."""

import keras
import numpy as np
import pytest
from keras import layers

import litesmith as ls
from litesmith.parametrize import holder_of
from litesmith.quantization import keeping
from litesmith.recipe import origin
from tests.quantization import small

pytestmark = pytest.mark.every_backend
to_numpy = keras.ops.convert_to_numpy


def with_biases():
    """Every layer has a bias, so that each initializer is called."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(48, 3, activation="relu", name="convolution")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(64, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))


@pytest.mark.parametrize(
    "make, recipe",
    [
        (small.convolutional, ls.Quantize(weights=4)),
        (with_biases, [ls.Prune(sparsity=0.5), ls.Quantize()]),
    ],
    ids=["convolutional", "with biases"],
)
def test_a_stripped_model_that_was_saved_exports_as_it_would_have(tmp_path, make, recipe):
    prepared, x, _ = small.trained(recipe, make, epochs=1)
    stripped = ls.strip(prepared)
    file = tmp_path / "plain.keras"
    stripped.save(file)
    loaded = keras.saving.load_model(file)
    assert not any(type(layer).__module__.startswith("litesmith") for layer in loaded.layers)
    assert np.array_equal(loaded.predict(x, verbose=0), stripped.predict(x, verbose=0))
    first = ls.export(stripped, tmp_path / "first.tflite", quantize="int8")
    for name, model in (("second", loaded), ("third", file)):
        again = ls.export(model, tmp_path / f"{name}.tflite", quantize="int8")
        assert again.sha256 == first.sha256
        assert again.manifest.recipe == first.manifest.recipe
    loaded.save(tmp_path / "again.keras")
    assert origin(keras.saving.load_model(tmp_path / "again.keras")).grids is not None


def test_a_clone_of_a_stripped_model_starts_where_it_would_have():
    prepared, _, _ = small.trained(ls.Quantize(), with_biases, epochs=1)
    clone = keras.models.clone_model(ls.strip(prepared))
    biases = [w for w in clone.weights if w.name == "bias"]
    assert len(biases) == 3 and all(np.abs(to_numpy(b)).max() < 1e-9 for b in biases)


def test_weights_that_were_trained_on_are_no_longer_on_their_grid(tmp_path):
    prepared, x, _ = small.trained(ls.Quantize(), epochs=1)
    ls.strip(prepared).save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    kernel = loaded.get_layer("second").kernel
    kernel.assign(kernel * 1.01)
    assert origin(loaded) is None
    with pytest.raises(ls.PresetError, match="unless it is trained on after it was stripped"):
        ls.export(loaded, tmp_path / "model.tflite", quantize="int8")
    ls.export(loaded, tmp_path / "model.tflite", quantize="int8", calibration=x)


def test_where_there_is_no_room_nothing_is_written():
    inputs = layers.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    about = {"recipe": None, "activations": 8, "ranges": {"0/0/in/0/0": (0.0, 1.0)}, "kernels": {}}
    assert not keeping.keep(model, about) and keeping.kept(model) is None
    assert isinstance(model.layers[1].bias_initializer, keras.initializers.Zeros)


def test_the_settings_of_training_are_a_preset_too(tmp_path):
    x, y = small.data()
    model = small.train(small.convolutional(), x, y)
    rules = [ls.Quantize(where=["first", "head"]), ls.Quantize(weights=4)]
    artifact = ls.export(model, tmp_path / "mixed.tflite", quantize=rules, calibration=x)
    types = {each.layer: each.dtype for each in artifact.manifest.kernels}
    assert types["first"] == types["head"] == "int8" and types["second"] == "int4"
    assert artifact.manifest.io == "int8" and artifact.manifest.float_operators == {}
    assert [each["technique"] for each in artifact.manifest.recipe["techniques"]] == [
        "quantize"
    ] * 2
    result = ls.evaluate(artifact, (x, y), metrics=["accuracy"])
    assert result["accuracy"] >= ls.evaluate(model, (x, y), metrics=["accuracy"])["accuracy"] - 0.1
    weights = ls.Quantize(weights=4, activations=None)
    alone = ls.export(model, tmp_path / "weights.tflite", quantize=weights)
    assert alone.manifest.io == "float32"
    assert {each.dtype for each in alone.manifest.kernels} == {"int4", "int8"}
    with pytest.raises(ls.PresetError, match="expected calibration data"):
        ls.export(model, tmp_path / "no.tflite", quantize=ls.Quantize())
    with pytest.raises(ls.PresetError, match="need no training"):
        ls.export(model, tmp_path / "no.tflite", quantize=ls.Prune(sparsity=0.5))
    with pytest.raises(ls.PresetError, match="a Keras model, or the path"):
        ls.export(ls.convert(model), tmp_path / "no.tflite", quantize=ls.Quantize(), calibration=x)


def test_batch_norms_freeze_from_their_step_on():
    x, y = small.data()
    model = small.train(small.convolutional(), x, y)
    prepared = ls.prepare(model, ls.Quantize(freeze_batch_norm=6))
    norm = prepared.layers[2]

    def statistics():
        return [to_numpy(each).copy() for each in (norm.moving_mean, norm.moving_variance)]

    before = statistics()
    small.train(prepared, x * 3, y, epochs=1)  # six steps
    frozen = statistics()
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(before, frozen, strict=True))
    gamma = to_numpy(norm.gamma).copy()
    small.train(prepared, x * 5, y, epochs=1)
    assert all(np.array_equal(a, b) for a, b in zip(frozen, statistics(), strict=True))
    assert not np.array_equal(gamma, to_numpy(norm.gamma))
    # From then on training computes what inference does.
    (tap,) = [tap for site, tap in holder_of(norm).taps() if site["kind"] == "whole"]
    assert tap.progress() == {"steps": 12}
    value = keras.ops.convert_to_tensor(x[:8] @ np.ones((3, 8), "float32"))
    given = [to_numpy(norm(value, training=flag)) for flag in (True, False)]
    assert np.abs(given[0] - given[1]).max() <= 0.02 * np.abs(given[1]).max()
