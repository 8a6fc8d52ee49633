"""The study's folder: what is trusted when a study resumes, and who may write."""

from __future__ import annotations

import contextlib
import json
import sys

import pytest

from litesmith import files
from litesmith.comparison.results import StudyResult, VariantResult
from litesmith.errors import OutputError, StudyError
from litesmith.study.store import Store, derived_seed, fingerprint


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out", resume=True)


def save(store, **changes):
    path = store.variant("half") / "model.tflite"
    path.write_bytes(b"model")
    fields = {
        "name": "half",
        "artifact": store.relative(path),
        "sha256": files.sha256(path),
        "metrics": {"accuracy": 0.5},
        **changes,
    }
    result = VariantResult(**fields)
    store.save_variant(result, "mark")
    return path


def test_a_whole_result_is_finished(store):
    save(store)
    found = store.finished("half", "mark")
    assert found is not None
    assert found.artifact == "variants/half/model.tflite"


def test_without_resume_nothing_is_finished(store):
    save(store)
    assert Store(store.folder).finished("half", "mark") is None


@pytest.mark.parametrize("damage", ["fingerprint", "artifact", "gone", "torn", "list", "failed"])
def test_anything_less_is_made_again(store, damage):
    path = save(store, **({"status": "failed"} if damage == "failed" else {}))
    result = path.parent / "result.json"
    if damage == "artifact":
        path.write_bytes(b"other")
    elif damage == "gone":
        path.unlink()
    elif damage == "torn":
        result.write_text(result.read_text()[:-40])
    elif damage == "list":
        result.write_text("[]")
    expected = "another" if damage == "fingerprint" else "mark"
    assert store.finished("half", expected) is None


def test_a_forgotten_result_is_gone(store):
    save(store)
    store.forget_variant("half")
    store.forget_variant("never-there")
    assert store.finished("half", "mark") is None


def test_json_stays_json(store):
    store.write_json(store.folder / "x.json", {"loss": [1.5, float("nan"), float("inf")]})
    text = (store.folder / "x.json").read_text()
    assert json.loads(text) == {"loss": [1.5, None, None]}
    assert "NaN" not in text


def test_a_folder_with_a_study_wants_resume(store):
    with store.opened():
        store.save(StudyResult(schema=1))
    with pytest.raises(StudyError, match="already holds a study; add --resume"):
        Store(store.folder).check()
    store.check()


def test_other_files_are_in_nobodys_way(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    Store(tmp_path).check()


def test_output_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="output: expected a folder, received .*a file"):
        Store(tmp_path / "file").check()
    with pytest.raises(OutputError, match="a place that can be written, received not a directory"):
        Store(tmp_path / "file/x").check()
    with pytest.raises(OutputError, match="received not a directory"):
        with Store(tmp_path / "file/x").opened():
            pass


def test_one_study_at_a_time(store):
    with store.opened():
        with (
            pytest.raises(StudyError, match="in use by another study; wait for it"),
            Store(store.folder, resume=True).opened(),
        ):
            pass
    with store.opened():
        pass


def test_without_fcntl_a_file_is_the_lock(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with store.opened():
        with (
            pytest.raises(
                StudyError, match=r"in use by another study; .* or delete .*\.lock if none"
            ),
            Store(store.folder, resume=True).opened(),
        ):
            pass
    with store.opened():
        pass


def test_what_a_killed_study_left_half_written_is_removed(store):
    folder = store.variant("half")
    with contextlib.ExitStack() as killed:  # before the neighbours are moved or removed
        for name in ("model.tflite", "model.tflite.json", "stripped.keras", "result.json"):
            killed.enter_context(files.atomic(folder / name))
        temporary = killed.enter_context(files.atomic(store.folder / "study.json"))
        assert temporary.exists()
        (folder / ".mine-12345678.txt").write_text("kept")
        (folder / "model.tflite").write_bytes(b"kept")
        with store.opened():
            assert not temporary.exists()
            assert {path.name for path in folder.iterdir()} == {
                ".mine-12345678.txt",
                "model.tflite",
            }
        killed.pop_all()


def test_log_lines_carry_the_time(store):
    with store.opened():
        store.log("one\ntwo")
    lines = (store.folder / "study.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["one", "two"]
    assert all(line[:2] == "20" and line.split(" ")[0].endswith("Z") for line in lines)


def test_fingerprints_and_seeds():
    assert fingerprint(a=1, b={"x": 1, "y": 2}) == fingerprint(b={"y": 2, "x": 1}, a=1)
    assert fingerprint(a=1) != fingerprint(a=2)
    seeds = {derived_seed(seed, name) for seed in (0, 1) for name in ("int8", "float16")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derived_seed(0, "int8") == derived_seed(0, "int8")


def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path):
    store = Store(tmp_path / "new" / "out")
    with pytest.raises(OutputError, match="free some space"):
        with store.opened():
            store.log("begun")
            (store.variant("half") / "model.tflite").write_bytes(b"model")
            raise files.unwritable(store.folder / "study.json", OSError(28, "No space left"))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_later_leaves_what_is_finished(store):
    with pytest.raises(OutputError, match="no space left; .* --resume goes on with it") as caught:
        with store.opened():
            save(store)
            raise files.unwritable(store.folder / "study.json", OSError(28, "No space left"))
    assert str(caught.value).startswith(f"{store.folder}: expected room for the study's files")
    with store.opened():
        assert store.finished("half", "mark") is not None


def test_a_folder_that_was_there_is_not_emptied(store):
    store.folder.mkdir()
    (store.folder / "study.json").write_text("{}")
    with pytest.raises(OutputError):
        with store.opened():
            raise files.unwritable(store.folder / "study.json", OSError(28, "No space left"))
    assert (store.folder / "study.json").read_text() == "{}"


def test_a_log_that_cannot_be_written(store):
    with store.opened():
        (store.folder / "study.log").mkdir()
        with pytest.raises(OutputError, match="study.log: expected a place that can be written"):
            store.log("text")
