import json
import os
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from litesmith import models
from litesmith.errors import ChildError, ModelError
from litesmith.models import files

LEGACY = Path(__file__).parents[2] / "../shared/data/legacy-h5/vww_96.h5"


def small(layer=None):
    layers = [
        keras.Input((8, 8, 2)),
        keras.layers.DepthwiseConv2D(3, name="depthwise"),
        keras.layers.Conv2DTranspose(3, 2, name="up"),
        keras.layers.SeparableConv2D(3, 2, name="separable"),
        keras.layers.Flatten(),
        layer or keras.layers.Dense(2, name="top"),
    ]
    return keras.Sequential(layers)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.keras"
    small().save(path)
    return path


@pytest.mark.every_backend
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_files_come_back_as_they_were(tmp_path, suffix):
    model, x = small(), np.random.default_rng(0).random((3, 8, 8, 2), np.float32)
    path = tmp_path / f"model{suffix}"
    save(model, path)
    loaded = models.load(path)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    assert models.load(path.name, root=tmp_path).count_params() == model.count_params()
    assert not loaded.compiled


def save(model, path):
    if path.suffix == ".keras":
        model.save(path)
        return
    model.save(path.with_suffix(".h5"))
    path.with_suffix(".h5").rename(path)


@pytest.mark.every_backend
def test_keras_2_files_whose_layers_have_groups(tmp_path):
    model, path = small(), tmp_path / "model.h5"
    save(model, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["config"]["name"] in ("depthwise", "up", "separable"):
                layer["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    loaded = models.load(path)
    kinds = [type(layer) for layer in loaded.layers]
    assert kinds[:3] == [
        keras.layers.DepthwiseConv2D,
        keras.layers.Conv2DTranspose,
        keras.layers.SeparableConv2D,
    ]
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    loaded.save(tmp_path / "again.keras")
    assert models.load(tmp_path / "again.keras").count_params() == model.count_params()


@pytest.mark.skipif(not LEGACY.exists(), reason="../shared/data is not here")
def test_a_real_keras_2_file():
    model = models.load(LEGACY)
    assert model.count_params() == 221_794 and model.output_shape == (None, 2)
    assert sum(type(layer) is keras.layers.DepthwiseConv2D for layer in model.layers) == 13
    out = model.predict(np.zeros((1, 96, 96, 3), np.float32), verbose=0)
    np.testing.assert_allclose(out.sum(), 1, atol=1e-5)


def refused(path, message):
    with pytest.raises(ModelError, match=message) as error:
        models.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.keras", None, "expected a model file, received no such file"),
        ("m.keras", b"", "expected a model, received an empty file"),
        ("m.keras", b"nonsense" * 99, "a .keras file, received something else; write it with"),
        ("m.keras", b"PK\x03\x04" + b"nonsense" * 99, "a whole model file, received a damaged one"),
        ("m.keras", b"\x89HDF\r\n\x1a\n" + b"x" * 99, "an HDF5 file; rename it to .h5"),
        ("m.h5", b"PK\x03\x04" + b"x" * 99, "a zip file; rename it to .keras"),
        ("m.h5", b"nonsense" * 99, "an HDF5 file, received something else"),
        (
            "m.h5",
            b"\x89HDF\r\n\x1a\n" + b"x" * 999,
            "a whole model file, received a damaged one: its weights cannot be",
        ),
        (
            "m.tflite",
            b"\x20\0\0\0TFL3" + b"x" * 99,
            "received a finished .tflite; inspect, evaluate",
        ),
        ("m.pkl", b"\x80\x04" * 99, "a .keras or .h5 file, received a file ending in '.pkl'"),
    ],
    ids=str,
)
def test_what_is_no_model_file(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused(path, message)


def test_folders(tmp_path):
    refused(tmp_path, "a .keras or .h5 file, received a folder")
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    refused(tmp_path, "a SavedModel folder.* export, evaluate and benchmark take a SavedModel")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_truncated_files(tmp_path, saved, suffix, keep):
    path = tmp_path / f"cut{suffix}"
    save(models.load(saved), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    refused(path, "received a damaged one")


def test_damage_inside(tmp_path, saved):
    path = tmp_path / "damaged.keras"
    whole = bytearray(saved.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 64] = bytes(255 - byte for byte in whole[middle : middle + 64])
    path.write_bytes(whole)
    refused(path, "received a damaged one")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    refused(path, "a zip file without model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{")
        archive.writestr("model.weights.h5", b"x")
    refused(path, "received a damaged one")
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"no HDF5" if name.endswith(".h5") else old.read(name))
    refused(path, "a damaged one: its weights cannot be read")


def test_a_file_that_kills_its_reader(saved, monkeypatch):
    class Dies:
        def __init__(self, *arguments, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def call(self, *arguments, **options):
            raise ChildError("the child died (signal 11): no last words")

    monkeypatch.setattr(files, "Child", Dies)
    refused(saved, r"reading it ended the process that tried \(the child died \(signal 11\)")


def test_weights_alone(tmp_path):
    path = tmp_path / "only.weights.h5"
    small().save_weights(path)
    refused(path, "expected a whole model, received weights only")


@pytest.mark.every_backend
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_is_not_run(tmp_path, suffix):
    model = small(keras.layers.Lambda(lambda x: x * 2, name="mine"))
    path = tmp_path / f"lambda{suffix}"
    save(model, path)
    refused(path, "layer 'mine', a Lambda: Python code inside a model file is not run")


def test_a_custom_layer_that_is_not_registered(tmp_path):
    class Mine(keras.layers.Dense):
        pass

    for suffix in (".keras", ".h5"):
        path = tmp_path / f"custom{suffix}"
        save(small(Mine(2)), path)
        refused(path, "received a custom class 'Mine' that is not registered")


@pytest.mark.every_backend
def test_a_weight_that_is_not_finite(tmp_path):
    for value in (np.nan, np.inf):
        model, path = small(), tmp_path / "broken.keras"
        kernel = keras.ops.convert_to_numpy(model.get_layer("top").kernel).copy()
        kernel[3, 1] = value
        model.get_layer("top").kernel.assign(kernel)
        model.save(path)
        refused(path, "weight '.*top/kernel': expected finite numbers, received 1 of ")


def test_a_prepared_model_comes_back(tmp_path):
    import subprocess
    import sys

    import litesmith

    path = tmp_path / "prepared.keras"
    litesmith.prepare(small(), litesmith.Recipe(litesmith.Prune(sparsity=0.5))).save(path)
    code = f"from litesmith import models; print(models.load({str(path)!r}).count_params())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=True
    )
    assert int(done.stdout.split()[-1]) >= small().count_params()


def with_config(saved, path, old, new):
    """The `.keras` file with a text of its configuration exchanged."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                assert content.count(old.encode()) >= 1
                content = content.replace(old.encode(), new.encode(), 1)
            target.writestr(name, content)
    return path


@pytest.mark.every_backend
def test_a_configuration_that_asks_for_gigabytes(tmp_path, saved):
    asking = [
        ('"units": 2', '"units": 40000000'),  # builds, with weights the file does not hold
        ('"filters": 3', '"filters": 40000000'),  # does not build, but Keras would begin to
    ]
    for old, new in asking:
        refused(
            with_config(saved, tmp_path / "large.keras", old, new),
            r"expected the weights of its configuration, [\d,]+ numbers or more, "
            r"received a file that holds \d+; save or copy it again",
        )
    wrong = with_config(saved, tmp_path / "other.keras", '"units": 2', '"units": 3')
    refused(wrong, "expected a model that Keras .* can load")  # small: Keras says it itself


def test_a_configuration_that_nests_deeper_than_python(saved, tmp_path):
    nested = '"units": ' + "[" * 900 + '{"class_name": "Lambda", "config": {"name": "deep"}}'
    path = with_config(saved, tmp_path / "deep.keras", '"units": 2', nested + "]" * 900)
    refused(path, "layer 'deep', a Lambda")
