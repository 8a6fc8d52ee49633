"""`idx:DIR`: the format of MNIST's files (described on the MNIST page of LeCun, Cortes and Burges).

A file is two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
int32, then the values, big-endian; often compressed with gzip.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from litesmith.data.dataset import Split
from litesmith.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PREFIXES = {"train": ("train",), "validation": ("validation", "val"), "test": ("t10k", "test")}


def load_idx(folder: Path) -> dict[str, Split]:
    """Read the splits in a folder of MNIST-format files, plain or `.gz`.

    Args:
        folder: holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and as a rule the
            same with `t10k` (or `test`); `validation` (or `val`) is taken where it is there.

    Returns:
        Splits by name. Images are float32, bytes scaled to 0…1, with the channel last (added
        where the file has none); labels are int64.

    Raises:
        DataError: a missing, truncated or malformed file.
    """
    if not folder.is_dir():
        raise DataError(
            f"idx:{folder}",
            expected="a folder",
            received="no such folder",
            fix="see that the path is right",
        )
    splits = {}
    for split, prefixes in _PREFIXES.items():
        images, labels = _find(folder, prefixes, "images"), _find(folder, prefixes, "labels")
        if images is None and labels is None and split != "train":
            continue
        if images is None or labels is None:
            missing = "images" if images is None else "labels"
            raise DataError(
                f"idx:{folder}",
                expected=f"{prefixes[0]}-{missing}-idx{3 if images is None else 1}-ubyte, "
                "plain or .gz",
                received=f"no such file among {len(list(folder.iterdir()))} in the folder",
                fix="put it there, or name another folder",
            )
        splits[split] = Split(_scaled(read_idx(images), images), _labels(labels))
    return splits


def read_idx(path: Path) -> np.ndarray:
    """Read one idx file.

    Raises:
        DataError: it is not of that format, or is cut short.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except EOFError as error:
        raise DataError(f"{path}: cut short", fix="fetch the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            str(path), expected="a gzip file", received=str(error), fix="fetch the file again"
        ) from error
    except OSError as error:
        raise DataError(
            str(path), expected="a readable file", received=str(error), fix="see who may read it"
        ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or not content[3]:
        raise DataError(
            str(path),
            expected="an idx file (two zero bytes, a type, a number of dimensions)",
            received=f"{content[:4].hex(' ')}" if content else "an empty file",
            fix="name a folder of MNIST-format files",
        )
    rank, dtype = content[3], np.dtype(_TYPES[content[2]])
    header = 4 + 4 * rank
    if len(content) < header:
        raise DataError(f"{path}: cut short", fix="fetch the file again")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    wanted = dtype.itemsize
    for size in shape:
        wanted *= size
    if len(content) - header != wanted:
        raise DataError(
            str(path),
            expected=f"{wanted} bytes of values for shape {shape}",
            received=f"{len(content) - header}",
            fix="fetch the file again",
        )
    return np.frombuffer(content, dtype, offset=header).reshape(shape)


def _find(folder: Path, prefixes: tuple[str, ...], what: str) -> Path | None:
    for prefix in prefixes:
        for separator in "-.":
            found = sorted(folder.glob(f"{prefix}-{what}{separator}idx*"))
            # A plain file next to its own .gz is the same data: the plain one is quicker.
            found.sort(key=lambda path: path.suffix == ".gz")
            if found:
                return found[0]
    return None


def _scaled(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim < 2:
        raise DataError(
            str(path),
            expected="samples of one dimension or more",
            received="a list of numbers",
            fix="name a folder of MNIST-format files",
        )
    scaled = values.astype(np.float32)
    if values.dtype == np.uint8:
        scaled /= 255
    return scaled[..., None] if scaled.ndim == 3 else scaled


def _labels(path: Path) -> np.ndarray:
    labels = read_idx(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            str(path),
            expected="one whole number a sample",
            received=f"{labels.dtype} of shape {labels.shape}",
            fix="see that it is the file of the labels",
        )
    return labels.astype(np.int64)
