"""How much faster `evaluate` runs a `.tflite` than one sample per `invoke`.

    python benchmarks/evaluation.py [model.tflite …] [--samples 2000] [--rounds 5]

Without files: the reference network and MobileNetV2 at 96×96, random weights, float32 and int8.
Both ways run in turn, and the fastest round of each counts: a busy machine slows the way that
uses more cores the most. One sample per `invoke` is a loop in this process, one thread, as the
guides have it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from litesmith.evaluation.litert_runner import LitertRunner


def one_by_one(path: str, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds and outputs of the plain loop."""
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = given["quantization"]
    outputs = []
    began = time.perf_counter()
    for sample in x:
        one = sample[None]
        if scale:
            limits = np.iinfo(given["dtype"])
            one = np.clip(np.rint(one / np.float32(scale)) + zero, limits.min, limits.max)
        interpreter.set_tensor(given["index"], one.astype(given["dtype"], copy=False))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(got["index"]))
    seconds = time.perf_counter() - began
    scale, zero = got["quantization"]
    whole = np.concatenate(outputs).astype(np.float32)
    return seconds, (whole - zero) * np.float32(scale) if scale else whole


def make(folder: Path) -> list[str]:
    """The models that are measured where none is named."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import litesmith as ls
    from litesmith import models

    sources = {
        "reference": ("builtin:reference", None, (28, 28, 1)),
        "mobilenet-v2": (
            "applications:MobileNetV2",
            {"input_shape": (96, 96, 3), "weights": None},
            (96, 96, 3),
        ),
    }
    paths = []
    for name, (source, arguments, shape) in sources.items():
        converted = ls.convert(models.load(source, arguments))
        x = np.random.default_rng(0).random((32, *shape), np.float32)
        for preset in ("float32", "int8"):
            path = folder / f"{name}-{preset}.tflite"
            calibration = x if preset == "int8" else None
            ls.export(converted, path, quantize=preset, calibration=calibration)
            paths.append(str(path))
    return paths


def main() -> None:
    """Measure each file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/evaluation.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(path, options) for path in options.models or make(Path(folder))]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")


def measure(path: str, options: argparse.Namespace) -> dict[str, Any]:
    """Print one file's line, and return its figures."""
    with LitertRunner(path) as model:
        shape = [size or 1 for size in (model.inputs[0].shape or ())[1:]]
        rng = np.random.default_rng(0)
        x = rng.random((options.samples, *shape), np.float32)
        if np.dtype(model.inputs[0].dtype).kind in "iu" and model.inputs[0].scale is None:
            x = np.zeros_like(x)  # token ids
        model.predict(x[: model.batch_size])
        ours, plain = [], []
        for _ in range(options.rounds):
            began = time.perf_counter()
            mine = model.predict(x)[0]
            ours.append(time.perf_counter() - began)
            seconds, theirs = one_by_one(path, x)
            plain.append(seconds)
        row = {"model": Path(path).name, "one_by_one": plain, "evaluate": ours}
        row["largest_difference"] = float(np.abs(mine - theirs).max())
        print(
            f"{Path(path).name}: one by one {min(plain):.3f} s, evaluate {min(ours):.3f} s, "
            f"{min(plain) / min(ours):.2f}× (median "
            f"{np.median(plain) / np.median(ours):.2f}×), batched {model.batched}, "
            f"largest difference {row['largest_difference']:.2g}",
            flush=True,
        )
        return row


if __name__ == "__main__":
    main()
