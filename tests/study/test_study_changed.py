"""Which answers changed, and the pictures of some."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from litesmith.data import Split
from litesmith.study import changed


def test_the_class_of_each_sample():
    rows = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
    assert changed.answers(rows, "softmax").tolist() == [1, 0]
    assert changed.answers(np.array([[0.4], [0.6]]), "sigmoid").tolist() == [0, 1]
    assert changed.answers(np.array([[0.4], [0.6]]), "linear") is None  # regression
    assert changed.answers(rows, "sigmoid") is None  # several classes at once
    assert changed.answers(np.zeros((2, 4, 4, 3)), "softmax") is None
    assert changed.answers(None, "softmax") is None


@pytest.mark.parametrize(
    ("outputs", "labels", "kind"),
    [
        (np.zeros((2, 3)), np.array([0, 2]), "softmax"),
        (np.array([[0.1], [0.9]]), np.array([0, 1]), "sigmoid"),
        (np.array([[-3.0], [4.0]]), np.array([0, 1]), "linear"),
        (np.array([[0.1], [0.9]]), np.array([0.2, 0.4]), "linear"),
        (np.zeros((2, 4, 4, 3)), np.array([0, 1]), "linear"),
    ],
)
def test_what_an_output_is(outputs, labels, kind):
    assert changed.kind_of(outputs, labels) == kind


def split(count=40, shape=(8, 8, 1)):
    rng = np.random.default_rng(0)
    return Split(rng.random((count, *shape)).astype("float32"), np.arange(count) % 4)


def test_counts_and_who_is_shown():
    test = split()
    before, after = test.y.copy(), test.y.copy()
    after[[0, 1, 2, 3, 4, 5, 6, 7]] += 1  # eight became wrong
    before[[10, 11]] += 1  # two became right
    before[20], after[20] = test.y[20] + 1, test.y[20] + 2  # wrong in another way
    found = changed.compare(before, after, test)
    assert (found.total, found.worse, found.better) == (11, 8, 2)
    assert [one.index for one in found.samples] == [0, 1, 3, 4, 6, 7]
    assert all((one.before, one.after) == (one.label, one.label + 1) for one in found.samples)
    after[[0, 1, 2, 3, 4]] -= 1
    shown = [one.index for one in changed.compare(before, after, test).samples]
    assert shown == [5, 6, 7, 10, 11, 20]


def test_nothing_changed_and_no_classes():
    test = split()
    same = changed.compare(test.y, test.y, test)
    assert (same.total, same.worse, same.better, same.samples) == (0, 0, 0, [])
    regression = Split(test.x, np.linspace(0, 1, 40))
    assert changed.compare(test.y, test.y, regression) is None
    one_hot = Split(test.x, np.eye(4)[test.y])
    assert changed.compare(test.y, 1 - test.y, one_hot).total > 0


@pytest.mark.parametrize(
    ("shape", "scale", "offset", "mode", "size"),
    [
        ((8, 8, 1), 1.0, 0.0, "L", (8, 8)),
        ((100, 50, 3), 255.0, 0.0, "RGB", (36, 72)),
        ((8, 8, 3), 2.0, -1.0, "RGB", (8, 8)),
    ],
)
def test_pictures_are_small_and_true(shape, scale, offset, mode, size):
    test = split(shape=shape)
    test = Split(test.x * scale + offset, test.y)
    found = changed.compare(test.y, (test.y + 1) % 4, test)
    assert len(found.samples) == changed.SHOWN
    sample = found.samples[0]
    image = Image.open(io.BytesIO(base64.b64decode(sample.picture)))
    assert (image.mode, image.size, image.format) == (mode, size, "PNG")
    if size == (8, 8):
        values = np.asarray(image, np.float32).reshape(shape) / 255
        given = test.x[sample.index]
        if offset:
            given = (given - given.min()) / (given.max() - given.min())
        assert np.abs(values - given).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("shape", [(49, 10, 2), (12,), (8, 8)])
def test_what_is_no_picture_is_counted_only(shape):
    test = split(shape=shape)
    found = changed.compare(test.y, (test.y + 1) % 4, test)
    assert found.total == 40 and {one.picture for one in found.samples} == {None}
