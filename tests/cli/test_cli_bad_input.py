"""Bad input: exit code 2, one line (expected, received, what to do), nothing left behind.

The cases are those of `benchmarks/bad_input.py`, which gives all of them to fresh processes; here
a part of them runs in this process.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from benchmarks import bad_input, bad_input_cases, bad_input_files

import litesmith as ls
from litesmith.cli import run
from litesmith.errors import InputError
from litesmith.study import Study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    bad_input_files.make(folder)
    return folder


def check(folder, cases, capfd):
    """Run the commands; the faults of all of them together."""
    found = {}
    for case in cases:
        before = bad_input.tree(folder)
        capfd.readouterr()
        code = run(list(case.arguments))
        out, err = capfd.readouterr()
        after = bad_input.tree(folder)
        changed = sorted({path for path, _ in set(before.items()) ^ set(after.items())})
        if faults := bad_input.faults(case, code, out, err, changed):
            found[case.name] = [*faults, err.splitlines()[-1:]]
    assert found == {}


def cases_of(folder, group, *, command=None):
    chosen = [case for case in group(folder) if command in (None, case.name.split(": ")[-1])]
    assert len(chosen) > 5
    return chosen


@pytest.mark.parametrize("command", ["inspect", "study"])
def test_models(folder, capfd, command):
    check(folder, cases_of(folder, bad_input_cases._models, command=command), capfd)


def test_finished_models(folder, capfd):
    cases = cases_of(folder, bad_input_cases._models)
    commands = ("export", "evaluate", "benchmark")
    chosen = [case for case in cases if ".tflite: " in case.name and case.arguments[0] in commands]
    assert len(chosen) > 20
    check(folder, chosen, capfd)


def test_data(folder, capfd):
    cases = cases_of(folder, bad_input_cases._datasets)
    check(folder, [case for case in cases if case.arguments[0] in ("evaluate", "study")], capfd)


def test_calibration_data(folder, capfd):
    check(folder, cases_of(folder, bad_input_cases._datasets, command="export int8"), capfd)


def test_settings(folder, capfd):
    check(folder, cases_of(folder, bad_input_cases._settings), capfd)


def test_outputs(folder, capfd):
    cases = [case for case in cases_of(folder, bad_input_cases._outputs) if not case.plain]
    check(folder, cases, capfd)


NAN = np.full((4, 6, 6, 1), np.nan, np.float32)
GOOD = np.zeros((4, 6, 6, 1), np.float32)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "call",
    [
        lambda model, path: ls.export(model, path / "x.tflite", quantize="int9"),
        lambda model, path: ls.export(model, path / "x.tflite", quantize="int8"),
        lambda model, path: ls.export(model, path / "x.bin"),
        lambda model, path: ls.calibrate(ls.convert(model), np.zeros((4, 6, 8, 1), np.float32)),
        lambda model, path: ls.calibrate(ls.convert(model), NAN),
        lambda model, path: ls.calibrate(ls.convert(model), GOOD[:0]),
        lambda model, path: ls.evaluate(model, (GOOD, np.array([0, 1, 2, 3]))),
        lambda model, path: ls.evaluate(model, (GOOD, np.array([0, 1, 2, -1]))),
        lambda model, path: ls.evaluate(model, (NAN, np.zeros(4, int))),
        lambda model, path: ls.evaluate(model, (GOOD[:, :, :3], np.zeros(4, int))),
        lambda model, path: ls.evaluate(model, (GOOD[:0], np.zeros(0, int))),
        lambda model, path: ls.evaluate(path / "gone.tflite", (GOOD, np.zeros(4, int))),
        lambda model, path: ls.benchmark(path / "gone.tflite"),
        lambda model, path: ls.Prune(sparsity=1.5),
        lambda model, path: ls.Prune(sparsity=-0.1),
        lambda model, path: ls.Prune(sparsity="80"),
        lambda model, path: ls.NOfM(3, 2),
        lambda model, path: ls.prepare(model, ls.Recipe(ls.Prune(where="hed", sparsity=0.5))),
        lambda model, path: ls.Recipe.from_dict([{"technique": "prun"}]),
        lambda model, path: ls.Recipe.from_dict([{"technique": "prune", "sparcity": 0.5}]),
        lambda model, path: ls.data.load("digitz"),
        lambda model, path: ls.data.load("nzp:data.npz"),
        lambda model, path: ls.models.load(path / "gone.keras"),
        lambda model, path: Study.load(path / "gone.toml"),
        lambda model, path: Study.parse("[model", "study.toml", path),
    ],
)
def test_in_python(call, tmp_path):
    model = bad_input_files.network()
    with pytest.raises(InputError) as caught:
        call(model, tmp_path)
    assert re.fullmatch(r".*expected .+, received .+; .+", str(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.every_backend
def test_a_model_in_hand_with_a_weight_that_is_not_finite(tmp_path):
    model = bad_input_files.network()
    head = model.get_layer("head").bias
    head.assign([0.0, np.nan, 0.0])
    labels = np.zeros(4, int)
    for call in (
        lambda: ls.export(model, tmp_path / "x.tflite"),
        lambda: ls.evaluate(model, (GOOD, labels)),
        lambda: ls.benchmark(model),
    ):
        with pytest.raises(InputError, match="head/bias.*expected finite numbers, received .*; "):
            call()
    assert list(tmp_path.iterdir()) == []
