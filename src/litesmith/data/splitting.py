"""Holding samples back: the same ones for the same seed, every class in proportion."""

from __future__ import annotations

import numpy as np

from litesmith.data.dataset import Dataset, Split, is_class_index, is_one_hot
from litesmith.errors import DataError

TEST_SHARE = 0.2


def hold_back(split: Split, share: float, seed: int, purpose: str) -> tuple[Split, Split]:
    """Divide a split in two.

    Each sample gets the key (rank in its class, in a random order, plus a random offset a class)
    ÷ size of the class; those with the smallest keys are held back. So every class gives its
    share to within one sample, and the total is exact.

    Args:
        split: what to divide.
        share: what part is held back, above 0 and below 1.
        seed: of the random order.
        purpose: "validation" or "test", for an error.

    Returns:
        What is kept and what is held back, both in the split's order.

    Raises:
        DataError: a share that leaves one of the two empty.
    """
    count = len(split)
    held_count = round(share * count)
    if not 0 < held_count < count:
        raise DataError(
            purpose,
            expected="samples on both sides of the division",
            received=f"{held_count} of {count} held back at a share of {share:g}",
            fix="give more data or another share",
        )
    generator = np.random.default_rng([seed, 7])
    order = generator.permutation(count)
    strata = _strata(split.y, count)[order]
    keys = np.empty(count)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        keys[members] = (np.arange(len(members)) + generator.random()) / len(members)
    held = np.sort(order[np.argsort(keys, kind="stable")[:held_count]])
    kept = np.setdiff1d(np.arange(count), held)
    return split.at(kept), split.at(held)


def complete(
    name: str,
    train: Split,
    validation: Split | None,
    test: Split | None,
    *,
    share: float,
    seed: int,
    classes: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A `Dataset` of what a source gives; what it lacks is held back from the training split.

    The test split does not depend on the seed: figures of different seeds are then comparable.

    Args:
        name: of the dataset.
        train: the source's training samples.
        validation: the source's own, or None.
        test: the source's own, or None: 20 % of the training samples, noted.
        share: of the training samples for validation.
        seed: of the choice of validation samples.
        classes: names of the classes.
        notes: what the source has to say already.

    Returns:
        The dataset, not checked yet.
    """
    if test is None:
        train, test = hold_back(train, TEST_SHARE, 0, "test")
        notes += (
            f"the source has no test split: {len(test)} samples ({TEST_SHARE:.0%}) were held back "
            "from training",
        )
    if validation is None:
        train, validation = hold_back(train, share, seed, "validation")
        notes += (f"validation: {len(validation)} samples held back from training",)
    return Dataset(name, train, validation, test, classes, notes)


def _strata(y: np.ndarray | None, count: int) -> np.ndarray:
    if y is None:
        return np.zeros(count, np.int64)
    if is_class_index(y):
        return y.reshape(-1)
    if y.ndim == 2 and y.shape[1] > 1 and is_one_hot(y):
        return y.argmax(axis=1)
    return np.zeros(count, np.int64)  # regression: nothing to keep in proportion
