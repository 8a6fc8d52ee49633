"""Bad inputs that a user is likely to bring: the commands that are given `bad_input_files.py`.

`bad_input.py` runs them in fresh processes; `tests/cli/test_cli_bad_input.py` runs most of them in
its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bad_input_files import PRUNED, study


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
