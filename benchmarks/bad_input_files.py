"""Files that a user is likely to bring, good ones and bad ones, for `bad_input_cases.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 6, 3


def network(lambda_layer: bool = False) -> Any:
    """A classifier of 6×6×1 images, 139 parameters, all of its weights set."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 1), name="image")
    x = layers.ReLU(name="relu")(layers.Conv2D(4, 3, name="conv")(inputs))
    if lambda_layer:
        x = layers.Lambda(lambda value: value * 2, name="mine")(x)
    x = layers.Flatten(name="flat")(x)
    outputs = layers.Dense(CLASSES, activation="softmax", name="head")(x)
    return keras.Model(inputs, outputs, name="small")


def write_npz(path: Path, **changes: Any) -> None:
    """Data for `network`, with some of its arrays changed or (by None) left out."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, count in (("train", 48), ("val", 12), ("test", 18)):
        arrays[f"x_{name}"] = rng.random((count, SIDE, SIDE, 1), np.float32)
        arrays[f"y_{name}"] = np.arange(count) % CLASSES
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def make(folder: Path) -> None:
    """Write every file the cases name: `good.*`, and the bad ones."""
    import keras

    import litesmith

    rng = np.random.default_rng(1)
    model = network()
    model.save(folder / "good.keras")
    model.save(folder / "good.h5")
    litesmith.export(model, folder / "good.tflite")
    network(lambda_layer=True).save(folder / "lambda.keras")
    network(lambda_layer=True).save(folder / "lambda.h5")
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        kernel = keras.ops.convert_to_numpy(model.get_layer("head").kernel).copy()
        kept = kernel.copy()
        kernel[3, 1] = value
        model.get_layer("head").kernel.assign(kernel)
        for suffix in (".keras", ".h5"):
            model.save(folder / f"{name}{suffix}")
        model.get_layer("head").kernel.assign(kept)
        content = (folder / "good.tflite").read_bytes()
        place = content.index(kept[0].tobytes()) if kept[0].tobytes() in content else None
        if place is None:  # LiteRT keeps dense kernels transposed
            place = content.index(np.ascontiguousarray(kept.T)[0].tobytes())
        broken = bytearray(content)
        broken[place : place + 4] = np.float32(value).tobytes()
        (folder / f"{name}.tflite").write_bytes(broken)
    for suffix in (".keras", ".h5", ".tflite"):
        whole = (folder / f"good{suffix}").read_bytes()
        (folder / f"empty{suffix}").write_bytes(b"")
        (folder / f"half{suffix}").write_bytes(whole[: len(whole) // 2])
        (folder / f"cut{suffix}").write_bytes(whole[:-7])
        (folder / f"random{suffix}").write_bytes(rng.bytes(2000))
    header = (folder / "good.tflite").read_bytes()[:16]
    (folder / "header.tflite").write_bytes(header + rng.bytes(2000))
    (folder / "header_only.tflite").write_bytes(header)

    x = rng.random((48, SIDE, SIDE, 1), np.float32)
    write_npz(folder / "good.npz")
    bad_x = x.copy()
    bad_x[5, 2, 2] = np.nan
    write_npz(folder / "nan.npz", x_train=bad_x, x_test=bad_x, y_test=np.arange(48) % CLASSES)
    bad_x = np.where(np.isnan(bad_x), np.inf, bad_x)
    write_npz(folder / "infinite.npz", x_train=bad_x)
    write_npz(
        folder / "wide.npz",
        **{
            f"x_{name}": rng.random((count, SIDE, SIDE + 2, 1), np.float32)
            for name, count in (("train", 48), ("val", 12), ("test", 18))
        },
    )
    write_npz(folder / "none.npz", x_train=x[:0], y_train=np.arange(0))
    write_npz(folder / "no_test.npz", x_test=x[:0], y_test=np.arange(0))
    write_npz(
        folder / "high.npz",
        **{
            f"y_{name}": np.arange(count) % (CLASSES + 2)
            for name, count in (("train", 48), ("val", 12), ("test", 18))
        },
    )
    write_npz(folder / "negative.npz", y_train=np.arange(48) % CLASSES - 1)
    write_npz(folder / "unequal.npz", y_train=np.arange(40) % CLASSES)
    write_npz(folder / "nameless.npz", x_train=None)
    (folder / "empty.npz").write_bytes(b"")
    (folder / "random.npz").write_bytes(rng.bytes(500))
    (folder / "half.npz").write_bytes((folder / "good.npz").read_bytes()[:3000])
    (folder / "folder").mkdir()
    (folder / "disk").mkdir()
    (folder / "forbidden").mkdir(mode=0o555)
    for name in ("keras", "tflite", "npz"):
        (folder / f"locked.{name}").write_bytes((folder / f"good.{name}").read_bytes())
    study(folder, "locked")
    for path in folder.glob("locked.*"):
        path.chmod(0)
    (folder / "text.txt").write_text("a file\n")
    (folder / "garbage.toml").write_bytes(rng.bytes(400))
    (folder / "latin.toml").write_bytes("[model]\nsource = 'modèle.keras'\n".encode("latin-1"))
    (folder / "no.toml").write_text("model: {source: good.keras}\n")
    (folder / "empty.toml").write_text("")


STUDY = """\
[model]
source = "{model}"
[data]
source = "{data}"
calibration_samples = 16
{training}
[[variant]]
name = "one"
{variant}
"""
PRUNED = 'recipe = [{ technique = "prune", sparsity = 0.5 }]'


def study(
    folder: Path,
    name: str,
    model: str = "good.keras",
    data: str = "npz:good.npz",
    variant: str = "",
    training: str = "",
) -> str:
    """Write a study file; returns its path."""
    path = folder / f"{name.replace(' ', '-')}.toml"
    path.write_text(STUDY.format(model=model, data=data, variant=variant, training=training))
    return str(path)
