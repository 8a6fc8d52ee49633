"""Sparsity of a study's variant: among the kernels that pruning took, not their namesakes."""

from types import SimpleNamespace

from litesmith.report import Entry, Report
from litesmith.study import measure


def kernel(layer, zeros):
    return SimpleNamespace(
        layer=layer,
        variable="d/kernel",
        tensor=f"{layer}/MatMul",
        dtype="float32",
        size=100,
        zeros=zeros,
        unique=90,
        bytes=400,
    )


def test_namesakes_in_two_encoders_are_told_apart():
    report = Report((Entry("a/d", "Dense", "d/kernel", "prune", "done"),))
    rows = measure.layers([kernel("a/d", 50), kernel("b/d", 0)], report)
    assert [row.pruned for row in rows] == [True, False]
    assert measure.sparsity(rows) == 0.5


def test_without_pruning_all_kernels_count():
    rows = measure.layers([kernel("a/d", 50), kernel("b/d", 0)], None)
    assert measure.sparsity(rows) == 0.25
