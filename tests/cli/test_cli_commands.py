"""Each command on a real, small model: what it prints, what it writes, how it ends."""

from __future__ import annotations

import functools
import json
import os
import shutil

import pytest

from litesmith.cli import run
from tests.study.small import HALF, network, write_data, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A `.keras` file, data, and a `.tflite` made of it."""
    folder = tmp_path_factory.mktemp("commands")
    network().save(folder / "small.keras")
    write_data(folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert run(["export", "small.keras", "-o", "small.tflite"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    """In that folder, and with short measurements."""
    from litesmith import benchmarking
    from litesmith.study import engine

    monkeypatch.chdir(folder)
    short = functools.partial(benchmarking.benchmark, warmup=1, runs=3, repeats=1)
    monkeypatch.setattr(benchmarking, "benchmark", short)
    monkeypatch.setattr(engine, "benchmark", short)


def document(capfd):
    """Standard output as the one JSON document it must be."""
    out = capfd.readouterr().out
    return json.loads(out)


@pytest.mark.every_backend
def test_export(folder, capfd):
    options = ["--quantize", "int8", "--calibration", "npz:blobs.npz", "--io-dtype", "uint8"]
    options += ["--calibration-samples", "16", "--json"]
    assert run(["export", "small.keras", "-o", "int8.tflite", *options]) == 0
    told = document(capfd)
    assert told["path"] == "int8.tflite"
    assert told["quantize"] == "int8"
    assert told["inputs"][0]["dtype"] == "uint8"
    assert (folder / "int8.tflite").stat().st_size == told["size"]["file"]
    assert run(["export", "small.keras", "-o", "half.tflite", "--quantize", "float16"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("half.tflite: float16, ")
    assert err == "exporting small.keras as float16\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small.keras", "-o", "x.bin"], "-o: expected a path that ends in .tflite, received x.b"),
        (["small.keras", "-o", "x.tflite", "--quantize", "int9"], "did you mean 'int8'?"),
        (["small.keras", "-o", "x.tflite", "--quantize", "int8"], "add --calibration DATA"),
        (["small.keras", "-o", "x.tflite", "--io-dtype", "uint8"], "use quantize='int8'"),
        (["gone.keras", "-o", "x.tflite"], "gone.keras"),
    ],
)
def test_export_refuses(folder, arguments, message, capfd):
    assert run(["export", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err.splitlines()[-1]
    assert not (folder / "x.tflite").exists()


@pytest.mark.every_backend
def test_a_model_that_a_function_makes(folder, capfd):
    (folder / "mine.py").write_text(
        "import keras\ndef model():\n    return keras.saving.load_model('small.keras')\n"
    )
    assert run(["export", "mine.py:model", "-o", "mine.tflite"]) == 0
    assert (folder / "mine.tflite").read_bytes() == (folder / "small.tflite").read_bytes()
    assert run(["benchmark", "mine.py:model", "--json"]) == 0
    capfd.readouterr()
    assert run(["export", "mine.py:modal", "-o", "mine.tflite"]) == 2
    assert "did you mean 'model'" in capfd.readouterr().err


def test_evaluate(capfd):
    arguments = ["--data", "npz:blobs.npz", "--metric", "accuracy", "--metric", "loss"]
    assert (
        run(["evaluate", "small.tflite", *arguments, "--reference", "small.keras", "--json"]) == 0
    )
    told = document(capfd)
    assert (told["samples"], told["split"], told["agreement"]) == (45, "test", 1.0)
    assert set(told["metrics"]) == {"accuracy", "loss"}
    assert run(["evaluate", "small.keras", *arguments, "--split", "train", "--json"]) == 0
    assert document(capfd)["samples"] == 96
    assert run(["evaluate", "small.tflite", "--data", "npz:blobs.npz"]) == 0
    assert capfd.readouterr().out.startswith("accuracy  0.")
    assert run(["evaluate", "small.tflite", "--data", "npz:blobs.npz", "--metric", "acuracy"]) == 2
    assert "acuracy" in capfd.readouterr().err
    assert run(["evaluate", "small.tflite", "--data", "digitz"]) == 2
    assert "digits" in capfd.readouterr().err


def test_benchmark(folder, capfd):
    options = ["--runs", "3", "--repeats", "1", "--warmup", "1"]
    assert run(["benchmark", "small.tflite", *options, "--json"]) == 0
    told = document(capfd)
    assert told["latency_ms"]["p50"] > 0
    assert told["size"]["file"] == (folder / "small.tflite").stat().st_size
    assert run(["benchmark", "small.tflite", *options]) == 0
    out = capfd.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [
        "latency",
        "load",
        "memory",
        "size",
        "threads",
    ]
    (folder / "broken.tflite").write_bytes(b"\x00" * 64)
    assert run(["benchmark", "broken.tflite", *options]) == 2
    assert "broken.tflite" in capfd.readouterr().err


def test_compare(folder, capfd):
    models = ["small.tflite", "half.tflite"]
    run(["export", "small.keras", "-o", "half.tflite", "--quantize", "float16"])
    capfd.readouterr()
    data = ["--data", "npz:blobs.npz"]
    kept = ["--max-drop", "accuracy=1", "-o", "report.html", "--json"]
    assert run(["compare", *models, *data, *kept]) == 0
    told = document(capfd)
    assert told["baseline"] == "small"
    assert [row["name"] for row in told["variants"]] == ["small", "half"]
    changes = [row["changed"] for row in told["variants"]]
    assert changes[0] is None and changes[1]["of"] == 45 and changes[1]["total"] <= 2
    assert (folder / "report.html").stat().st_size > 1000
    assert run(["compare", *models, *data, "-o", "report.pdf"]) == 2
    assert "expected a path that ends in .html, .md, .json" in capfd.readouterr().err


def test_compare_shows_pictures_whose_answer_changed(folder, capfd):
    import keras

    model = keras.saving.load_model("small.keras")
    head = model.get_layer("head")
    head.set_weights([weight[..., ::-1] for weight in head.get_weights()])  # classes change places
    model.save("turned.keras")
    models = ["small.keras", "turned.keras"]
    options = ["--data", "npz:blobs.npz", "-o", "turned.html", "--json"]
    assert run(["compare", *models, *options]) == 0
    change = document(capfd)["variants"][1]["changed"]
    assert change["total"] > 5 and len(change["samples"]) == 6
    assert all(one["after"] == 2 - one["before"] for one in change["samples"])
    text = (folder / "turned.html").read_text()
    assert text.count("data:image/png;base64,") == 6
    assert f"{change['total']} of 45 answers changed" in text


def test_a_missed_threshold_is_exit_code_1(monkeypatch, capfd):
    from litesmith import evaluation

    original, scores = evaluation.evaluate, iter((0.9, 0.7))

    def evaluate(model, data, metrics, **options):
        result = original(model, data, metrics, **options)
        result.metrics["accuracy"] = next(scores)
        return result

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    shutil.copy("small.tflite", "copy.tflite")
    arguments = ["small.tflite", "copy.tflite", "--data", "npz:blobs.npz"]
    assert run(["compare", *arguments, "--max-drop", "accuracy=0.1"]) == 1
    assert "missed: copy loses" in capfd.readouterr().err


def test_inspect_keras(capfd):
    assert run(["inspect", "small.keras", "--json"]) == 0
    told = document(capfd)
    layers = {layer["path"]: layer for layer in told["layers"]}
    assert told["parameters"] == sum(layer["parameters"] for layer in layers.values())
    assert sum(layer["share"] for layer in layers.values()) == pytest.approx(1)
    (kernel,) = layers["head"]["kernels"]
    assert kernel["shape"] == [64, 3]
    assert {"prune", "cluster", "quantize"} <= set(kernel["techniques"])
    assert kernel["techniques"]["prune"] == {"can": "by default", "reason": ""}
    (kernel,) = layers["conv"]["kernels"]
    assert kernel["techniques"]["prune 2:4"]["can"] == "no"
    assert kernel["techniques"]["prune 2:4"]["reason"]
    assert layers["norm"]["kernels"] == []
    assert run(["inspect", "small.keras"]) == 0
    out = capfd.readouterr().out
    assert "by default" in out
    assert "no (1)" in out
    assert "[1] " in out


def test_inspect_says_what_is_taken_when_asked(folder, capfd):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((8, 8, 3)), layers.DepthwiseConv2D(3, name="deep")])
    model.save(folder / "deep.keras")
    assert run(["inspect", "deep.keras", "--json"]) == 0
    (kernel,) = document(capfd)["layers"][-1]["kernels"]
    assert kernel["techniques"]["prune"]["can"] == "when asked"


def test_inspect_tflite(folder, capfd):
    assert run(["inspect", "small.tflite", "--json"]) == 0
    told = document(capfd)
    assert told["file_bytes"] == (folder / "small.tflite").stat().st_size
    assert told["operators"]["CONV_2D"] == 1
    assert [tensor["bytes"] for tensor in told["tensors"]][0] == 64 * 3 * 4
    assert run(["inspect", "small.tflite"]) == 0
    assert "operators: " in capfd.readouterr().out
    assert run(["inspect", "."]) == 2
    assert "export it to a .tflite first" in capfd.readouterr().err
    (folder / "text.tflite").write_text("no model")
    assert run(["inspect", "text.tflite"]) == 2
    assert "text.tflite" in capfd.readouterr().err


def test_study(tmp_path, capfd):
    study, out = write_study(tmp_path, HALF, baseline=False), tmp_path / "out"
    assert run(["study", str(study), "-o", str(out), "--json"]) == 0
    shown, err = capfd.readouterr()
    assert json.loads(shown) == json.loads((out / "study.json").read_text())
    lines = err.splitlines()
    assert lines[0] == "2 variants of net.py:network"
    assert lines[-1].endswith("report.html")
    assert any(line.startswith("[2/2] half: done  accuracy ") for line in lines)

    assert run(["study", str(study), "-o", str(out)]) == 2
    assert "add --resume to go on with it" in capfd.readouterr().err
    assert run(["study", str(study), "-o", str(out), "--resume"]) == 0
    shown, err = capfd.readouterr()
    assert "[1/2] baseline: already done" in err
    assert "half" in shown
    assert shown.rstrip().endswith("report.html")


def test_a_failing_variant_is_exit_code_1(tmp_path, monkeypatch, capfd):
    from litesmith.errors import ExportError
    from litesmith.study import engine

    def export(*arguments, **options):
        raise ExportError("out of order")

    monkeypatch.setattr(engine, "export", export)
    study = write_study(tmp_path, "", baseline=False)
    assert run(["study", str(study), "-o", str(tmp_path / "out")]) == 1
    err = capfd.readouterr().err
    assert "error: variant 'baseline' failed: out of order" in err.splitlines()


def test_an_interrupted_study_says_how_to_go_on(tmp_path, monkeypatch, capfd):
    from litesmith.study import engine

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "convert", interrupt)
    study = write_study(tmp_path, "", baseline=False)
    assert run(["study", str(study), "-o", "there"]) == 130
    last = capfd.readouterr().err.splitlines()[-1]
    assert last == f"interrupted; go on with: litesmith study {study} -o there --resume"


def test_a_wrong_study_is_exit_code_2_and_writes_nothing(tmp_path, capfd):
    study = write_study(tmp_path, HALF.replace("quantize", "quantise"))
    assert run(["study", str(study), "-o", str(tmp_path / "out")]) == 2
    err = capfd.readouterr().err
    assert err == (
        "error: study.toml: variant 'half': quantise: expected fields it has, received quantise; "
        "did you mean 'quantize'?\n"
    )
    assert not (tmp_path / "out").exists()
