"""The engine: a study from its file to its report, also when it is stopped, or a variant fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from litesmith import files
from litesmith.errors import ExportError, InputError, ModelError, OutputError, StudyError
from litesmith.study import Study, engine, plan, run

from .small import HALF, INT8, PRUNED, write_study


def events(kind, told):
    return [event.name for event in told if event.kind == kind]


@pytest.mark.every_backend
def test_a_whole_study(whole):
    out, result, told = whole
    assert [variant.name for variant in result.variants] == ["baseline", "int8", "pruned"]
    assert [variant.status for variant in result.variants] == ["done"] * 3
    assert events("done", told) == ["baseline", "int8", "pruned"]
    assert [event.number for event in told if event.kind == "epoch"][:5] == [1, 2, 3, 4, 1]

    content = json.loads((out / "study.json").read_text())
    assert content["schema"] == 1
    assert content["machine"]["cores"] >= 1
    assert content["model"]["parameters"] > 100
    assert content["data"]["sizes"] == {"train": 96, "validation": 30, "test": 45}
    baseline, int8, pruned = content["variants"]
    for row in (baseline, int8, pruned):
        assert row["metrics"]["accuracy"] > 0.9
        assert row["agreement"] > 0.9
        assert row["size"]["file"] == (out / row["artifact"]).stat().st_size
        assert row["latency_ms"]["p50"] > 0
        assert row["error"] is None
        assert json.loads((out / "variants" / row["name"] / "result.json").read_text())
    assert baseline["agreement"] == 1.0
    assert baseline["keras_metrics"] == baseline["metrics"]
    for row in (baseline, int8, pruned):
        assert list(row["seconds"]) == ["prepare", "fit", "export", "evaluate", "benchmark"]
        trained = row["name"] == "pruned"
        assert (row["seconds"]["fit"] > 0, row["seconds"]["prepare"] > 0) == (trained, trained)
    # What the first two share is not charged to the one that came first.
    assert all(content["seconds"][each] > 0 for each in ("baseline", "convert", "calibrate"))
    # Half of 36 + half of 192 weights, to one weight; the biases do not count.
    assert pruned["sparsity"] == pytest.approx(114 / 228)
    assert [layer["pruned"] for layer in pruned["layers"]] == [True, True]
    assert int8["unique_weights"] <= 255
    assert baseline["changed"] is None
    for row in (int8, pruned):  # samples whose answer changed are counted, pictures of some shown
        told_of = row["changed"]
        assert 0 <= told_of["worse"] + told_of["better"] <= told_of["total"] <= 45
        difference = (row["metrics"]["accuracy"] - baseline["metrics"]["accuracy"]) * 45
        assert round(difference) == told_of["better"] - told_of["worse"]
        assert len(told_of["samples"]) == min(6, told_of["total"])
    for name in ("report.html", "report.md", "study.log", "study.toml", "baseline.keras"):
        assert (out / name).stat().st_size > 0
    for name in ("model.tflite", "model.tflite.json", "stripped.keras", "history.json"):
        assert (out / "variants/pruned" / name).stat().st_size > 0


@pytest.mark.every_backend
def test_order_and_interruption_change_nothing(tmp_path, whole, quick, request):
    out = tmp_path / "out"
    study = write_study(tmp_path, PRUNED + INT8)
    script = (
        "import os, signal, sys\n"
        "from litesmith.study import engine, run\n"
        "from tests.study.conftest import Speed\n"
        "engine.benchmark = lambda artifact: Speed\n"
        "def tell(event):\n"
        "    if (event.kind, event.name) == ('variant', 'pruned'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "run(sys.argv[1], sys.argv[2], progress=tell)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(study), str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    content = json.loads((out / "study.json").read_text())
    assert [row["name"] for row in content["variants"]] == ["baseline"]
    with pytest.raises(StudyError, match="already holds a study; add --resume"):
        run(study, out)

    told = []
    resumed = run(study, out, resume=True, progress=told.append)
    assert events("reused", told) == ["baseline"]
    assert events("done", told) == ["pruned", "int8"]
    assert not any(event.kind == "epoch" and event.name == "baseline" for event in told)
    files = {variant.name: variant.sha256 for variant in resumed.variants}
    assert files == {variant.name: variant.sha256 for variant in whole[1].variants}

    told.clear()
    again = run(study, out, resume=True, progress=told.append)
    assert events("reused", told) == ["baseline", "pruned", "int8"]
    assert again.variants == resumed.variants

    # Other settings are not what was asked for: made again.
    changed = INT8.replace('quantize = "int8"', 'quantize = "float16"')
    told.clear()
    request.getfixturevalue("unexported")
    run(write_study(tmp_path, PRUNED + changed), out, resume=True, progress=told.append)
    assert events("failed", told) == ["int8"]
    assert events("reused", told) == ["baseline", "pruned"]


def count_calls(monkeypatch, *names):
    calls = []
    for name in names:
        original = getattr(engine, name)
        monkeypatch.setattr(
            engine,
            name,
            lambda *args, _name=name, _original=original, **more: (
                calls.append(_name) or _original(*args, **more)
            ),
        )
    return calls


def test_a_failing_variant_does_not_end_the_others(tmp_path, quick, monkeypatch):
    original = engine.export

    def export(model, path, **options):
        if options["quantize"] == "float16":
            raise ExportError("the converter is out of order")
        if options["quantize"] == "int8":
            raise ZeroDivisionError("oh\nno")
        return original(model, path, **options)

    monkeypatch.setattr(engine, "export", export)
    calls = count_calls(monkeypatch, "convert", "calibrate")
    edges = '[[variant]]\nname = "edges"\nquantize = "int8_float_io"\n'
    study = write_study(tmp_path, HALF + INT8 + edges, baseline=False)
    out = tmp_path / "out"
    result = run(study, out)
    assert [variant.status for variant in result.variants] == ["done", "failed", "failed", "done"]
    assert calls == ["convert", "calibrate"]  # one of each serves all
    half, int8 = result.variants[1:3]
    assert half.error == "the converter is out of order"
    assert int8.error == "ZeroDivisionError: oh"
    assert half.artifact is None
    assert "Traceback" in (out / "study.log").read_text()
    assert (out / "report.html").exists()

    monkeypatch.setattr(engine, "export", original)
    told = []
    again = run(study, out, resume=True, progress=told.append)
    assert {variant.status for variant in again.variants} == {"done"}
    assert events("done", told) == ["half", "int8"]


def test_diverging_is_failing(tmp_path, unexported):
    hot = PRUNED + "fine_tune = { learning_rate = 1e30, optimizer = 'sgd' }\n"
    result = run(write_study(tmp_path, hot, baseline=False), tmp_path / "out")
    pruned = result.variants[1]
    assert pruned.status == "failed"
    assert "training diverged" in str(pruned.error)


def test_a_trained_model_is_taken_as_it_is(tmp_path, quick):
    study = write_study(tmp_path, "", baseline=False)
    (tmp_path / "net.py").write_text(
        "import keras\n\n"
        "def network():\n"
        "    dense = keras.layers.Dense(3, activation='softmax')\n"
        "    return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), dense])\n"
    )
    result = run(study, tmp_path / "out")
    assert [(row.status, row.agreement) for row in result.variants] == [("done", 1.0)]
    assert result.model["trained"] == "as given"
    assert not (tmp_path / "out/baseline.keras").exists()


def test_a_study_made_in_python(tmp_path, quick, monkeypatch):
    write_study(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    study = Study.from_dict(
        {
            "model": {"source": "net.py:network", "metrics": ["accuracy", "loss"]},
            "data": {"source": "npz:blobs.npz"},
            "variant": [
                {
                    "name": "pruned",
                    "recipe": [{"technique": "prune", "sparsity": 0.5}],
                    "fine_tune": {"epochs": 0},  # a recipe may go without training
                }
            ],
        }
    )
    result = run(study, tmp_path / "out")
    pruned = result.variants[1]
    assert (pruned.status, pruned.error) == ("done", None)
    assert pruned.sparsity == pytest.approx(0.5)
    assert (pruned.seconds["fit"], pruned.seconds["prepare"] > 0) == (0.0, True)
    assert set(result.variants[0].metrics) == {"accuracy", "loss"}
    assert not (tmp_path / "out/study.toml").exists()


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (HALF.replace("float16", "float8"), "variant 'half': quantize"),
        (PRUNED.replace('prune"', 'prun"'), "variant 'pruned': technique"),
        (PRUNED.replace("0.5", "1.5"), "variant 'pruned': prune: sparsity"),
        (
            PRUNED.replace("sparsity = 0.5", "sparsity = 0.5, where = 'nowhere'"),
            "where matches no layer",
        ),
        (
            '[[variant]]\nname = "w"\nquantize = "weight_int4"\n'
            'recipe = [{ technique = "quantize", activations = "none" }]\n',
            "expected 'weight_int8' for a model trained with 8-bit weights",
        ),
        (PRUNED + "fine_tune = { optimizer = 'adan' }\n", "did you mean 'adam'?"),
        (
            PRUNED + "fine_tune = { learning_rate = [1e-3, 1e-4] }\n",
            "variant 'pruned': learning_rate: expected as many as stages of epochs (1: epochs = 2)",
        ),
    ],
)
def test_wrong_variants_are_found_before_anything_is_written(tmp_path, variants, message):
    told = []
    with pytest.raises(ValueError) as caught:
        run(write_study(tmp_path, variants), tmp_path / "out", progress=told.append)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert told == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("net.py:network", "net.py:netwrk", "netwrk"),
        ("npz:blobs.npz", "npz:blob.npz", "blob.npz"),
        ("npz:blobs.npz", "digits", "the data does not fit the model"),
        ("[data]", 'loss = "crossentropy"\n[data]', "[model] loss: expected"),
        ("[data]", 'metrics = ["acuracy"]\n[data]', "acuracy"),
        (
            "[fine_tune]\nepochs = 2",
            "[fine_tune]\nlearning_rate = [1, 2]",
            "[fine_tune]: learning_ra",
        ),
        (
            "epochs = 4\nlearning_rate = 1e-2",
            "learning_rate = [1, 2, 3]",
            "[baseline]: learning_rate",
        ),
        ("batch_size = 16\n[fine", "optimizer = 'nadamm'\n[fine", "[baseline]: optimizer"),
    ],
)
def test_wrong_sources_are_found_before_anything_is_written(tmp_path, old, new, message):
    path = write_study(tmp_path, "")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError) as caught:
        run(path, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


NETWORK = """
import keras
from keras import layers

class Net(keras.Model):
    def __init__(self, units):
        super().__init__(name="net")
        self.flat, self.dense = layers.Flatten(), layers.Dense(units)

    def call(self, x):
        return self.dense(self.flat(x))

def network():
    image = keras.Input((6, 6, 1))
    return {network}
"""
OWN = "Net(3)"
REGRESSION = "keras.Sequential([image, layers.Flatten(), layers.Dense(1)])"
TWO = "keras.Model(image, [layers.Dense(3, name=name)(layers.Flatten()(image)) for name in 'ab'])"


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (None, 'loss = "categorical_crossentropy"', "[model] loss: expected one that takes labels"),
        (None, 'metrics = ["Precision"]', "[model] metrics: metric 'Precision' failed on labels"),
        (REGRESSION, "", "[model] metrics: labels: expected classes, for the metric 'accuracy'"),
        (TWO, "", "expected a model with one output, received 2 outputs: a, b"),
        (OWN, "", "model 'net' cannot be saved: expected a model that its own get_config()"),
    ],
)
def test_what_would_fail_later_is_found_before_anything_is_written(
    tmp_path, network, settings, message
):
    path = write_study(tmp_path, "")
    path.write_text(path.read_text().replace("[data]", f"{settings}\n[data]"))
    if network is not None:
        code = NETWORK.replace("{network}", network)
        if network == OWN:
            code = code.replace("return Net", "net = Net") + "    net(image)\n    return net\n"
        (tmp_path / "net.py").write_text(code)
    with pytest.raises(InputError) as caught:
        run(path, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_copied_is_found_before_anything_is_written(tmp_path):
    path = write_study(tmp_path, PRUNED, baseline=False)
    code = NETWORK.replace("return {network}", "net = Net(3)\n    net(image)\n    return net")
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(ModelError, match="model 'net' cannot be copied"):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_are_not_refused_for_a_class_the_few_samples_lack(tmp_path, monkeypatch):
    path = write_study(tmp_path, "")
    path.write_text(path.read_text().replace("[data]", 'metrics = ["auc", "top2"]\n[data]'))
    monkeypatch.setattr(plan, "_LOOK", 1)
    assert plan.make_plan(Study.load(path)).jobs


def test_labels_beyond_the_outputs(tmp_path):
    path = write_study(tmp_path, "")
    (tmp_path / "net.py").write_text(
        (tmp_path / "net.py").read_text().replace("import network", "import network as whole")
        + "def network():\n    import keras\n    model = whole()\n"
        "    return keras.Model(model.input, model.output[:, :2])\n"
    )
    with pytest.raises(StudyError, match="class numbers from 0 to 1"):
        run(path, tmp_path / "out")


def test_two_studies_in_one_folder(tmp_path, unexported):
    out = tmp_path / "out"
    study = write_study(tmp_path, "", baseline=False)
    refused = []

    def tell(event):
        if event.kind == "variant":
            with pytest.raises(StudyError, match="in use by another study"):
                run(study, out, resume=True)
            refused.append(event.name)

    run(study, out, progress=tell)
    assert refused == ["baseline"]


def test_paths_start_from_the_study_file(tmp_path, unexported, monkeypatch):
    study = write_study(tmp_path, "", baseline=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run(study, Path("out"))
    assert (elsewhere / "out/study.json").exists()


def test_a_full_disk_ends_the_study_and_resume_goes_on(tmp_path, quick, monkeypatch):
    study, out = write_study(tmp_path, HALF + INT8, baseline=False), tmp_path / "out"
    original = engine.export

    def export(model, path, **options):
        if options["quantize"] == "float16":
            raise files.unwritable(path, OSError(28, "No space left on device"))
        return original(model, path, **options)

    monkeypatch.setattr(engine, "export", export)
    told = []
    with pytest.raises(OutputError, match="what is finished stays, --resume goes on with it"):
        run(study, out, progress=told.append)
    assert events("failed", told) == []  # a full disk is no fault of the variant
    assert events("variant", told) == ["baseline", "half"]
    monkeypatch.setattr(engine, "export", original)
    told.clear()
    result = run(study, out, resume=True, progress=told.append)
    assert events("reused", told) == ["baseline"]
    assert {variant.status for variant in result.variants} == {"done"}
