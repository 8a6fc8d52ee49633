"""Files that cannot be written: what is said, and that nothing is left."""

from __future__ import annotations

import errno
import os

import pytest

from litesmith import files
from litesmith.errors import InputError, ModelError, OutputError


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_neither_file_nor_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", full)
    path = tmp_path / "new" / "deep" / "file.txt"
    with pytest.raises(OutputError, match="received no space left on device; free some") as caught:
        files.write_text(path, "text")
    assert str(caught.value).startswith(f"{path}: expected a place that can be written")
    assert isinstance(caught.value, (InputError, OSError))
    assert list(tmp_path.iterdir()) == []


def test_folders_that_others_use_meanwhile_stay(tmp_path, monkeypatch):
    path = tmp_path / "new" / "deep" / "file.txt"

    def full_and_used(*arguments):
        (path.parents[1] / "mine").write_text("")
        full()

    monkeypatch.setattr(files.os, "fsync", full_and_used)
    with pytest.raises(OutputError):
        files.write_text(path, "text")
    assert {each.name for each in tmp_path.rglob("*")} == {"new", "mine"}


def test_several_files_or_none(tmp_path, monkeypatch):
    real = os.fsync
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError):
        files.write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"old")]
    monkeypatch.setattr(files.os, "fsync", real)
    files.write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_what_hdf5_says_of_a_full_disk(tmp_path):
    error = OSError("Can't write data (file write failed: errno = 28, error message = 'No space')")
    told = str(files.unwritable(tmp_path, error))
    assert told.endswith("received no space left on device; free some space, or name another place")


def test_outputs_are_looked_at_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    files.check_writable(tmp_path / "new" / "deep" / "out.tflite")
    assert not (tmp_path / "new").exists()
    with pytest.raises(OutputError, match="expected the path of a file, received a folder"):
        files.check_writable(tmp_path)
    with pytest.raises(OutputError, match="received not a directory"):
        files.check_writable(tmp_path / "file" / "out.tflite")


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda *arguments: False)  # root may write anywhere
    with pytest.raises(OutputError, match="received permission denied; name another place"):
        files.check_folder(tmp_path / "out")


def test_a_model_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="expected a model file, received no such file"):
        files.read_model(tmp_path / "gone.tflite")
