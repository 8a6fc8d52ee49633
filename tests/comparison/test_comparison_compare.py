import dataclasses
import hashlib
import json
import random

import pytest

from litesmith.comparison import StudyResult, VariantResult, compare
from litesmith.comparison.labels import Box, place
from litesmith.comparison.pareto import front
from litesmith.errors import DataError
from tests.comparison.fake import study


@dataclasses.dataclass
class Evaluation:
    name: str
    metrics: dict
    samples: int = 359
    source: str | None = None
    agreement: float | None = None
    seconds: float = 0.1


@dataclasses.dataclass
class Benchmark:
    name: str
    latency_ms: dict
    size: dict | None = None
    load_ms: float = 0.5
    memory: dict = dataclasses.field(default_factory=lambda: {"peak_rss": 1000, "arena": 10})
    source: str | None = None
    machine: dict = dataclasses.field(default_factory=lambda: {"cpu": "Some CPU"})


def row(name, accuracy=None, file=None, p50=None, metric="accuracy", **fields):
    return VariantResult(
        name=name,
        metrics={} if accuracy is None else {metric: accuracy},
        size=None if file is None else {"file": file, "zip": file // 2, "entropy": file // 3},
        latency_ms=None if p50 is None else {"p50": p50, "p95": p50 * 1.1},
        **fields,
    )


def test_measurements_of_one_name_become_one_row():
    speed = {"p50": 0.02, "p95": 0.03, "mean": 0.02}
    size = {"file": 2000, "zip": 1000, "entropy": 900}
    found = compare(
        [
            Evaluation("a", {"accuracy": 0.9}, source="x/a.tflite", agreement=0.99),
            Benchmark("b", speed, size),
            Benchmark("a", speed, size, source="x/a.tflite"),
            Evaluation("b", {"accuracy": 0.8}),
        ]
    )
    assert [one.name for one in found.variants] == ["a", "b"]
    a = found.variants[0]
    assert a.metrics == {"accuracy": 0.9} and a.agreement == 0.99 and a.artifact == "x/a.tflite"
    assert a.latency_ms.p50 == 0.02 and a.size.zip == 1000 and a.memory.arena == 10
    assert found.variants[1].metrics == {"accuracy": 0.8}


@pytest.mark.parametrize("beside", ["its manifest", "another file's", "none", "damaged"])
def test_how_a_file_was_made_is_read_from_the_manifest_beside_it(beside, tmp_path):
    file = tmp_path / "small.tflite"
    file.write_bytes(b"a file")
    manifest = {
        "sha256": hashlib.sha256(b"a file" if beside == "its manifest" else b"other").hexdigest(),
        "recipe": {"version": 1, "techniques": [{"technique": "prune", "sparsity": 0.8}]},
        "quantize": "int8",
    }
    if beside != "none":
        text = "{" if beside == "damaged" else json.dumps(manifest)
        (tmp_path / "small.tflite.json").write_text(text)
    found = compare([Evaluation("small", {"accuracy": 0.9}, source=str(file))]).baseline
    known = beside == "its manifest"
    assert found.recipe == ([{"technique": "prune", "sparsity": 0.8}] if known else [])
    assert found.quantize == ("int8" if known else "")


def test_a_study_and_a_measurement_are_put_together():
    found = compare([study(), Evaluation("int8", {"auc": 0.7})])
    assert len(found.variants) == 8
    int8 = next(one for one in found.variants if one.name == "int8")
    assert int8.metrics["auc"] == 0.7 and int8.metrics["accuracy"] > 0.9 and int8.size is not None
    assert study().variants[3].metrics.keys() == {"accuracy", "loss"}


def test_what_study_json_holds_is_taken_too():
    given = json.loads(study().model_dump_json(by_alias=True))
    assert compare(given).verdict == compare(study()).verdict
    assert compare(StudyResult.model_validate(given)).baseline.name == "baseline"


def test_the_baseline_is_the_one_called_so_or_the_first():
    assert compare([row("a", 0.9), row("baseline", 0.8)]).baseline.name == "baseline"
    assert compare([row("a", 0.9), row("b", 0.8)]).baseline.name == "a"


def test_names_replace_names():
    first, second = (Evaluation("model", {"accuracy": v}, source=f"{v}/model") for v in (0.9, 0.8))
    with pytest.raises(DataError, match="two results are called 'model': .*names=…|names=\\[…\\]"):
        compare([first, second])
    found = compare([first, second], names=["a", "b"])
    assert [one.name for one in found.variants] == ["a", "b"]
    with pytest.raises(DataError, match="names: expected one for each of 2 results, received 1"):
        compare([first, second], names=["a"])


@pytest.mark.parametrize("nothing", [[], "report.json", 3, [3], [None], object()])
def test_what_cannot_be_compared(nothing):
    with pytest.raises(DataError, match=r"compare: expected (at least one result|results of)"):
        compare(nothing)


def test_thresholds():
    found = compare(study(), max_drop={"accuracy": 0.01})
    assert [one.variant for one in found.missed] == ["pruned-80", "pruned-80-int8"]
    assert found.missed[0].drop == pytest.approx(6 / 359)
    assert str(found.missed[0]) == (
        "pruned-80 loses 1.67 points of accuracy, more than the 1 allowed"
    )
    assert compare(study()).missed == ()
    assert compare(study(), max_drop={"accuracy": 7 / 359}).missed == ()
    exact = compare([row("a", 0.9), row("b", 0.89)], max_drop={"accuracy": 0.01})
    assert exact.missed == ()
    lower = compare([row("a", 0.5, metric="mse"), row("b", 0.6, metric="mse"),
                     row("c", 0.4, metric="mse"), row("d")], max_drop={"mse": 0.05})  # fmt: skip
    assert [(one.variant, one.drop) for one in lower.missed] == [
        ("b", pytest.approx(0.1)), ("d", None)]  # fmt: skip
    assert "d: mse was not measured" in str(lower.missed[1])
    with pytest.raises(DataError, match="a metric that was measured, received acuracy; did you"):
        compare(study(), max_drop={"acuracy": 0.01})
    for wrong in (-1, "1", None, float("nan")):
        with pytest.raises(DataError, match=r"max_drop\['accuracy'\]: expected a number from 0"):
            compare(study(), max_drop={"accuracy": wrong})


def test_failed_variants_are_not_missed_thresholds():
    failed = row("b", status="failed", error="it broke")
    found = compare([row("a", 0.9), failed], max_drop={"accuracy": 0.01})
    assert found.missed == () and [one.name for one in found.failed] == ["b"]


def test_the_pareto_front():
    found = compare(study())
    assert found.pareto("size") == ("pruned-80-int8", "dynamic", "pruned-50")
    assert found.pareto("latency") == ("pruned-80-int8", "int8", "dynamic", "pruned-50")
    assert found.pareto("file") == ("dynamic", "pruned-50")
    lower = compare([row("a", 0.5, 100, metric="loss"), row("b", 0.6, 50, metric="loss"),
                     row("c", 0.7, 60, metric="loss")])  # fmt: skip
    assert lower.pareto() == ("b", "a")
    assert compare([row("a", None, 5)]).pareto() == ()
    with pytest.raises(DataError, match="did you mean 'latency'"):
        found.pareto("latancy")


def test_no_point_of_the_front_is_dominated_and_every_other_one_is():
    rng = random.Random(0)
    for _ in range(50):
        points = [(i, rng.randint(0, 9), rng.randint(0, 9)) for i in range(20)]
        points += [(20, None, 1), (21, 1, float("nan"))]
        best = set(front(points))
        known = {name: (x, y) for name, x, y in points[:20]}
        for name, (x, y) in known.items():
            beaten = any(a <= x and b <= y and (a, b) != (x, y) for a, b in known.values())
            assert (name in best) is not beaten


def test_labels_do_not_lie_on_each_other():
    rng = random.Random(1)
    frame = Box(0, 0, 300, 220)
    for count in (1, 8, 14):
        points = [(rng.uniform(20, 280), rng.uniform(20, 200)) for _ in range(count)]
        boxes = place(points, [(50, 9)] * count, frame)
        pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert all(a.overlap(b) == 0 for a, b in pairs)
        assert all(box.outside(frame) < 1e-9 for box in boxes)
        markers = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]
        assert not any(box.overlap(marker) for box in boxes for marker in markers)


def test_labels_of_points_in_one_place_are_spread():
    boxes = place([(100, 100)] * 4, [(50, 9)] * 4, Box(0, 0, 300, 220))
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_terminal_table_fits_eighty_characters():
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    failed = row("broken", status="failed", error="x")
    console.print(compare([study(), failed]).table())
    console.file.close()
    lines = console.export_text().splitlines()
    assert len(lines) == 10 and "…" not in "".join(lines)
    assert lines[0].split() == ["variant", "accuracy", "±", "points", "file", "zipped", "smaller",
                                "p50", "zeros"]  # fmt: skip
    assert lines[7].split()[:3] == ["pruned-80-int8", "96.66", "%"]
    assert lines[9].split() == ["broken", "failed"]


def test_the_table_of_nothing_measured():
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(compare([row("a"), row("b", status="failed")]).table())
    console.file.close()
    assert "a" in console.export_text()
