"""What is wrong with a dataset, found before anything is trained on it."""

from __future__ import annotations

import numpy as np

from litesmith.data.dataset import Dataset, Split, is_class_index
from litesmith.errors import DataError


def check(dataset: Dataset) -> Dataset:
    """Return the dataset when it is sound.

    Lazy samples are not read for this: images are bytes, which are neither NaN nor infinite.

    Raises:
        DataError: an empty split, unequal lengths, NaN or infinite values, negative labels or
            labels the training split never shows, samples of another shape than training's.
    """
    for name, split in dataset.splits.items():
        _check_split(f"{dataset.name}, {name}", split)
    shape = dataset.input_shape
    for name in ("validation", "test"):
        other = Dataset("", dataset.splits[name], dataset.test, dataset.test).input_shape
        if other != shape:
            raise DataError(
                f"{dataset.name}, {name}",
                expected=f"samples of training's shape {shape}",
                received=str(other),
                fix="bring all splits to one shape",
            )
        if (dataset.splits[name].y is None) != (dataset.train.y is None):
            raise DataError(
                f"{dataset.name}, {name}",
                expected="labels in every split or in none",
                received="labels in some",
                fix="label all splits, or none",
            )
    _check_classes(dataset)
    return dataset


def _check_split(where: str, split: Split) -> None:
    columns = split.x if isinstance(split.x, dict) else {"": split.x}
    lengths = {len(array) for array in columns.values()}
    if len(lengths) != 1:
        raise DataError(
            where,
            expected="as many samples in every input",
            received=" and ".join(map(str, sorted(lengths))),
            fix="give each input the same samples",
        )
    count = lengths.pop()
    if count == 0:
        raise DataError(
            where,
            expected="at least one sample",
            received="none",
            fix="give data with samples in every split",
        )
    if split.y is not None and len(split.y) != count:
        raise DataError(
            where,
            expected=f"as many labels as samples ({count})",
            received=f"{len(split.y)} labels",
            fix="give one label a sample",
        )
    for name, array in columns.items():
        if isinstance(array, np.ndarray):
            _check_numbers(f"{where}, x[{name!r}]" if name else f"{where}, x", array)
    if split.y is not None:
        _check_numbers(f"{where}, y", split.y)


def _check_numbers(where: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "biuf":
        raise DataError(
            where,
            expected="numbers",
            received=f"values of type {array.dtype}",
            fix="turn it into numbers first",
        )
    if array.dtype.kind != "f":
        return
    # Block by block: a mask of everything at once would cost a quarter of the data's memory.
    for start in range(0, len(array), 4096):
        block = array[start : start + 4096]
        wrong = ~np.isfinite(block)
        if wrong.any():
            place = tuple(int(index) for index in np.argwhere(wrong)[0])
            raise DataError(
                where,
                expected="finite numbers",
                received=f"{float(block[place])} in sample {start + place[0]}",
                fix="remove or repair such samples",
            )


def _check_classes(dataset: Dataset) -> None:
    train = dataset.train.y
    if train is None or not is_class_index(train):
        return
    highest = int(train.max())
    if dataset.classes:
        highest = max(highest, len(dataset.classes) - 1)
        allowed = len(dataset.classes) - 1
    else:
        allowed = highest
    for name, split in dataset.splits.items():
        if split.y is None:
            continue
        low, high = int(split.y.min()), int(split.y.max())
        if low < 0 or high > allowed:
            raise DataError(
                f"{dataset.name}, {name} labels",
                expected=f"classes 0…{allowed}",
                received=f"{low if low < 0 else high}",
                fix="count classes from 0" if low < 0 else "see that training has every class",
            )
