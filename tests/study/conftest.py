"""What several tests of studies share."""

from __future__ import annotations

import functools

import pytest

from litesmith.errors import ExportError

from .small import INT8, PRUNED, write_study


class Speed:
    """What a benchmark says, without the seconds it takes."""

    latency_ms = {"p50": 1.0, "p95": 2.0}
    load_ms = 3.0
    memory = {"peak_rss": 4, "arena": 5}
    size = {"file": 6, "zip": 5, "entropy": 4}


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """One study in full, looked at by several tests: its folder, its result, what it told."""
    from litesmith.study import engine

    folder, told = tmp_path_factory.mktemp("whole"), []
    with pytest.MonkeyPatch.context() as patch:
        short = functools.partial(engine.benchmark, warmup=1, runs=3, repeats=1)
        patch.setattr(engine, "benchmark", short)
        study = write_study(folder, INT8 + PRUNED)
        result = engine.run(study, folder / "out", progress=told.append)
    return folder / "out", result, told


@pytest.fixture
def quick(monkeypatch):
    """Nothing is measured."""
    from litesmith.study import engine

    monkeypatch.setattr(engine, "benchmark", lambda artifact: Speed)


@pytest.fixture
def unexported(monkeypatch):
    """Nothing is converted either: for tests of what a study does before that."""
    from litesmith.study import engine

    def convert(model):
        raise ExportError("not in this test")

    monkeypatch.setattr(engine, "convert", convert)
