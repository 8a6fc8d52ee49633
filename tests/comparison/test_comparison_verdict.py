import pytest

from litesmith.comparison import compare
from tests.comparison.fake import study
from tests.comparison.test_comparison_compare import row


def sentences(results, **options):
    return {finding.kind: finding.text for finding in compare(results, **options).findings}


def test_the_verdict_of_a_real_study():
    assert list(compare(study()).verdict) == [
        "Smallest: dynamic takes 20.5 kB, 3.0× smaller than the baseline's 61.3 kB; zipped "
        "15.7 kB, 3.6× smaller, and loses no accuracy.",
        "Smallest download: pruned-80-int8 is 7.31 kB zipped, 7.6× smaller than the baseline's "
        "55.9 kB, and gives up 1.95 points of accuracy (98.61 % → 96.66 %).",
        "Fastest: pruned-80-int8 takes 0.0127 ms, 1.69× faster than the baseline's 0.0214 ms, and "
        "gives up 1.95 points of accuracy (98.61 % → 96.66 %).",
        "Most accurate: pruned-50 at 98.89 %, 0.28 points of accuracy better than the baseline's "
        "98.61 %, and 1.65× smaller zipped.",
        "Nothing lost: float16, dynamic and pruned-50 keep the baseline's accuracy; the smallest "
        "of them, dynamic, is 3.6× smaller zipped.",
        "With 359 test samples, one of them is 0.28 points: smaller differences cannot be told "
        "apart, and a few samples are chance.",
    ]


def test_the_smallest_that_is_still_good():
    rows = [row("baseline", 0.9, 1000), row("half", 0.895, 500), row("tiny", 0.2, 10)]
    said = sentences(rows)
    assert said["smallest"].startswith("Smallest: tiny takes 10 B, 100× smaller")
    assert said["within"].startswith("Smallest within 1 point of accuracy: half, 250 B zipped")
    said = sentences(rows, max_drop={"accuracy": 0.001})
    assert said["within"] == "No variant stays within 0.10 points of accuracy."
    assert "within" not in sentences(rows[:2])


def test_nothing_is_smaller_faster_or_better():
    said = sentences([row("baseline", 0.9, 100, 1.0), row("worse", 0.8, 200, 2.0)])
    assert said["smallest"] == "Smallest: nothing is smaller than the baseline (100 B)."
    assert said["fastest"] == "Fastest: nothing is faster than the baseline (1.00 ms)."
    assert said["most accurate"].endswith("the baseline at 90.00 %; no variant is better.")
    assert said["lossless"] == "Every variant loses some accuracy."


def test_a_little_faster_is_not_called_faster():
    said = sentences([row("baseline", 0.9, 100, 1.0), row("b", 0.9, 50, 0.97)])
    assert said["fastest"] == (
        "Fastest: nothing is clearly faster than the baseline (1.00 ms); b comes first by 3.0 %."
    )
    assert (
        "nothing lost: b keeps the baseline's accuracy; it is 2.0× smaller"
        in said["lossless"].lower()
    )


def test_a_metric_that_is_better_when_lower():
    rows = [row("baseline", 0.5, 100, 1.0, metric="mse"), row("b", 0.6, 50, 0.5, metric="mse"),
            row("c", 0.4, 80, 0.9, metric="mse")]  # fmt: skip
    said = sentences(rows)
    assert "gives up 0.100 in mse (0.5000 → 0.6000)" in said["smallest"]
    assert said["most accurate"].startswith("Lowest mse: c at 0.4000, 0.100 in mse better")
    assert said["lossless"].startswith("Nothing lost: c keeps")
    assert "within" not in said


def test_larger_and_slower_are_called_so():
    said = sentences([row("baseline", 0.9, 100, None), row("b", 0.95, 300, None)])
    assert "and 3.0× larger zipped" in said["most accurate"]


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_missing_figures_leave_sentences_out(metric):
    rows = [
        row("baseline", 0.9, metric=metric),
        row("b", None, 50, 1.0),
        row("c", 0.8, metric=metric),
    ]
    said = sentences(rows)
    assert said["smallest"].startswith("Smallest: b takes 50 B; zipped 25 B")
    assert said["fastest"] == f"Fastest: b takes 1.00 ms; its {metric} was not measured."
    assert sentences([row("a"), row("b")]) == {}


def test_nan_counts_as_not_measured():
    said = sentences([row("baseline", 0.9, 100), row("b", float("nan"), 50)])
    assert "its accuracy was not measured" in said["smallest"]
    assert said["most accurate"].startswith("Most accurate: the baseline")


def test_one_variant():
    assert sentences([row("a", 0.9, 1000, 2.0)]) == {
        "single": "a: accuracy 90.00 %, 1.00 kB (500 B zipped), 2.00 ms. There is nothing to "
        "compare it with."
    }
    assert "nothing was measured" in sentences([row("a")])["single"]


def test_failures_are_named_with_their_reason():
    rows = [row("a", 0.9), row("b", status="failed", error="ExportError: no.\nmore"),
            row("c", status="failed")]  # fmt: skip
    assert sentences(rows)["failed"] == (
        "2 of 3 variants failed: b (ExportError: no); c (no reason given)."
    )


def test_a_failed_baseline_leaves_plain_figures():
    said = sentences([row("baseline", status="failed", error="x"), row("a", 0.9, 100, 1.0),
                      row("b", 0.8, 50, 2.0)])  # fmt: skip
    assert said["smallest"] == "Smallest: b takes 50 B; zipped 25 B."
    assert said["fastest"] == "Fastest: a takes 1.00 ms."
    assert said["most accurate"] == "Most accurate: a at 90.00 %."


def test_thresholds_are_in_the_verdict():
    text = "\n".join(compare(study(), max_drop={"accuracy": 0.01}).verdict)
    assert (
        "Threshold missed: pruned-80 loses 1.67 points of accuracy, more than the 1 allowed."
        in text
    )
    assert str(compare(study())) == "\n".join(compare(study()).verdict)
