"""Sources whose arrays fit in memory: `digits`, `npz:FILE`, `keras:NAME`."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from litesmith.data.dataset import Split
from litesmith.data.splitting import hold_back
from litesmith.errors import DataError, did_you_mean

_NAMES = {
    "train": ("train",),
    "validation": ("val", "validation", "valid"),
    "test": ("test",),
}
_CLASSES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "fashion_mnist": [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    "mnist": list("0123456789"),
}
KERAS_DATASETS = (
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "mnist",
)


def load_digits() -> dict[str, Split]:
    """scikit-learn's 1,797 real handwritten digits, 8×8×1, 0…1; nothing is downloaded.

    The division (1,258 training, 180 validation, 359 test) is stratified and always the same.
    """
    from sklearn.datasets import load_digits as bundled

    images, labels = bundled(return_X_y=True)
    x = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    rest, test = hold_back(Split(x, labels.astype(np.int64)), 0.2, 0, "test")
    train, validation = hold_back(rest, 0.125, 0, "validation")
    return {"train": train, "validation": validation, "test": test}


def load_npz(path: Path) -> dict[str, Split]:
    """The arrays of a `.npz` file.

    Args:
        path: holds `x_train`, `y_train` and, where there are any, the same with `val` and
            `test`. Several inputs are `x_train_NAME`, one for each input's name. Half precision
            becomes float32; values are not scaled.

    Returns:
        Splits by name.

    Raises:
        DataError: no such file, not a `.npz`, missing arrays, pickled objects inside.
    """
    if not path.is_file():
        raise DataError(
            f"npz:{path}",
            expected="a .npz file",
            received="no such file",
            fix="see that the path is right",
        )
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise DataError(
                    f"npz:{path}",
                    expected="a .npz file with x_train and y_train",
                    received="a single array",
                    fix="write it with numpy.savez_compressed(path, x_train=…, y_train=…)",
                )
            arrays = {name: _single(content[name]) for name in content.files}
    except (
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        KeyError,
        NotImplementedError,
    ) as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, PermissionError):
            raise DataError(
                f"npz:{path}",
                expected="a file that can be read",
                received="permission denied",
                fix="see who may read it",
            ) from error
        pickled = "pickle" in str(error).lower() and zipfile.is_zipfile(path)
        raise DataError(
            f"npz:{path}",
            expected="a whole .npz file of numbers",
            received="pickled objects, which are not loaded" if pickled else _first_line(error),
            fix="write it again with numpy.savez_compressed",
        ) from error
    splits = {}
    for split, endings in _NAMES.items():
        for ending in endings:
            x = _inputs(arrays, f"x_{ending}")
            y = arrays.get(f"y_{ending}")
            if x is None and y is not None:
                raise _missing(path, f"x_{ending}", arrays)
            if x is not None and split not in splits:
                splits[split] = Split(x, y)
    if "train" not in splits:
        raise _missing(path, "x_train", arrays)
    return splits


def load_keras(name: str) -> tuple[dict[str, Split], tuple[str, ...] | None]:
    """One of `keras.datasets` (downloaded by Keras on first use); images scaled to 0…1.

    Raises:
        DataError: an unknown name, or the download failed.
    """
    import keras

    if name not in KERAS_DATASETS:
        raise DataError(
            f"keras:{name}",
            expected="a data set of keras.datasets with arrays of numbers",
            received=name,
            fix=did_you_mean(name, KERAS_DATASETS),
        )
    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        raise DataError(
            f"keras:{name} could not be downloaded ({_first_line(error)})",
            fix="see that the network is there, or use a local source such as npz:FILE",
        ) from error
    splits = {
        "train": Split(_image(x_train), _keras_labels(y_train)),
        "test": Split(_image(x_test), _keras_labels(y_test)),
    }
    classes = _CLASSES.get(name)
    return splits, tuple(classes) if classes else None


def _inputs(arrays: dict[str, np.ndarray], name: str) -> np.ndarray | dict[str, np.ndarray] | None:
    if name in arrays:
        return arrays[name]
    several = {
        key[len(name) + 1 :]: value for key, value in arrays.items() if key.startswith(name + "_")
    }
    return several or None


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype in (np.float16, np.float64) else array


def _image(array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype != np.uint8:
        return array.astype(np.float32)
    scaled = array.astype(np.float32) / 255
    return scaled[..., None] if scaled.ndim == 3 else scaled


def _keras_labels(array: Any) -> np.ndarray:
    labels = np.asarray(array)
    if labels.dtype.kind == "f":
        return labels.astype(np.float32)
    return labels.reshape(len(labels)).astype(np.int64)


def _missing(path: Path, name: str, arrays: dict[str, np.ndarray]) -> DataError:
    return DataError(
        f"npz:{path}",
        expected=f"an array {name}",
        received=", ".join(sorted(arrays)[:8]) or "no arrays",
        fix="name them x_train, y_train, x_val, y_val, x_test, y_test",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
