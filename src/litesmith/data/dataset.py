"""A dataset's splits: arrays in memory, or sequences that are read by index."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from litesmith.errors import DataError

if TYPE_CHECKING:
    import keras


@runtime_checkable
class LazyArray(Protocol):
    """Samples that are read when asked for; looks like an array of `shape` and `dtype`.

    `array[part]` takes an index, a slice or an array of indices, and returns a numpy array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int: ...

    def __getitem__(self, part: Any) -> np.ndarray: ...

    def fingerprint(self) -> bytes:
        """What tells this content from another without reading all of it."""
        ...


Samples = np.ndarray | LazyArray | dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Split:
    """Samples and their labels.

    Attributes:
        x: samples, first axis; an array, a `LazyArray`, or a dict of arrays by input name.
        y: labels of the same length, in memory; None where there are none.
    """

    x: Samples
    y: np.ndarray | None = None

    def __len__(self) -> int:
        first = next(iter(self.x.values())) if isinstance(self.x, dict) else self.x
        return len(first)

    def take(self, count: int) -> Split:
        """`count` samples spread evenly over the split (all, where it has no more).

        Even spacing is the same every time, and takes every class of a split that is sorted by
        class, which the first `count` would not.
        """
        if count < 1:
            raise DataError("take", expected="at least one sample", received=count)
        if count >= len(self):
            return self
        return self.at(np.linspace(0, len(self) - 1, count).round().astype(np.int64))

    def at(self, indices: np.ndarray) -> Split:
        """The samples at `indices`, in that order; a lazy split stays lazy."""
        if isinstance(self.x, dict):
            x: Samples = {name: array[indices] for name, array in self.x.items()}
        elif isinstance(self.x, np.ndarray):
            x = self.x[indices]
        else:
            x = Subset(self.x, indices)
        return Split(x, None if self.y is None else self.y[indices])

    def keras(
        self, batch_size: int = 32, shuffle: bool = False, seed: int = 0
    ) -> keras.utils.PyDataset:
        """What `model.fit`, `evaluate` and `predict` take.

        Args:
            batch_size: samples a batch.
            shuffle: whether every epoch goes through the samples in another order.
            seed: of that order, which then is the same on every backend and in every run.

        Returns:
            A `keras.utils.PyDataset` of (x, y), or of x where there are no labels.
        """
        from litesmith.data.keras_sequence import SplitSequence

        return SplitSequence(self, batch_size, shuffle, seed)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training, validation and test split of one source.

    Attributes:
        name: as it was asked for.
        train: what is trained and calibrated on.
        validation: what is chosen by.
        test: what is reported on, and nothing else.
        classes: names of the classes in label order, or None (regression, or unnamed).
        notes: what was decided on the way, such as a test split that had to be held back.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """Shape of one sample; by input name where there are several inputs."""
        x = self.train.x
        if isinstance(x, dict):
            return {name: tuple(array.shape[1:]) for name, array in x.items()}
        return tuple(x.shape[1:])

    @property
    def num_classes(self) -> int | None:
        """How many classes the labels tell apart; None for regression or no labels."""
        y = self.train.y
        if y is None:
            return None
        if is_class_index(y):
            found = max(
                int(split.y.max()) + 1 for split in self.splits.values() if split.y is not None
            )
            return max(found, len(self.classes or ()))
        if y.ndim == 2 and y.shape[1] > 1 and is_one_hot(y):
            return int(y.shape[1])
        return None

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def summary(self) -> dict[str, Any]:
        """What a report says of the data, ready for JSON.

        Returns:
            ``name``, ``sizes`` (samples by split), ``input_shape``, ``classes`` (a number or
            None), ``class_names``, ``sha256`` (of samples and labels; of file names, sizes and
            labels for images that are read lazily) and ``notes``.
        """
        shape = self.input_shape
        return {
            "name": self.name,
            "sizes": {name: len(split) for name, split in self.splits.items()},
            "input_shape": (
                {name: list(one) for name, one in shape.items()}
                if isinstance(shape, dict)
                else list(shape)
            ),
            "classes": self.num_classes,
            "class_names": list(self.classes) if self.classes else None,
            "sha256": self._sha256(),
            "notes": list(self.notes),
        }

    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            columns = split.x if isinstance(split.x, dict) else {"": split.x}
            for column, array in sorted(columns.items()):
                digest.update(f"{name}/{column}{array.dtype}{tuple(array.shape)}".encode())
                if isinstance(array, np.ndarray):
                    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
                else:
                    digest.update(array.fingerprint())
            if split.y is not None:
                digest.update(f"{split.y.dtype}{split.y.shape}".encode())
                digest.update(np.ascontiguousarray(split.y).tobytes())
        return digest.hexdigest()


class Subset:
    """Some samples of a `LazyArray`, in an order of their own; lazy as well."""

    def __init__(self, source: LazyArray, indices: np.ndarray):
        self.source, self.indices = source, np.asarray(indices)
        self.shape = (len(self.indices), *source.shape[1:])
        self.dtype = source.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: Any) -> np.ndarray:
        return self.source[self.indices[part]]

    def fingerprint(self) -> bytes:
        """The source's, and which samples of it."""
        return self.source.fingerprint() + self.indices.astype("<i8").tobytes()


def is_class_index(y: np.ndarray) -> bool:
    """Whether labels are class numbers: integers or booleans, one a sample."""
    return y.dtype.kind in "biu" and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1))


def is_one_hot(y: np.ndarray) -> bool:
    """Whether every row of `y` (samples, classes) is all zeros but for a single one."""
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())
