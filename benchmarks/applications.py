"""A technique on fourteen `keras.applications`: prepare, a few steps, strip, `.tflite`.

    python benchmarks/applications.py [--technique prune] [--only MobileNetV2] -o build/applications

Each model is 96×96, 10 classes, no last activation, random weights whose BatchNorm statistics some
training steps have settled. It gets a fresh process, and a file `OUT/TECHNIQUE/NAME.json`; what
is there already is not run again (unless `--again`). The table then shows

- `promise`: whether the technique's promise holds for every kernel, counted in the float and in the
  int8 `.tflite`; zeros promised and found in the float one, where it promises zeros;
- `float`: relative error of the float logits, ‖a − b‖ / ‖a‖, against the stripped Keras model;
- `int8`: signal to noise of the int8 logits (against the prepared model's, where that simulates
  the file) in dB, and, in parentheses, of what differs between
  images (logits less their mean over images; random weights differ little);
- seconds, and the peak memory of the process and its children (`process_memory.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import process_memory

NAMES = (
    "MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large EfficientNetB0 EfficientNetV2B0 "
    "ResNet50 ResNet50V2 DenseNet121 NASNetMobile InceptionV3 Xception VGG16 ConvNeXtTiny"
).split()
TECHNIQUES: dict[str, list[dict[str, Any]]] = {
    "prune": [{"technique": "prune", "sparsity": 0.8}],
    "cluster": [{"technique": "cluster", "clusters": 16}],
    "quantize": [{"technique": "quantize", "weights": 8, "activations": 8}],
}
TECHNIQUES["prune-cluster"] = TECHNIQUES["prune"] + TECHNIQUES["cluster"]
TECHNIQUES["prune-cluster-quantize"] = TECHNIQUES["prune-cluster"] + TECHNIQUES["quantize"]

SIDE, CLASSES, BATCH = 96, 10, 16
SETTLING, STEPS = 30, 10
CALIBRATION, COMPARED = 64, 64
# The statistics forget fast, so that few steps settle them; 0.8³⁰ is a thousandth.
MOMENTUM = 0.8


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth colour patterns, 0…255, tinted by their class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    coarse = rng.normal(0, 50, (count, SIDE // 8, SIDE // 8, 3))
    tints = np.random.default_rng(99).uniform(60, 195, (CLASSES, 1, 1, 3))
    smooth = (coarse + tints[labels]).repeat(8, axis=1).repeat(8, axis=2)
    noisy = smooth + rng.normal(0, 10, smooth.shape)
    return np.clip(noisy, 0, 255).astype("float32"), labels


def logit_errors(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Relative error, and signal to noise in dB: of the logits, and of what differs in them."""
    noise = float(np.sum((expected - found) ** 2))
    power = float(np.sum(expected**2))
    varying = float(np.sum((expected - expected.mean(axis=0)) ** 2))
    least = np.finfo(np.float32).tiny
    return {
        "relative_error": float(np.sqrt(noise / max(power, least))),
        "snr_db": float(10 * np.log10(max(power, least) / max(noise, least))),
        "snr_varying_db": float(10 * np.log10(max(varying, least) / max(noise, least))),
        "top1": float(np.mean(expected.argmax(axis=1) == found.argmax(axis=1))),
    }


def work(name: str, technique: str, folder: Path) -> dict[str, Any]:
    """Everything, for one model, in this process."""
    import keras

    import litesmith as ls
    from litesmith import models
    from litesmith.evaluation import predict
    from litesmith.testing import promises

    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal started
        seconds[what] = round(time.perf_counter() - started, 2)
        started = time.perf_counter()

    def train(model: keras.Model, steps: int, seed: int) -> None:
        # XLA would take minutes to compile the larger ones.
        jit = keras.backend.backend() == "jax"
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-4), loss, jit_compile=jit)
        x, y = images(steps * BATCH, seed)
        model.fit(preprocess(x), y, batch_size=BATCH, verbose=0)

    keras.utils.set_random_seed(0)
    made = getattr(keras.applications, name)
    preprocess = sys.modules[made.__module__].preprocess_input
    model = models.load(
        f"applications:{name}",
        {"input_shape": (SIDE, SIDE, 3), "classes": CLASSES, "classifier_activation": None},
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    train(model, SETTLING, seed=1)
    lap("settle")
    recipe = ls.Recipe.of(TECHNIQUES[technique])
    prepared = ls.prepare(model, recipe, steps=STEPS)
    lap("prepare")
    train(prepared, STEPS, seed=2)
    lap("fit")
    broken = list(promises.broken_in_model(prepared, recipe, finished=True))
    small = ls.strip(prepared)
    lap("strip")

    converted = ls.convert(small)
    lap("convert")
    as_float = ls.export(converted, folder / f"{name}.tflite")
    lap("float32")
    simulates = any(each.simulates for each in recipe)
    calibration = None if simulates else preprocess(images(CALIBRATION, 3)[0])
    as_int8 = ls.export(
        converted, folder / f"{name}-int8.tflite", quantize="int8", calibration=calibration
    )
    lap("int8")

    x = preprocess(images(COMPARED, 4)[0])
    expected = small.predict(x, batch_size=BATCH, verbose=0)
    # A model trained with the rounding of its file is what the integer file is compared with.
    simulated = prepared.predict(x, batch_size=BATCH, verbose=0) if simulates else expected
    result: dict[str, Any] = {
        "parameters": model.count_params(),
        "done": len(prepared.report.done),
        "skipped": len(prepared.report.skipped),
        "operators": sum(as_float.manifest.operators.values()),
        "zeros_promised": sum(entry.detail.get("zeros", 0) for entry in prepared.report.done),
    }
    for artifact in (as_float, as_int8):
        content = artifact.path.read_bytes()
        broken += promises.broken_in_file(prepared, recipe, converted, content)
    for form, artifact in (("float32", as_float), ("int8", as_int8)):
        stored = promises.kernels_in_file(converted, artifact.path.read_bytes())
        taken = {(entry.layer, entry.variable) for entry in prepared.report.done}
        reference = simulated if form == "int8" else expected
        result[form] = {
            **logit_errors(reference, predict(artifact, x)[0]),
            "zeros": sum(int((v == 0).sum()) for path, v in stored.items() if path in taken),
            "file": artifact.path.stat().st_size,
            "zip": artifact.manifest.size.zip,
            "float_operators": artifact.manifest.float_operators,
            "notes": list(artifact.manifest.notes),
        }
    lap("compare")
    return {**result, "broken": broken, "seconds": seconds}


def run(name: str, technique: str, folder: Path) -> dict[str, Any]:
    """One model in a process of its own: what it found, and what it took."""
    part = folder / f"{name}.part"
    began = time.perf_counter()
    command = [sys.executable, __file__, "--child", name, "--technique", technique]
    with (folder / f"{name}.log").open("w") as log:
        code, peak = process_memory.run(
            [*command, "-o", str(folder)],
            stdout=part.open("w"),
            stderr=log,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        )
    if code == 0:
        result = json.loads(part.read_text().splitlines()[-1])
    else:
        lines = [line for line in (folder / f"{name}.log").read_text().splitlines() if line.strip()]
        result = {"error": lines[-1].strip() if lines else f"exit code {code}"}
    part.unlink()
    result |= {"name": name, "wall": round(time.perf_counter() - began, 1), "peak": peak}
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def row(result: dict[str, Any]) -> str:
    """One line of the table."""
    head = f"{result['name']:17}"
    if "error" in result:
        return f"{head} FAILED: {result['error']}"
    whole, small = result["float32"], result["int8"]
    promise = f"{len(result['broken'])} BROKEN" if result["broken"] else "kept"
    left_float = sum(small["float_operators"].values())
    return (
        f"{head} {result['done']:4} {promise:>9} {result['zeros_promised']:11,} "
        f"{whole['zeros']:11,} {whole['relative_error']:8.1e}  "
        f"{small['snr_db']:5.1f} ({small['snr_varying_db']:5.1f}) "
        f"{100 * small['top1']:4.0f}% {left_float:5} {whole['file'] / 1e6:6.1f} "
        f"{small['file'] / 1e6:5.1f} {result['wall']:6.0f} {result['peak']['tree'] / 2**30:5.2f}"
    )


HEAD = (
    f"{'model':17} {'done':>4} {'promise':>9} {'zeros asked':>11} {'found':>11} {'float':>8}  "
    f"{'int8 SNR, dB':>13} {'top1':>5} {'float':>5} {'MB':>6} {'int8':>5} {'s':>6} {'GiB':>5}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--technique", choices=TECHNIQUES, default="prune")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--again", action="store_true", help="run also what was run already")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/applications"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        result = work(options.child, options.technique, options.output)
        print(json.dumps(result))
        return
    folder = options.output / options.technique
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    print(HEAD, flush=True)
    for name in options.only:
        file = folder / f"{name}.json"
        found = None if options.again or not file.exists() else json.loads(file.read_text())
        if found is None or "error" in found:
            found = run(name, options.technique, folder)
        results.append(found)
        print(row(found), flush=True)
    (folder / "applications.json").write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(any("error" in result or result["broken"] for result in results))


if __name__ == "__main__":
    main()
