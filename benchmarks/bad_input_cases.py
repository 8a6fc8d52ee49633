"""Bad inputs that a user is likely to bring: the files, and the commands that are given them.

`bad_input.py` runs them in fresh processes; `tests/cli/test_cli_bad_input.py` runs most of them in
its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 6, 3


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what is wrong, and the command it is wrong for.
        arguments: of `litesmith`.
        telling: pieces that the line must have.
        plain: whether permissions must stop it, which they do not where the user is root.
        disk: kB of the disk at `disk/`; 0 for none.
    """

    name: str
    arguments: tuple[str, ...]
    telling: tuple[str, ...] = ()
    plain: bool = False
    disk: int = 0


# --- what is brought ------------------------------------------------------------------------------


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


# --- the cases ------------------------------------------------------------------------------------


def cases(folder: Path) -> list[Case]:
    """Every case; needs what `make` wrote, and writes the study files."""
    groups = (_models, _datasets, _settings, _outputs, _locked, _full)
    return [case for group in groups for case in group(folder)]


def _uses(folder: Path, model: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each command that opens a model, on one."""
    path = str(folder / model)
    data = ("--data", f"npz:{folder / 'good.npz'}")
    yield "inspect", ("inspect", path)
    yield "export", ("export", path, "-o", str(folder / "out.tflite"))
    yield "evaluate", ("evaluate", path, *data)
    yield "benchmark", ("benchmark", path, "--runs", "2", "--repeats", "1", "--warmup", "0")
    report = ("-o", str(folder / "report.html"))
    yield "compare", ("compare", str(folder / "good.tflite"), path, *data, *report)
    file = study(folder, f"model-{model}", model=path)
    yield "study", ("study", file, "-o", str(folder / "out"))


def _models(folder: Path) -> Iterator[Case]:
    kinds = ["missing", "empty", "half", "cut", "random"]
    files = [f"{kind}{suffix}" for suffix in (".keras", ".h5", ".tflite") for kind in kinds]
    files += ["header.tflite", "header_only.tflite", "lambda.keras", "lambda.h5"]
    files += [
        f"{kind}{suffix}" for kind in ("nan", "infinite") for suffix in (".keras", ".h5", ".tflite")
    ]
    files += ["folder", "text.txt"]
    for model in files:
        for command, arguments in _uses(folder, model):
            yield Case(f"{model}: {command}", arguments, (model,))
    yield Case(
        "good.tflite: study",
        ("study", study(folder, "tflite", model="good.tflite"), "-o", str(folder / "out")),
        (".tflite",),
    )


def _datasets(folder: Path) -> Iterator[Case]:
    wrong = {
        "nan": ("nan",),
        "wide": ("(6, 6, 1)", "6, 8, 1)"),
        "none": ("at least one sample",),
        "no_test": ("at least one sample",),
        "high": ("0 to 2",),
        "negative": ("-1",),
        "unequal": ("40 labels",),
        "nameless": ("x_train",),
        "missing": ("no such file",),
        "empty": ("empty.npz",),
        "random": ("random.npz",),
        "half": ("half.npz",),
    }
    for name, telling in wrong.items():
        data = f"npz:{folder / name}.npz"
        for model in ("good.keras", "good.tflite"):
            yield Case(
                f"{name}.npz: evaluate {model}",
                ("evaluate", str(folder / model), "--data", data),
                telling,
            )
        file = study(folder, f"data-{name}", data=data, variant=PRUNED)
        yield Case(f"{name}.npz: study", ("study", file, "-o", str(folder / "out")), telling)
        if name not in ("high", "no_test"):  # calibration takes no labels, and no test samples
            yield Case(
                f"{name}.npz: export int8",
                ("export", str(folder / "good.keras"), "-o", str(folder / "out.tflite"))
                + ("--quantize", "int8", "--calibration", data),
                telling,
            )
        yield Case(
            f"{name}.npz: compare",
            ("compare", str(folder / "good.tflite"), "--data", data)
            + ("-o", str(folder / "report.html")),
            telling,
        )
    for source, telling in {
        "digitz": "'digits'",
        "npz": "npz:FILE",
        "nzp:good.npz": "npz",
        "idx:folder": "idx",
        "images:folder": "images",
        "images:missing": "missing",
        "keras:mnits": "'mnist'",
        "text.txt": "module:function",
        "missing.py:load": "missing.py",
    }.items():
        place = source.replace("folder", str(folder / "folder"))
        yield Case(
            f"{source}: evaluate",
            ("evaluate", str(folder / "good.tflite"), "--data", place),
            (telling,),
        )
        file = study(folder, f"source-{re.sub(r'[^a-z]+', '-', source)}", data=place)
        yield Case(f"{source}: study", ("study", file, "-o", str(folder / "out")), (telling,))


def _settings(folder: Path) -> Iterator[Case]:
    def prune(text: str) -> str:
        return f'recipe = [{{ technique = "prune", {text} }}]'

    n_of_m = 'granularity = {{ type = "n_of_m", n = {}, m = {} }}'
    for name, variant, telling in (
        ("a technique", PRUNED.replace('"prune"', '"prun"'), "'prune'"),
        ("a field of a technique", PRUNED.replace("sparsity", "sparcity"), "'sparsity'"),
        ("a field of a variant", 'quantise = "int8"', "'quantize'"),
        ("a preset", 'quantize = "int9"', "'int8'"),
        ("a field of the training", "fine_tune = { epoch = 1 }", "'epochs'"),
        ("an optimizer", f"{PRUNED}\nfine_tune = {{ optimizer = 'adan' }}", "'adam'"),
        ("where matching nothing", prune('sparsity = 0.5, where = "hed"'), "head"),
        ("where that is no regex", prune('sparsity = 0.5, where = "(head"'), "where"),
        ("sparsity 1.5", prune("sparsity = 1.5"), "1.5"),
        ("sparsity -0.1", prune("sparsity = -0.1"), "-0.1"),
        ('sparsity "80"', prune('sparsity = "80"'), "80"),
        ("sparsity nan", prune("sparsity = nan"), "nan"),
        ("sparsity true", prune("sparsity = true"), "rue"),
        ("3 of 2", prune(n_of_m.format(3, 2)), "3"),
        ("a recipe that is a text", 'recipe = "prune"', "recipe"),
        ("a technique that is a text", 'recipe = ["prune"]', "recipe"),
        ("epochs below 0", "fine_tune = { epochs = -1 }", "-1"),
        ("a name that is no folder", 'name = "../one"', "one"),
    ):
        if variant.startswith("name"):
            file = study(folder, name)
            text = Path(file).read_text().replace('name = "one"', variant)
            Path(file).write_text(text)
        else:
            file = study(folder, name.replace('"', ""), variant=variant)
        yield Case(f"{name}: study", ("study", file, "-o", str(folder / "out")), (telling,))
    twice = study(folder, "twice", variant='[[variant]]\nname = "one"')
    yield Case(
        "two variants of one name: study", ("study", twice, "-o", str(folder / "out")), ("'one'",)
    )
    loss = study(folder, "loss")
    Path(loss).write_text(Path(loss).read_text().replace("[data]", 'loss = "mean"\n[data]'))
    yield Case("a loss: study", ("study", loss, "-o", str(folder / "out")), ("loss",))
    for name, telling in (
        ("garbage.toml", "garbage.toml"),
        ("latin.toml", "latin.toml"),
        ("no.toml", "TOML"),
        ("empty.toml", "model"),
        ("missing.toml", "no such file"),
        ("folder", "a folder"),
        ("good.keras", "good.keras"),
    ):
        yield Case(
            f"{name} as a study: study",
            ("study", str(folder / name), "-o", str(folder / "out")),
            (telling,),
        )
    good = (str(folder / "good.keras"), "-o", str(folder / "out.tflite"))
    yield Case("a preset: export", ("export", *good, "--quantize", "int9"), ("'int8'",))
    yield Case(
        "no calibration: export", ("export", *good, "--quantize", "int8"), ("--calibration",)
    )
    yield Case(
        "a metric: evaluate",
        ("evaluate", good[0], "--data", f"npz:{folder / 'good.npz'}", "--metric", "acuracy"),
        ("'accuracy'",),
    )
    yield Case(
        "a split: evaluate",
        ("evaluate", good[0], "--data", f"npz:{folder / 'good.npz'}", "--split", "tset"),
        ("'test'",),
    )
    yield Case(
        "an image size: evaluate",
        ("evaluate", good[0], "--data", f"images:{folder}", "--image-size", "96"),
        ("96x96",),
    )
    yield Case(
        "a drop: compare",
        ("compare", good[0], "--data", f"npz:{folder / 'good.npz'}", "--max-drop", "accuracy"),
        ("accuracy=0.01",),
    )
    yield Case(
        "the output's ending: export",
        ("export", good[0], "-o", str(folder / "out.bin")),
        (".tflite",),
    )
    yield Case(
        "the report's ending: compare",
        ("compare", good[0], "--data", f"npz:{folder / 'good.npz'}", "-o", str(folder / "out.pdf")),
        (".html",),
    )


def _outputs(folder: Path) -> Iterator[Case]:
    """Outputs that cannot be written: behind a file, in a place of the system's, forbidden."""
    data = ("--data", f"npz:{folder / 'good.npz'}")
    good = study(folder, "good")
    for name, place in {
        "behind a file": str(folder / "text.txt" / "out"),
        "in /proc": "/proc/out",
        "forbidden": str(folder / "forbidden" / "out"),
    }.items():
        plain = name == "forbidden"
        yield Case(f"{name}: study", ("study", good, "-o", place), ("out",), plain)
        yield Case(
            f"{name}: export",
            ("export", str(folder / "good.keras"), "-o", f"{place}/out.tflite"),
            ("out",),
            plain,
        )
        yield Case(
            f"{name}: compare",
            ("compare", str(folder / "good.tflite"), *data, "-o", f"{place}.html"),
            ("out",),
            plain,
        )
    yield Case(
        "a file as the folder: study", ("study", good, "-o", str(folder / "text.txt")), ("a file",)
    )
    (folder / "is_a_folder.tflite").mkdir(exist_ok=True)
    yield Case(
        "a folder as the file: export",
        ("export", str(folder / "good.keras"), "-o", str(folder / "is_a_folder.tflite")),
        ("folder",),
    )


def _locked(folder: Path) -> Iterator[Case]:
    """Files that may not be read."""
    good, data = str(folder / "good.keras"), f"npz:{folder / 'good.npz'}"
    out = ("-o", str(folder / "tmp" / "out"))
    for name, arguments in {
        "locked.keras: inspect": ("inspect", str(folder / "locked.keras")),
        "locked.keras: study": ("study", study(folder, "on", model="locked.keras"), *out),
        "locked.tflite: inspect": ("inspect", str(folder / "locked.tflite")),
        "locked.tflite: evaluate": ("evaluate", str(folder / "locked.tflite"), "--data", data),
        "locked.npz: evaluate": ("evaluate", good, "--data", f"npz:{folder / 'locked.npz'}"),
        "locked.toml: study": ("study", str(folder / "locked.toml"), *out),
    }.items():
        yield Case(name, arguments, (name.split(":")[0], "permission denied"), plain=True)


def _full(folder: Path) -> Iterator[Case]:
    """A disk without room: for anything, for a manifest, for a study's first files."""
    disk, told = folder / "disk", ("no space left on device", "free some space")
    data = ("--data", f"npz:{folder / 'good.npz'}")
    good, small = str(folder / "good.keras"), str(folder / "good.tflite")
    file = study(folder, "full", variant=PRUNED, training="[fine_tune]\nepochs = 1")
    yield Case("full disk: study", ("study", file, "-o", f"{disk}/new/out"), told, disk=4)
    yield Case("full later: study", ("study", file, "-o", f"{disk}/new/out"), told, disk=20)
    yield Case("full disk: export", ("export", good, "-o", f"{disk}/out.tflite"), told, disk=4)
    report = ("-o", f"{disk}/new/report.html")
    yield Case("full disk: compare", ("compare", small, *data, *report), told, disk=4)
