"""A dataset by its name, the same way in Python, in a study file and on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litesmith.data.batches import to_numpy
from litesmith.data.dataset import Dataset, LazyArray, Samples, Split
from litesmith.data.splitting import complete
from litesmith.data.validation import check
from litesmith.errors import DataError, did_you_mean

KINDS = ("digits", "idx", "npz", "images", "keras", "tfds")
_FORMS = "digits, idx:DIR, npz:FILE, images:DIR, keras:NAME, tfds:NAME or module:function"


def load(
    source: str,
    *,
    validation: float = 0.1,
    image_size: Sequence[int] | None = None,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Load a dataset by name.

    Args:
        source: one of

            - `digits`: scikit-learn's 8×8 handwritten digits, in a fixed division;
            - `idx:DIR`: MNIST-format files, plain or `.gz`;
            - `npz:FILE`: `x_train`, `y_train`, `x_val`, … in a `.npz`, values as they are;
            - `images:DIR`: class folders, or `train`/`val`/`test` with class folders in them;
            - `keras:NAME`: one of `keras.datasets`, downloaded;
            - `tfds:NAME`: TensorFlow Datasets, downloaded; needs the extra `[tfds]`;
            - `module:function`: a function that returns a `Dataset`, or tuples
              `(x_train, y_train), (x_test, y_test)` or train, validation (or None), test.

            Images are float32 scaled to 0…1, channel last, except where `npz:` or a function
            gives something else.
        validation: share of the training data held back where the source has no such split:
            stratified by class, chosen by `seed`, never from the test split.
        image_size: height and width in pixels, for `images:` and `tfds:`.
        seed: of the choice of validation samples.
        root: folder that paths and modules are relative to; paths that are not there are looked
            for in the working directory too.

    Returns:
        The dataset, checked: no empty split, lengths that agree, finite numbers, labels in range.

    Raises:
        DataError: an unknown source, or data that cannot be used.
    """
    if not isinstance(source, str) or not source:
        raise DataError("data source", expected=_FORMS, received=source, fix="name one of these")
    if isinstance(validation, bool) or not isinstance(validation, int | float):
        raise DataError(
            "validation",
            expected="a share between 0 and 1",
            received=validation,
            fix="write 0.1 for a tenth",
        )
    if not 0 < validation < 1:
        raise DataError(
            "validation",
            expected="a share between 0 and 1",
            received=validation,
            fix="write 0.1 for a tenth",
        )
    size = _image_size(image_size)
    kind, separator, rest = source.partition(":")
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    if source == "digits":
        from litesmith.data.arrays import load_digits

        splits = load_digits()
        classes = tuple("0123456789")
    elif kind in ("idx", "npz", "images", "keras", "tfds") and separator:
        if not rest:
            raise DataError(
                f"data source {source!r}",
                expected=_FORMS,
                received=source,
                fix="name what comes after the colon",
            )
        splits, classes = _read(kind, rest, size, root)
    elif kind == "builtin" and separator:
        raise DataError(
            f"data source {source!r}",
            expected=_FORMS,
            received=source,
            fix="models are named so; the bundled data are 'digits'",
        )
    elif separator:
        given = _from_function(source, root)
        if isinstance(given, Dataset):
            return check(given)
        splits = given
    else:
        raise _unknown(source, root)
    dataset = complete(
        source,
        splits["train"],
        splits.get("validation"),
        splits.get("test"),
        share=float(validation),
        seed=seed,
        classes=classes,
        notes=notes,
    )
    return check(dataset)


def _read(
    kind: str, rest: str, size: tuple[int, int] | None, root: Any
) -> tuple[dict[str, Split], tuple[str, ...] | None]:
    if kind == "idx":
        from litesmith.data.idx import load_idx

        return load_idx(_path(rest, root)), None
    if kind == "images":
        from litesmith.data.images import load_images

        return load_images(_path(rest, root), size)
    if kind == "tfds":
        from litesmith.data.tfds_source import load_tfds

        return load_tfds(rest, size)
    from litesmith.data.arrays import load_keras, load_npz

    return load_keras(rest) if kind == "keras" else (load_npz(_path(rest, root)), None)


def _path(text: str, root: Any) -> Path:
    """Relative to `root`; to the working directory where only that has it."""
    given = Path(text).expanduser()
    base = Path(root) if root is not None else Path.cwd()
    return given if not (base / given).exists() and given.exists() else base / given


def _from_function(source: str, root: Any) -> dict[str, Split] | Dataset:
    from litesmith.data.functions import call

    kind = source.partition(":")[0]
    base = Path(root) if root is not None else None
    try:
        given = call(source, root=base)
    except DataError as error:
        near = did_you_mean(kind, KINDS)
        if near.startswith("did you mean") and (
            "no module named" in str(error) or "expected module:function" in str(error)
        ):
            raise DataError(
                "data source", expected=_FORMS, received=repr(source), fix=near
            ) from error
        raise
    if isinstance(given, Dataset):
        return given
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise DataError(
            repr(source),
            expected="a function that returns a Dataset, or (train, test) or "
            "(train, validation, test), each (x, y)",
            received=type(given).__name__,
            fix="return one of these",
        )
    names = ("train", "test") if len(given) == 2 else ("train", "validation", "test")
    splits = {
        name: _split(f"{source!r}, {name}", part)
        for name, part in zip(names, given, strict=True)
        if part is not None
    }
    if "train" not in splits:
        raise DataError(f"{source!r}, train", expected="(x, y)", received="None", fix="return it")
    return splits


def _split(where: str, part: Any) -> Split:
    if isinstance(part, Split):
        return part
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise DataError(
            where,
            expected="a tuple (x, y)",
            received=type(part).__name__,
            fix="return one for each split",
        )
    x, y = part
    samples: Samples
    if isinstance(x, dict):
        samples = {str(name): to_numpy(array, f"{where}, x[{name!r}]") for name, array in x.items()}
    elif isinstance(x, LazyArray):
        samples = x
    else:
        samples = to_numpy(x, f"{where}, x")
    labels = None if y is None else to_numpy(y, f"{where}, y")
    arrays = list(samples.values()) if isinstance(samples, dict) else [samples]
    if not arrays or any(len(array.shape) == 0 for array in arrays):
        raise DataError(
            where,
            expected="x with samples along its first axis",
            received="no array",
            fix="return arrays of samples",
        )
    if labels is not None and labels.ndim == 0:
        raise DataError(
            where,
            expected="y with one label a sample",
            received="a single number",
            fix="return one label a sample",
        )
    return Split(samples, labels)


def _image_size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    good = (
        isinstance(size, Sequence)
        and not isinstance(size, str)
        and len(size) == 2
        and all(isinstance(one, int | np.integer) and one > 0 for one in size)
    )
    if not good:
        raise DataError(
            "image_size", expected="[height, width] in pixels", received=size, fix="write [96, 96]"
        )
    return int(size[0]), int(size[1])


def _unknown(source: str, root: Any) -> DataError:
    path = _path(source, root)
    fix = did_you_mean(source, KINDS)
    if path.suffix == ".npz":
        fix = f"write 'npz:{source}'"
    elif path.is_dir():
        fix = f"write 'images:{source}' or 'idx:{source}'"
    elif path.suffix == ".py":
        fix = f"write '{source}:FUNCTION'"
    return DataError("data source", expected=_FORMS, received=source, fix=fix)
