"""A study small enough to be run many times: three kinds of blobs, a network of 139 parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES, SIDE = 3, 6


def blobs(count, seed):
    """Images with a bright stripe whose place tells the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    x = rng.normal(0.2, 0.1, (count, SIDE, SIDE, 1)).astype(np.float32)
    for index, label in enumerate(y):
        x[index, 2 * label : 2 * label + 2] += 0.8
    return x, y.astype(np.int64)


def write_data(folder: Path) -> Path:
    path = folder / "blobs.npz"
    splits = {"train": (96, 1), "val": (30, 2), "test": (45, 3)}
    arrays = {}
    for name, (count, seed) in splits.items():
        arrays[f"x_{name}"], arrays[f"y_{name}"] = blobs(count, seed)
    np.savez(path, **arrays)
    return path


def network():
    """Not trained; its dropout shows whether seeds are kept apart."""
    import keras
    from keras import layers

    # Named, since Keras counts unnamed layers through the whole process.
    inputs = keras.Input((SIDE, SIDE, 1), name="image")
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(inputs)
    x = layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = layers.Dropout(0.1, name="drop")(layers.Flatten(name="flat")(layers.ReLU(name="relu")(x)))
    outputs = layers.Dense(CLASSES, activation="softmax", name="head")(x)
    return keras.Model(inputs, outputs, name="small")


MODULE = """
import sys
sys.path.insert(0, {root!r})
from tests.study.small import network
"""


def write_study(folder: Path, variants: str, *, baseline: bool = True) -> Path:
    """A study of `network` on blobs; trained by the study where `baseline`."""
    write_data(folder)
    (folder / "net.py").write_text(MODULE.format(root=str(Path(__file__).parents[2])))
    train = "[baseline]\nepochs = 4\nlearning_rate = 1e-2\nbatch_size = 16\n" if baseline else ""
    path = folder / "study.toml"
    path.write_text(
        '[model]\nsource = "net.py:network"\n'
        '[data]\nsource = "npz:blobs.npz"\ncalibration_samples = 32\n'
        f"{train}[fine_tune]\nepochs = 2\nbatch_size = 16\n{variants}"
    )
    return path


PRUNED = '[[variant]]\nname = "pruned"\nrecipe = [{ technique = "prune", sparsity = 0.5 }]\n'
INT8 = '[[variant]]\nname = "int8"\nquantize = "int8"\n'
HALF = '[[variant]]\nname = "half"\nquantize = "float16"\n'
