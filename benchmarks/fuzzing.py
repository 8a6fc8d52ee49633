"""Our reading paths, given files that were damaged: what each must end in, and what it did.

Whatever comes of a damaged file, the process that reads it must go on, and say either what is
wrong (a `LitesmithError`) or give a result. `fuzz.py` does this a thousand times for each kind of
file; `tests/` a few.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import mutations

from litesmith.children import Child
from litesmith.errors import ChildError, LitesmithError

KINDS = ("tflite", "keras", "study")
_SAMPLES = 4


@dataclass
class Outcome:
    """What came of one file.

    Attributes:
        steps: each path that was tried, and "valid", or the error's class.
        problem: an exception that is no `LitesmithError`, or not one line; None where all is well.
    """

    steps: dict[str, str] = field(default_factory=dict)
    problem: str | None = None

    def try_(self, step: str, work: Callable[[], Any]) -> Any:
        """Do one thing; returns its result, or None where it was refused."""
        try:
            result = work()
        except LitesmithError as error:
            self.steps[step] = type(error).__name__
            if isinstance(error.__cause__, ChildError) or isinstance(error, ChildError):
                self.steps[step] += " (a child process ended)"
            if "\n" in str(error) and self.problem is None:
                self.problem = f"{step}: several lines: {str(error)[:300]!r}"
            return None
        except Exception as error:  # noqa: BLE001  that is what is looked for
            self.problem = f"{step}: {type(error).__name__}: {str(error)[:300]}"
            self.steps[step] = "other exception"
            return None
        self.steps[step] = "valid"
        return result


class _Lasting(Child):
    """A child that outlives its use: to start a process takes longer than to read a file."""

    uses = 0

    def close(self) -> None:
        """Leave it running, if it still is."""
        if not self.alive or self.uses > 200:
            super().close()


_children: dict[tuple[str, str], _Lasting] = {}


def _lasting(module: str, **options: Any) -> _Lasting:
    key = module, str(options.get("environment"))
    child = _children.get(key)
    if child is None or child.uses > 200 or not child.alive:
        child = _children[key] = _Lasting(module, **options)
    child.timeout = options.get("timeout")
    child.uses += 1
    return child


@contextlib.contextmanager
def reused_children(seconds: float = 30.0) -> Iterator[None]:
    """Have the reading paths use child processes again, and wait for them no longer than this.

    A file that a child does not survive still ends it; the next file gets a new one.
    """
    from unittest import mock

    from litesmith.benchmarking import bench
    from litesmith.evaluation import litert_runner
    from litesmith.export import calibration, exporting
    from litesmith.models import files

    def child(module: str, **options: Any) -> _Lasting:
        return _lasting(module, **{**options, "timeout": seconds})

    with contextlib.ExitStack() as stack:
        for place, name in (
            (bench, "Child"),
            (litert_runner, "Child"),
            (files, "Child"),
            (calibration, "kept"),
            (exporting, "kept"),
        ):
            stack.enter_context(mock.patch.object(place, name, child))
        stack.enter_context(mock.patch.object(litert_runner, "_PATIENCE", seconds))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for each in _children.values():
                each.uses = 1000
                each.close()
            _children.clear()


# --- .tflite -------------------------------------------------------------------------------------


def _image_net() -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, name="deep")(x)
    x = layers.Dense(16, name="hidden")(layers.Flatten(name="flat")(x))
    outputs = layers.Dense(3, activation="softmax", name="head")(x)
    return keras.Model(inputs, outputs, name="image_net")


def _text_net() -> Any:
    import keras
    from keras import layers

    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.LSTM(4, name="lstm")(layers.Embedding(20, 4, name="words")(tokens))
    return keras.Model(tokens, layers.Dense(2, name="head")(x), name="text_net")


def tflite_seeds() -> list[bytes]:
    """Valid `.tflite` files of every kind we write; the last has loops."""
    import tempfile

    import litesmith

    model = _image_net()
    kernel = np.array(model.get_layer("hidden").kernel)
    kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.9)] = 0
    model.get_layer("hidden").kernel.assign(kernel)
    converted = litesmith.convert(model)
    x = np.random.default_rng(0).random((16, 8, 8, 1), np.float32)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.tflite"
        presets = ["float32", "float16", "dynamic_int8", "int8", "weight_int4"]
        options: list[dict[str, Any]] = [{"quantize": preset} for preset in presets]
        if "sparse" in inspect.signature(litesmith.export).parameters:
            options.append({"quantize": "float32", "sparse": True})
        for each in options:
            if each["quantize"] == "int8":
                each["calibration"] = x
            litesmith.export(converted, path, **each)
            found.append(path.read_bytes())
        litesmith.export(_text_net(), path)
        found.append(path.read_bytes())
    return found


def try_tflite(content: bytes, folder: Path) -> Outcome:
    """Everything we do with a `.tflite` that somebody brings."""
    from litesmith.benchmarking import benchmark
    from litesmith.cli import describe
    from litesmith.evaluation import evaluate
    from litesmith.export import export, flatbuffer

    path, outcome = folder / "damaged.tflite", Outcome()
    path.write_bytes(content)
    view = outcome.try_("read", lambda: flatbuffer.read(content))
    outcome.try_("inspect", lambda: describe.tflite(path))
    if view is None:
        return outcome
    graph = view.subgraphs[0]
    shapes = [graph.tensors[index].shape[1:] for index in graph.inputs]
    rng = np.random.default_rng(0)
    x = [
        rng.random((_SAMPLES, *shape), np.float32)
        if np.prod(shape, dtype=np.float64) < 1e6
        else np.zeros((_SAMPLES, 8, 8, 1), np.float32)
        for shape in shapes
    ]
    if any(graph.tensors[i].type in ("INT32", "INT64") for i in graph.inputs):
        x = [np.floor(each * 20).astype(np.int32) for each in x]
    y = np.arange(_SAMPLES) % 3
    outcome.try_("evaluate", lambda: evaluate(path, (x, y), num_threads=2))
    outcome.try_("benchmark", lambda: benchmark(path, runs=2, warmup=0, repeats=1))
    out = folder / "out.tflite"
    outcome.try_("export", lambda: export(path, out, quantize="dynamic_int8"))
    return outcome


# --- .keras --------------------------------------------------------------------------------------


def keras_seeds(folder: Path) -> list[bytes]:
    """Valid `.keras` files: plain, with a recurrent layer, and prepared by litesmith."""
    import litesmith

    found = []
    prepared = litesmith.prepare(_image_net(), litesmith.Recipe(litesmith.Prune(sparsity=0.5)))
    for model in (_image_net(), _text_net(), prepared):
        path = folder / "seed.keras"
        model.save(path)
        found.append(path.read_bytes())
    return found


def try_keras(content: bytes, folder: Path) -> Outcome:
    """Loading a model file that somebody brings."""
    import gc

    import keras

    from litesmith import models

    path, outcome = folder / "damaged.keras", Outcome()
    path.write_bytes(content)
    outcome.try_("load", lambda: models.load(path))
    keras.utils.clear_session(free_memory=False)
    gc.collect()
    return outcome


# --- study files ---------------------------------------------------------------------------------

_STUDY = """\
seed = 0

[model]
source = "model.keras"
loss = "auto"
metrics = ["accuracy"]

[data]
source = "npz:data.npz"
validation = 0.2
calibration_samples = 16

[fine_tune]
epochs = [1, 1]
learning_rate = [1e-3, 1e-4]
batch_size = 16
optimizer = "adam"

[[variant]]
name = "int8"
quantize = "int8"

[[variant]]
name = "pruned"
recipe = [{ technique = "prune", sparsity = 0.5, where = "head", schedule = { type = "polynomial", begin_step = 0, end_step = 10 } }]
fine_tune = { epochs = 2 }

[[variant]]
name = "two-four"
recipe = [{ technique = "prune", granularity = { type = "n_of_m", n = 2, m = 4 } }]
quantize = "float16"
"""  # noqa: E501


def study_seeds(folder: Path) -> list[bytes]:
    """A valid study file; what it names is written into the folder."""
    _image_net().save(folder / "model.keras")
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 32), ("test", 12)):
        arrays[f"x_{split}"] = rng.random((count, 8, 8, 1), np.float32)
        arrays[f"y_{split}"] = np.arange(count) % 3
    np.savez(folder / "data.npz", **arrays)
    return [_STUDY.encode()]


def try_study(content: bytes, folder: Path) -> Outcome:
    """Reading a study file and planning what it asks for; nothing is trained."""
    from litesmith.study import Study
    from litesmith.study.plan import make_plan

    path, outcome = folder / "damaged.toml", Outcome()
    path.write_bytes(content)
    study = outcome.try_("read", lambda: Study.load(path))
    if study is not None:
        outcome.try_("plan", lambda: make_plan(study))
    return outcome


# --- a run ---------------------------------------------------------------------------------------


class Fuzzer:
    """One kind of file: its seeds, how they are damaged, and what reads them.

    Args:
        kind: of `KINDS`.
        folder: for files.
        seeds: valid files; None has them made.
    """

    def __init__(self, kind: str, folder: Path, seeds: list[bytes] | None = None):
        self.kind, self.folder = kind, folder
        folder.mkdir(parents=True, exist_ok=True)
        if seeds is not None:
            self.seeds = seeds
        elif kind == "tflite":
            self.seeds = tflite_seeds()
        else:
            self.seeds = keras_seeds(folder) if kind == "keras" else study_seeds(folder)

    def content(self, number: int, seed: int = 0) -> bytes:
        """The damaged file of a number; the same every time."""
        rng = np.random.default_rng([seed, KINDS.index(self.kind), number])
        damage = {"tflite": mutations.damaged, "keras": mutations.archive, "study": mutations.text}
        return damage[self.kind](self.seeds[number % len(self.seeds)], rng)

    def run(self, content: bytes) -> Outcome:
        """Give a file to what reads its kind."""
        paths = {"tflite": try_tflite, "keras": try_keras, "study": try_study}
        return paths[self.kind](content, self.folder)


def counted(outcomes: list[dict[str, str]]) -> dict[str, dict[str, int]]:
    """For each path, how often it ended in what."""
    found: dict[str, Counter[str]] = {}
    for steps in outcomes:
        for step, ending in steps.items():
            found.setdefault(step, Counter())[ending] += 1
    return {step: dict(endings.most_common()) for step, endings in found.items()}


def backend() -> str:
    """The backend of this process."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")
