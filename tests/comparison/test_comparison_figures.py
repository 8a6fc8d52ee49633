import pytest

from litesmith.comparison import figures
from litesmith.comparison.figures import Metric


@pytest.mark.parametrize(
    "name",
    ["loss", "mse", "mean_squared_error", "mae", "RootMeanSquaredError",
     "sparse_categorical_crossentropy", "log_loss", "error_rate", "perplexity", "kl_divergence",
     "val_loss", "wer", "hinge"],
)  # fmt: skip
def test_losses_and_errors_are_better_when_lower(name):
    metric = Metric(name)
    assert metric.lower_is_better and not metric.percent
    assert metric.lost(0.5, 0.4) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "name",
    ["accuracy", "sparse_categorical_accuracy", "top_5", "top_k_categorical_accuracy", "precision",
     "auc", "r2_score", "f1_score", "cosine_similarity", "my_own_score", "mean_io_u"],
)  # fmt: skip
def test_everything_else_is_better_when_higher(name):
    assert not Metric(name).lower_is_better
    assert Metric(name).lost(0.5, 0.4) == pytest.approx(-0.1)


def test_shares_are_written_in_percent_and_points():
    accuracy, auc = Metric("accuracy"), Metric("auc")
    assert accuracy.text(0.98607) == "98.61 %" and auc.text(0.98607) == "0.9861"
    assert accuracy.distance(-0.0028) == "0.28 points of accuracy"
    assert accuracy.distance(0.01) == "1 point of accuracy"
    assert auc.distance(0.0123) == "0.0123 in auc"
    assert accuracy.change(0.95, 0.96) == "−1.00" and accuracy.change(0.97, 0.96) == "+1.00"
    assert accuracy.change(0.96, 0.96000001) == "0" and accuracy.change(None, 0.9) == "–"
    assert accuracy.text(float("nan")) == "–" and accuracy.text(None) == "–"
    assert Metric("top_5").percent and Metric("binary_accuracy").percent


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (8_421, "8.42 kB"), (999_600, "1.00 MB"),
     (61_320, "61.3 kB"), (338_684, "339 kB"), (14_000_000, "14.0 MB"), (2.5e9, "2.50 GB"),
     (None, "–")],
)  # fmt: skip
def test_sizes_are_of_a_thousand(count, text):
    assert figures.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 %"), (1, "100 %"), (0.99999, "99.9 %"), (1e-7, "0.1 %"), (0.8, "80.0 %"), (None, "–")],
)
def test_shares_are_whole_only_when_exact(value, text):
    assert figures.share(value) == text


def test_milliseconds_and_factors():
    texts = [figures.milliseconds(value) for value in (0.02137, 1.5, 123.4, 5432.1, None)]
    assert texts == ["0.0214 ms", "1.50 ms", "123 ms", "5,432 ms", "–"]
    assert [figures.times(value) for value in (0.971, 1.724, 3.64, 24.2, 1234.0, None)] == [
        "0.97×", "1.72×", "3.6×", "24×", "1,234×", "–",
    ]  # fmt: skip
