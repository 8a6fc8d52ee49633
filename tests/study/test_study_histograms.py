"""Histograms of weights: in the study's rows and in the report."""

import keras
import numpy as np

import litesmith as ls
from litesmith.comparison import sparklines
from litesmith.comparison.results import Layer
from litesmith.study import histograms


def test_both_are_counted_in_the_same_bins():
    before, after = np.linspace(-1, 3, 1000), np.repeat([0.0, 2.0], [30, 10])
    found = histograms.histogram(after, before)
    assert (found.low, found.high) == (-1, 3)
    assert sum(found.before) == 1000 and max(found.before) - min(found.before) <= 1
    assert sorted(found.counts)[-2:] == [10, 30] and sum(found.counts) == 40
    assert found.counts[histograms.BINS // 4] == 30  # 0 is a quarter of the way from −1 to 3
    assert histograms.histogram(np.zeros(4), None) is None


def test_integers_count_as_what_they_stand_for():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32)])
    source = ls.convert(model)
    from litesmith.export.post_training import quantize
    from litesmith.export.presets import rules_of

    stored = quantize(source, rules_of("weight_int8"), None, io_dtype="int8")
    before = histograms.weights(source.content, source.kernels)
    after = histograms.weights(stored, source.kernels)
    ((key, floats),) = before.items()
    assert np.abs(after[key] - floats).max() < 0.01 * np.abs(floats).max()
    rows = [Layer(layer=key[0], variable=key[1], tensor="", dtype="", size=1, zeros=0, unique=1,
                  bytes=1)]  # fmt: skip
    histograms.add(rows, after, before)
    assert sum(rows[0].histogram.counts) == sum(rows[0].histogram.before) == floats.size
    drawn = sparklines.svg(rows[0].histogram)
    assert drawn.count("<path") == 2 and "before (pale) and after" in drawn
