"""Weights stored without their zeros: what the file, loading and memory become.

    python benchmarks/sparse.py -o build/sparse.json

Two networks, pruned once to 90 % zeros among all kernels but the depthwise ones and not trained
after that: the reference network (28×28×1; `--reference` takes a trained `.keras` of it) and
MobileNetV2 (96×96×3, 1,000 classes, random weights whose BatchNorm statistics some batches have
settled). For each preset the file is written dense and sparse; the table shows both, in bytes, as
they are and after zlib level 9; the time to load and the median latency (the fastest of
alternating fresh processes: other work on the machine only adds to them); the peak memory above an
empty process (their median); and whether the outputs for 256 random inputs are equal, bit for bit,
alone and in batches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import litesmith as ls
from litesmith import evaluation, models
from litesmith.benchmarking import benchmark
from litesmith.export import calibrate, convert

PRESETS = ("float32", "float16", "weight_int8", "int8", "dynamic_int8")
SPARSITY, SAMPLES, SETTLING = 0.9, 256, 20


def settled(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """Let batches of noise set the BatchNorm statistics, so that outputs are no constant."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8
    for _ in range(SETTLING):
        model(rng.random((16, *shape), np.float32) * 2 - 1, training=True)
    return model


def network(name: str, path: str | None) -> tuple[keras.Model, tuple[int, ...], Any]:
    """A model, the shape of its input, and what its weights are ranked in."""
    keras.utils.set_random_seed(0)
    if name == "reference":
        shape: tuple[int, ...] = (28, 28, 1)
        if path is not None:
            return keras.saving.load_model(path), shape, "global"
        return settled(models.load("builtin:reference"), shape), shape, "layer"
    shape = (96, 96, 3)
    # Random weights ranked globally would lose whole layers.
    model = keras.applications.MobileNetV2(input_shape=shape, weights=None)
    return settled(model, shape), shape, "layer"


def measured(paths: dict[str, Path], rounds: int, runs: int) -> dict[str, dict[str, Any]]:
    """Load time, memory and latency of two files, in turns."""
    found: dict[str, list[Any]] = {kind: [] for kind in paths}
    for _ in range(rounds):
        for kind, path in paths.items():
            found[kind].append(benchmark(path, repeats=1, runs=runs))
    return {
        kind: {
            **each[0].size,
            "load_ms": min(one.load_ms for one in each),
            "load_ms_all": [one.load_ms for one in each],
            "peak_rss": statistics.median(one.memory["peak_rss"] for one in each),
            "arena": each[0].memory["arena"],
            "latency_ms": min(one.latency_ms["p50"] for one in each),
        }
        for kind, each in found.items()
    }


def same(paths: dict[str, Path], inputs: np.ndarray) -> bool:
    """Whether two files give the same bits, one sample at a time and in batches."""
    dense, sparse = (
        [evaluation.predict(str(path), data)[0] for data in (inputs, inputs[:8])]
        + [evaluation.predict(str(path), inputs[i : i + 1])[0] for i in range(4)]
        for path in paths.values()
    )
    return all(a.tobytes() == b.tobytes() for a, b in zip(dense, sparse, strict=True))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", help="a trained .keras of builtin:reference")
    parser.add_argument("--only", choices=("reference", "MobileNetV2"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/sparse.json"))
    options = parser.parse_args()
    rows = []
    for name in ("reference", "MobileNetV2"):
        if options.only not in (None, name):
            continue
        model, shape, ranking = network(name, options.reference)
        technique = ls.Prune(sparsity=SPARSITY, ranking=ranking)
        small = ls.strip(ls.prepare(model, ls.Recipe(technique)))
        source = convert(small)
        inputs = np.random.default_rng(1).random((SAMPLES, *shape), np.float32) * 2 - 1
        ranges = calibrate(source, inputs[:64])
        print(f"\n{name}, {model.count_params():,} parameters")
        print(
            f"{'':14}{'dense':>11}{'sparse':>11}{'':8}{'zip: dense':>12}{'sparse':>10}"
            f"{'load, ms':>16}{'peak memory, kB':>18}{'latency, ms':>18}  outputs"
        )
        for preset in PRESETS:
            with tempfile.TemporaryDirectory() as folder:
                paths = {kind: Path(folder) / f"{kind}.tflite" for kind in ("dense", "sparse")}
                for kind, path in paths.items():
                    artifact = ls.export(
                        source,
                        path,
                        quantize=preset,
                        calibration=ranges,
                        sparse=kind == "sparse",
                    )
                figures = measured(paths, options.rounds, options.runs)
                equal = same(paths, inputs)
            told = artifact.manifest.sparse
            assert told is not None
            kernels = artifact.manifest.kernels
            row = {
                "network": name,
                "preset": preset,
                "zeros": sum(k.zeros for k in kernels) / sum(k.size for k in kernels),
                "stored_sparse": len(told.tensors),
                "left_dense": [each.model_dump() for each in told.dense],
                "identical": equal,
                **figures,
            }
            rows.append(row)
            a, b = figures["dense"], figures["sparse"]
            print(
                f"{preset:14}{a['file']:11,}{b['file']:11,}{a['file'] / b['file']:7.1f}×"
                f"{a['zip']:12,}{b['zip']:10,}{a['load_ms']:9.1f} → {b['load_ms']:4.1f}"
                f"{a['peak_rss'] / 1000:10,.0f} →{b['peak_rss'] / 1000:6,.0f}"
                f"{a['latency_ms']:9.3f} → {b['latency_ms']:6.3f}"
                f"  {'identical' if equal else 'DIFFERENT'}; {len(told.tensors)} sparse,"
                f" {len(told.dense)} cannot be",
                flush=True,
            )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
