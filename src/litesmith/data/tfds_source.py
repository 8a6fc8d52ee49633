"""`tfds:NAME`: TensorFlow Datasets, through its random-access reader; the extra `[tfds]`."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from litesmith.data.dataset import Split
from litesmith.data.images import to_pixels
from litesmith.errors import DataError

_SPLITS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


class LazyRecords:
    """The `key` feature of records read by index; see `LazyArray`.

    Args:
        records: `tfds.data_source` of one split.
        key: the feature that is the input.
        shape: of one sample.
        identity: name and version of the data set and split, for the fingerprint.
        is_image: whether samples are images: resized to `shape` and scaled to 0…1.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, records: Any, key: str, shape: tuple[int, ...], identity: str, is_image: bool
    ):
        self.records, self.key, self.identity, self.is_image = records, key, identity, is_image
        self.shape: tuple[int, ...] = (len(records), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: Any) -> np.ndarray:
        chosen = np.arange(len(self))[part]
        if chosen.ndim == 0:
            return self._sample(int(chosen))
        samples = np.empty((len(chosen), *self.shape[1:]), np.float32)
        for place, index in enumerate(chosen):
            samples[place] = self._sample(int(index))
        return samples

    def fingerprint(self) -> bytes:
        """Name, version and split: the catalogue promises that these do not change."""
        return hashlib.sha256(f"{self.identity}{self.shape}".encode()).digest()

    def _sample(self, index: int) -> np.ndarray:
        from PIL import Image

        value = np.asarray(self.records[index][self.key])
        if not self.is_image:
            return value.astype(np.float32)
        height, width, channels = self.shape[1:]
        image = Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value)
        return to_pixels(image, (height, width), channels).astype(np.float32) / 255


def load_tfds(
    name: str, image_size: tuple[int, int] | None
) -> tuple[dict[str, Split], tuple[str, ...] | None]:
    """A data set of TensorFlow Datasets that has (input, label) pairs; downloaded on first use.

    Args:
        name: as `tfds.data_source` takes it, such as `"mnist"` or `"cifar10:3.0.2"`.
        image_size: height and width; needed where the images are not all of one size.

    Returns:
        Splits by name, their `x` lazy, and the names of the classes or None.

    Raises:
        DataError: the package is not installed, no such data set, no pairs in it, or images of
            many sizes without `image_size`.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"tfds:{name}",
            expected="tensorflow-datasets",
            received="a Python without it",
            fix='install it with pip install "litesmith[tfds]"',
        ) from error
    try:
        builder = tfds.builder(name)
        builder.download_and_prepare(file_format="array_record")
        info = builder.info
        pairs = info.supervised_keys
        if not pairs or len(pairs) < 2 or not all(isinstance(key, str) for key in pairs[:2]):
            raise DataError(f"tfds:{name}", expected="a data set of (input, label) pairs")
        key, label_key = pairs[:2]
        feature, label = info.features[key], info.features[label_key]
        is_image = isinstance(feature, tfds.features.Image)
        shape = _sample_shape(name, feature.shape, is_image, image_size)
        splits = {}
        for split, choices in _SPLITS.items():
            found = next((choice for choice in choices if choice in info.splits), None)
            if found is None:
                continue
            records = builder.as_data_source(split=found)
            skip = {key: tfds.decode.SkipDecoding()} if is_image else None
            plain = builder.as_data_source(split=found, decoders=skip)
            labels = np.asarray([plain[index][label_key] for index in range(len(plain))])
            x = LazyRecords(records, key, shape, f"{info.full_name}/{found}", is_image)
            splits[split] = Split(x, labels)
    except DataError:
        raise
    except Exception as error:  # its own exceptions are many, and network errors come through it
        text = (str(error).strip().splitlines() or ["no message"])[0]
        raise DataError(
            f"tfds:{name} could not be read ({type(error).__name__}: {text[:160]})",
            fix="see that the name is in the catalogue and the network is there",
        ) from error
    if "train" not in splits:
        raise DataError(
            f"tfds:{name}", expected="a split named train", received=", ".join(info.splits)
        )
    return splits, tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else None


def _sample_shape(
    name: str,
    shape: tuple[int | None, ...],
    is_image: bool,
    image_size: tuple[int, int] | None,
) -> tuple[int, ...]:
    if is_image and image_size is not None:
        shape = (*image_size, shape[-1])
    fixed = tuple(size for size in shape if size is not None)
    if len(fixed) != len(shape):
        raise DataError(
            f"tfds:{name}",
            expected="samples of one shape",
            received=f"{shape}",
            fix="set image_size" if is_image else "choose another data set",
        )
    return fixed
