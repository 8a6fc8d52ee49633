"""A teacher's answers to a whole set of samples, in memory or in files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from litesmith import files
from litesmith.errors import DataError, OutputError
from litesmith.parametrize import listening

# Of the free space on a disk, the share that answers may take.
_SHARE = 0.9


class Answering(keras.Model):
    """A model, and what layers inside it give, as one list of outputs.

    Args:
        model: whose answers they are; called in inference.
        layers: of it.
    """

    def __init__(self, model: keras.Model, layers: Sequence[keras.layers.Layer]):
        super().__init__(name=f"{model.name}_answering")
        self.model = model
        # A list of layers would be tracked, and saved, a second time.
        object.__setattr__(self, "heard_layers", tuple(layers))
        self.built = True

    def call(self, inputs: Any) -> list[Any]:
        """Outputs, flat, then features."""
        with listening(self.heard_layers) as heard:
            outputs = self.model(inputs, training=False)
        return [*keras.tree.flatten(outputs), *heard]


def key_of(teacher: keras.Model, samples: Any, layers: Sequence[str]) -> str:
    """What tells answers from others: the teacher's weights, the samples, the layers asked.

    Args:
        teacher: the model.
        samples: arrays, in any structure, or with a `fingerprint()`.
        layers: whose outputs are kept beside the model's.
    """
    digest = hashlib.sha256(json.dumps(list(layers)).encode())
    config = keras.saving.serialize_keras_object(teacher)
    digest.update(json.dumps(config, default=str, sort_keys=True).encode())
    for weight in teacher.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    for array in keras.tree.flatten(samples):
        if hasattr(array, "fingerprint"):
            digest.update(array.fingerprint())
            continue
        digest.update(f"{array.shape}{array.dtype}".encode())
        for start in range(0, len(array), 4096):  # a memory-mapped one is not read whole
            digest.update(np.ascontiguousarray(array[start : start + 4096]).tobytes())
    return digest.hexdigest()[:24]


def answer(
    teacher: keras.Model,
    samples: Any,
    layers: Sequence[tuple[str, keras.layers.Layer]],
    cache: str | os.PathLike[str],
    batch_size: int,
) -> list[np.ndarray]:
    """The teacher's answers to samples, kept in files and read from there, mapped into memory.

    Args:
        teacher: the model; in inference.
        samples: arrays, or a structure of arrays, [samples, …].
        layers: names and layers of the teacher whose outputs are kept, too.
        cache: a folder; answers of another teacher, or to other samples, lie beside.
        batch_size: samples at a time.

    Returns:
        One array an output and layer, [samples, …], of the teacher's type of number.

    Raises:
        OutputError: the folder cannot be written, or the answers do not fit on the disk.
    """
    root = Path(cache)
    if root.exists() and not root.is_dir():
        raise OutputError(
            str(root), expected="a folder for the teacher's answers", received="a file"
        )
    files.check_folder(root)
    folder = root / key_of(teacher, samples, [name for name, _ in layers])
    about = folder / "answers.json"
    if not about.is_file():
        _compute(teacher, samples, [layer for _, layer in layers], folder, batch_size)
    count = json.loads(about.read_text())["arrays"]
    return [np.load(folder / f"{number}.npy", mmap_mode="r") for number in range(count)]


def _compute(
    teacher: keras.Model,
    samples: Any,
    layers: Sequence[keras.layers.Layer],
    folder: Path,
    batch_size: int,
) -> None:
    """Write the answers: each file appears whole, and what says that all are there comes last."""
    total = length(samples)
    answering = Answering(teacher, layers)
    answering.compile(jit_compile=False)
    first = _batch(answering, samples, 0, batch_size)
    size = sum(each[:1].nbytes for each in first) * total
    made = files.make_folder(folder)
    free = shutil.disk_usage(folder).free
    if size > _SHARE * free:
        files.remove_empty(made)
        raise OutputError(
            str(folder.parent),
            expected=f"{size / 1e6:,.0f} MB of free space for the teacher's answers",
            received=f"{free / 1e6:,.0f} MB",
            fix="name another place, or leave cache out: the teacher then answers as it goes",
        )
    with contextlib.ExitStack() as stack:
        arrays = []
        for number, each in enumerate(first):
            path = stack.enter_context(files.atomic(folder / f"{number}.npy"))
            shape = (total, *each.shape[1:])
            arrays.append(np.lib.format.open_memmap(path, "w+", each.dtype, shape))
        for start in range(0, total, batch_size):
            batch = first if start == 0 else _batch(answering, samples, start, batch_size)
            for array, each in zip(arrays, batch, strict=True):
                array[start : start + len(each)] = each
        for array in arrays:
            array.flush()
    files.write_text(folder / "answers.json", json.dumps({"arrays": len(first), "samples": total}))


def _batch(answering: Answering, samples: Any, start: int, size: int) -> list[np.ndarray]:
    part = np.arange(start, min(start + size, length(samples)))
    return [np.asarray(each) for each in answering.predict_on_batch(at(samples, part))]


def at(samples: Any, part: np.ndarray) -> Any:
    """The samples at some places, in the structure they are in."""
    return keras.tree.map_structure(lambda array: np.asarray(array[part]), samples)


def length(samples: Any) -> int:
    """How many samples there are.

    Raises:
        DataError: arrays of unequal length.
    """
    lengths = {len(array) for array in keras.tree.flatten(samples)}
    if len(lengths) != 1:
        raise DataError(
            "distiller", expected="arrays of one length", received=f"lengths {sorted(lengths)}"
        )
    return lengths.pop()


class Taught(keras.utils.PyDataset):
    """Batches of samples, each with the teacher's answers to it.

    Args:
        samples: structure of arrays, [samples, …].
        labels: likewise, or None.
        weights: of the samples in the labels' loss, or None.
        answers: of the teacher.
        batch_size: samples a batch; the last one may be smaller.
        shuffle: whether every epoch has an order of its own.
        seed: of those orders.
    """

    def __init__(
        self,
        samples: Any,
        labels: Any,
        weights: Any,
        answers: Sequence[np.ndarray],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
    ):
        super().__init__(workers=1, use_multiprocessing=False)
        self.samples, self.labels, self.weights = samples, labels, weights
        self.answers, self.batch_size = list(answers), batch_size
        self.shuffle, self.seed, self._epoch = shuffle, seed, 0
        self._order = self._draw()

    def __len__(self) -> int:
        return -(-length(self.samples) // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        part = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs = packed(at(self.samples, part), at(self.answers, part))
        if self.labels is None:
            return (inputs,)
        labels = at(self.labels, part)
        batch = (inputs, tuple(labels) if isinstance(labels, list) else labels)
        return batch if self.weights is None else (*batch, at(self.weights, part))

    def on_epoch_end(self) -> None:
        """Keras calls this between epochs."""
        self._epoch += 1
        self._order = self._draw()

    def _draw(self) -> np.ndarray:
        count = length(self.samples)
        if not self.shuffle:
            return np.arange(count)
        return np.random.default_rng([self.seed, self._epoch]).permutation(count)


_SAMPLES, _SEVERAL, _ANSWERS = "litesmith_samples", "litesmith_several", "litesmith_answers"


def packed(samples: Any, answers: Sequence[Any]) -> dict[str, Any]:
    """A batch and its answers as one structure; of dicts alone, for the sake of `tf.data`.

    Args:
        samples: what the model takes.
        answers: the teacher's.
    """
    if isinstance(samples, list | tuple):
        return {_SEVERAL: _numbered(samples), _ANSWERS: _numbered(answers)}
    return {_SAMPLES: samples, _ANSWERS: _numbered(answers)}


def unpacked(inputs: Any) -> tuple[Any, list[Any] | None]:
    """What `packed` made one of; other inputs as they are, and None."""
    if not isinstance(inputs, Mapping) or _ANSWERS not in inputs:
        return inputs, None
    answers = list(inputs[_ANSWERS].values())
    if _SEVERAL in inputs:
        return list(inputs[_SEVERAL].values()), answers
    return inputs[_SAMPLES], answers


def _numbered(parts: Sequence[Any]) -> dict[str, Any]:
    return {f"{number:04d}": part for number, part in enumerate(parts)}
