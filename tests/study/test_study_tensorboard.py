"""`tensorboard = true`: event files of each variant that trains."""

import sys

import pytest

from litesmith.errors import InputError
from litesmith.study import Study, plan, run
from tests.core.test_summaries import points

from .small import INT8, PRUNED, write_study

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def asked(folder):
    path = write_study(folder, PRUNED + INT8)
    path.write_text("tensorboard = true\n" + path.read_text())
    return path


def test_a_study_writes_event_files(tmp_path, unexported):
    run(asked(tmp_path), tmp_path / "out")
    logs = tmp_path / "out/variants/pruned/tensorboard"
    found = points(logs)
    conv, head = (found[f"litesmith/{layer}/kernel/sparsity"] for layer in ("conv", "head"))
    assert [step for step, _ in conv] == [step for step, _ in head] == [0, 1]
    assert 36 * conv[-1][1] + 192 * head[-1][1] == pytest.approx(114)  # ranked over the model
    assert len(found["epoch/val_accuracy"]) == len(found["epoch/loss"]) == 2
    assert not (tmp_path / "out/variants/int8/tensorboard").exists()  # nothing is trained
    # The variant failed, since nothing is exported here: it is made again, with a new file.
    run(asked(tmp_path), tmp_path / "out", resume=True)
    assert len(list(logs.iterdir())) == 1
    assert len(points(logs)["epoch/loss"]) == 2


def test_without_being_asked_there_are_none(tmp_path, unexported):
    run(write_study(tmp_path, PRUNED), tmp_path / "out")
    assert not list(tmp_path.glob("out/variants/*/tensorboard"))


def test_tensorboard_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(InputError, match=r'pip install "litesmith\[tensorboard\]"'):
        plan.make_plan(Study.load(asked(tmp_path)))
