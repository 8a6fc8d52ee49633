"""`images:DIR`: folders of images, one a class, decoded when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from litesmith.data.dataset import Split
from litesmith.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
_CACHE_BYTES = 512 << 20
_ORIENTATION = 0x0112  # EXIF: from 5 on, width and height change places


class LazyImages:
    """Images of one size, as float32 0…1, channel last; see `LazyArray`.

    Decoded images stay in memory as bytes while all of them fit in 512 MB, so that only the first
    epoch decodes.

    Args:
        files: paths of the images.
        size: height and width in pixels; others are resized (bilinear, with antialiasing).
        channels: 1 for grey, 3 for colour.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, files: Sequence[Path], size: tuple[int, int], channels: int):
        self.files = list(files)
        self.shape: tuple[int, ...] = (len(self.files), *size, channels)
        self._cached = int(np.prod(self.shape, dtype=np.int64)) <= _CACHE_BYTES
        self._cache: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, part: Any) -> np.ndarray:
        chosen = np.arange(len(self))[part]
        if chosen.ndim == 0:
            return self._pixels(int(chosen)).astype(np.float32) / 255
        images = np.empty((len(chosen), *self.shape[1:]), np.float32)
        for place, index in enumerate(chosen):
            np.divide(self._pixels(int(index)), 255, out=images[place], dtype=np.float32)
        return images

    def fingerprint(self) -> bytes:
        """Class folder, name and size of every file, and the size they are brought to."""
        digest = hashlib.sha256(repr(self.shape).encode())
        for path in self.files:
            digest.update(f"{path.parent.name}/{path.name}:{path.stat().st_size};".encode())
        return digest.digest()

    def _pixels(self, index: int) -> np.ndarray:
        pixels = self._cache.get(index)
        if pixels is None:
            path = self.files[index]
            try:
                with Image.open(path) as image:
                    pixels = to_pixels(image, self.shape[1:3], self.shape[3])
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise DataError(
                    str(path), expected="a whole image", received=str(error), fix="replace the file"
                ) from error
            if self._cached:
                self._cache[index] = pixels
        return pixels


def to_pixels(image: Image.Image, size: Sequence[int], channels: int) -> np.ndarray:
    """An image as bytes of shape (height, width, channels), turned the way its EXIF says."""
    turned = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
    height, width = size
    if turned.size != (width, height):
        # Shrinking an encoded photograph by Pillow's bilinear takes every pixel into account.
        turned = turned.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(turned, np.uint8).reshape(height, width, channels)


def load_images(
    folder: Path, image_size: tuple[int, int] | None
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Find the images of a folder.

    Args:
        folder: holds a folder a class, or `train`, `val` and `test` that do.
        image_size: height and width; None keeps the images' own where all have the same.

    Returns:
        Splits by name, their `x` lazy, and the classes in label order (sorted folder names).

    Raises:
        DataError: no images, an image that cannot be opened, unequal sizes without `image_size`,
            a class that training does not have.
    """
    if not folder.is_dir():
        raise DataError(
            f"images:{folder}",
            expected="a folder",
            received="no such folder",
            fix="see that the path is right",
        )
    parts = {
        split: folder / name
        for split, names in _SPLITS.items()
        for name in names
        if (folder / name).is_dir()
    }
    if "train" not in parts:
        parts = {"train": folder}
    classes = tuple(sorted(path.name for path in parts["train"].iterdir() if _is_class(path)))
    if len(classes) < 2:
        raise DataError(
            f"images:{folder}",
            expected="two folders or more, one a class, with images in them",
            received=f"{len(classes)} in {parts['train']}",
            fix="put the images of each class into a folder of its own",
        )
    found = {split: _files(path, classes) for split, path in parts.items()}
    everything = [path for files, _ in found.values() for path in files]
    size, channels = _look(everything, image_size)
    splits = {
        split: Split(LazyImages(files, size, channels), np.asarray(labels, np.int64))
        for split, (files, labels) in found.items()
    }
    return splits, classes


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and any(_images_in(path))


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _files(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    files: list[Path] = []
    labels: list[int] = []
    for path in sorted(folder.iterdir()):
        if not _is_class(path):
            continue
        if path.name not in classes:
            raise DataError(
                f"images:{folder}",
                expected="the classes training has",
                received=f"the folder {path.name!r}",
                fix="remove it, or add it to the training folder",
            )
        images = _images_in(path)
        files += images
        labels += [classes.index(path.name)] * len(images)
    if not files:
        raise DataError(
            f"images:{folder}",
            expected="at least one image",
            received="none",
            fix="put images into the class folders",
        )
    return files, labels


def _look(files: list[Path], image_size: tuple[int, int] | None) -> tuple[tuple[int, int], int]:
    """Height, width and channels; reads every header, so that a broken file is found now."""
    sizes: dict[tuple[int, int], Path] = {}
    channels = 1
    for path in files:
        try:
            with Image.open(path) as image:
                width, height = image.size
                if _orientation(image) >= 5:
                    width, height = height, width
                mode = image.mode
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
            raise DataError(
                str(path),
                expected="an image Pillow can open",
                received=f"{_kind(path)}",
                fix="remove or replace the file",
            ) from error
        if mode.startswith(("I", "F")):
            raise DataError(
                str(path),
                expected="an image of 8 bits a channel",
                received=f"one of mode {mode}",
                fix="convert it first",
            )
        if mode not in ("1", "L"):
            channels = 3
        sizes.setdefault((height, width), path)
    if image_size is not None:
        return image_size, channels
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise DataError(
            "images",
            expected="one size, or image_size = [height, width]",
            received=f"{first[0]}×{first[1]} ({one.name}) and {second[0]}×{second[1]} "
            f"({other.name})",
            fix="set image_size",
        )
    return next(iter(sizes)), channels


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to look for a chunk at its end
    return int(image.getexif().get(_ORIENTATION, 1))


def _kind(path: Path) -> str:
    size = path.stat().st_size if path.exists() else 0
    return f"{size} bytes it does not know" if size else "an empty file"


__all__ = ["SUFFIXES", "LazyImages", "load_images", "to_pixels"]
