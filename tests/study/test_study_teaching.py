from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from litesmith.data import Dataset, Split
from litesmith.errors import StudyError
from litesmith.study import Study, run, teaching
from litesmith.study.losses import Head
from tests.study.small import write_study

HALF = """
[[variant]]
name = "half"
recipe = [{ technique = "prune", sparsity = 0.5 }]
"""


@pytest.mark.parametrize(
    ("head", "labels", "answers", "wanted"),
    [
        (Head("a", "softmax", (3,)), [2, 0], [[0.2, 0.2, 0.6], [1, 0, 0]], "mix"),
        (Head("a", "softmax", (3,)), [[2], [0]], [[0.2, 0.2, 0.6], [1, 0, 0]], "mix"),
        (Head("a", "linear", (3,)), [2, 0], np.log([[0.2, 0.2, 0.6], [1, 1e-9, 1e-9]]), "mix"),
        (Head("a", "sigmoid", (1,)), [1, 0], [[0.5], [0.1]], [[0.75], [0.05]]),
        (Head("a", "linear", (1,)), [1, 0], [[0.0], [0.0]], [[0.75], [0.25]]),
        (Head("a", "linear", (1,)), [1.5, 0.2], [[0.5], [0.4]], [[1.0], [0.3]]),
        (Head("a", "linear", (2,)), [[1.5, 3.0]], [[0.5, 1.0]], [[1.0, 2.0]]),
    ],
)
def test_targets_are_half_label_half_teacher(head, labels, answers, wanted):
    if wanted == "mix":
        wanted = [[0.1, 0.1, 0.8], [1, 0, 0]]
    found = teaching.targets(np.array(labels), head, np.array(answers), 0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    plain = teaching.targets(np.array(labels), head, None, 0.0)
    assert plain.shape == found.shape


def test_a_lesson_changes_labels_only_and_its_loss_takes_them():
    rng = np.random.default_rng(0)
    splits = [Split(rng.random((8, 4)), np.arange(8) % 3) for _ in range(3)]
    data = Dataset("it", *splits)
    answers = rng.dirichlet(np.ones(3), 8)
    head = Head("a", "softmax", (3,))
    taught, loss = teaching.lesson(data, head, answers, "sparse_categorical_crossentropy", 0.5)
    assert taught.train.x is data.train.x and taught.test is data.test
    assert isinstance(loss, keras.losses.CategoricalCrossentropy)
    # The validation labels stay labels.
    np.testing.assert_array_equal(taught.validation.y, np.eye(3)[np.arange(8) % 3])
    # Cross-entropy is linear in its target: the loss is the mean of both.
    guess = rng.dirichlet(np.ones(3), 8).astype("float32")
    both = [float(loss(y, guess)) for y in (np.eye(3)[data.train.y], answers)]
    assert float(loss(taught.train.y, guess)) == pytest.approx(np.mean(both), rel=1e-5)


def test_the_baseline_teaches_unless_told_not_to(tmp_path, quick):
    study = write_study(tmp_path, HALF)
    assert Study.load(study).fine_tuning(Study.load(study).variants[1]).distill is True
    run(study, tmp_path / "taught")
    run(write_study(tmp_path, HALF + "distill = false\n"), tmp_path / "alone")
    files, losses = set(), []
    for name in ("taught", "alone"):
        rows = json.loads((tmp_path / name / "study.json").read_text())["variants"]
        assert [row["status"] for row in rows] == ["done", "done"]
        files.add(rows[1]["sha256"])
        history = json.loads((tmp_path / name / "variants/half/history.json").read_text())
        losses.append(history["val_loss"])
    assert len(files) == 2
    assert np.isfinite(losses).all()


def test_answers_that_would_take_too_much_memory_are_done_without(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(teaching, "_MOST_BYTES", 96 * 3 * 4 - 1)
    result = run(write_study(tmp_path, HALF), tmp_path / "out")
    assert result.variants[1].status == "done"
    assert any("not distilled" in note for note in result.variants[1].notes)


def test_a_baseline_has_no_teacher(tmp_path):
    path = write_study(tmp_path, HALF)
    path.write_text(path.read_text().replace("[baseline]", "[baseline]\ndistill = true"))
    with pytest.raises(StudyError, match="the baseline is the teacher"):
        Study.load(path)
