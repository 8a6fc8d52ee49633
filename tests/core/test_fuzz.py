"""Damaged files: everything that reads one ends in a result or in one line of ours.

`benchmarks/fuzz.py` does this with a thousand files of each kind.
"""

from __future__ import annotations

import pytest
from benchmarks import fuzzing

from tests.evaluation import handmade

FILES = {"tflite": 60, "keras": 12, "study": 60}  # a model takes seconds to load


@pytest.fixture(scope="module")
def children():
    with fuzzing.reused_children():
        yield


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_damaged_files(kind, tmp_path, children):
    seeds = None
    if kind == "tflite":
        seeds = [handmade.dense(), handmade.fixed_reshape(), handmade.token_ids()]
        seeds += [handmade.two_outputs(), handmade.requantized("int8", 0.5, 3)]
    if kind == "keras":
        fuzzing._image_net().save(tmp_path / "seed.keras")
        seeds = [(tmp_path / "seed.keras").read_bytes()]
    fuzzer = fuzzing.Fuzzer(kind, tmp_path, seeds)
    whole = [fuzzer.run(content) for content in fuzzer.seeds]
    assert all(outcome.problem is None for outcome in whole)
    outcomes = [fuzzer.run(fuzzer.content(number)) for number in range(FILES[kind])]
    assert {n: each.problem for n, each in enumerate(outcomes) if each.problem} == {}
    # The damage reaches behind the first look: some files are refused, and some still work.
    endings = [next(iter(outcome.steps.values())) for outcome in outcomes]
    assert 0 < endings.count("valid") < FILES[kind]


def test_damage_is_repeatable_and_damages(tmp_path):
    fuzzer = fuzzing.Fuzzer("tflite", tmp_path, [handmade.dense()])
    contents = [fuzzer.content(number) for number in range(100)]
    assert contents == [fuzzer.content(number) for number in range(100)]
    assert len(set(contents)) > 95
    assert sum(content == handmade.dense() for content in contents) < 5


def test_a_fuzzer_sees_what_is_no_error_of_ours(tmp_path):
    outcome = fuzzing.Outcome()
    outcome.try_("read", lambda: {}["x"])
    assert outcome.problem == "read: KeyError: 'x'"
    assert outcome.steps == {"read": "other exception"}


def test_a_file_that_the_object_form_cannot_follow_is_refused(tmp_path):
    """What the fuzzer found: valid to our reader, torn where only an edit looks."""
    from litesmith.errors import ModelError
    from litesmith.export import convert, edit

    path = handmade.write(tmp_path, handmade.dense())

    def torn(content):
        import struct

        return struct.unpack_from("<i", b"", 4)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit, "distinct_names", torn)
        with pytest.raises(ModelError, match="expected a whole .tflite, received a damaged one"):
            convert(path)
