"""Peak memory of the whole way to an int8 `.tflite` of ResNet50 at 224×224, evaluated.

    python benchmarks/memory.py [--limit 6] -o build/memory

A fresh process makes `keras.applications.ResNet50` (25.6 million parameters, random weights), and
does prepare(Prune), strip, an int8 export calibrated on 100 images, and an evaluation of 1,000
images; all images are synthetic, and made batch by batch. The memory is the process's and its
children's together (`process_memory.py` says how it is read). Exits 1 where it is above the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import process_memory

SIDE, CLASSES, BATCH = 224, 1000, 20


def batches(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Noise, as ResNet50 takes it: colours less their mean."""
    rng = np.random.default_rng(seed)
    for _ in range(count // BATCH):
        x = rng.normal(0, 60, (BATCH, SIDE, SIDE, 3)).clip(-128, 151).astype("float32")
        yield x, rng.integers(0, CLASSES, BATCH)


def work(calibration: int, samples: int, folder: Path) -> dict[str, Any]:
    """Everything, in this process; says on standard output what it is at."""
    seconds: dict[str, float] = {}

    def phase(name: str) -> None:
        now = time.perf_counter()
        if seconds:
            last = next(reversed(seconds))
            seconds[last] = round(now - seconds[last], 1)
        seconds[name] = now
        print(json.dumps({"phase": name}), flush=True)

    phase("import")
    import keras

    import litesmith as ls

    phase("make")
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    phase("prepare")
    prepared = ls.prepare(model, ls.Prune(sparsity=0.8))
    phase("strip")
    small = ls.strip(prepared)
    phase("export int8")
    artifact = ls.export(
        small,
        folder / "resnet50.tflite",
        quantize="int8",
        calibration=batches(calibration, 1),
        calibration_samples=calibration,
    )
    phase("evaluate")
    result = ls.evaluate(artifact, batches(samples, 2))
    phase("end")
    del seconds["end"]
    return {
        "backend": keras.backend.backend(),
        "parameters": model.count_params(),
        "calibrated_on": artifact.manifest.calibration,
        "evaluated_on": result.samples,
        "file": artifact.path.stat().st_size,
        "zeros": sum(kernel.zeros for kernel in artifact.manifest.kernels),
        "seconds": seconds,
    }


def watched(command: list[str]) -> dict[str, Any]:
    """Run the work in a process of its own: what it found, and its memory by phase."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    result: dict[str, Any] = {}
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process,
        process_memory.Watch(process) as watch,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            if "phase" in said:
                watch.phase = said["phase"]
            else:
                result = said
    if process.returncode:
        sys.exit(process.returncode)
    return {**result, "peak": watch.peak, "phases": dict(watch.phases)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calibration", type=int, default=100)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=6.0, help="GiB")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/memory"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.child:
        print(json.dumps(work(options.calibration, options.samples, options.output)), flush=True)
        return
    result = watched([sys.executable, *sys.argv, "--child"])
    seconds = result["seconds"]
    print(f"{'phase':12} {'s':>7} {'GiB, process and children':>26}")
    for name, peak in result["phases"].items():
        print(f"{name:12} {seconds.get(name, 0):7.1f} {peak / 2**30:26.2f}")
    tree, own = (result["peak"][kind] / 2**30 for kind in ("tree", "process"))
    print(f"peak {tree:.2f} GiB (the process alone {own:.2f}), limit {options.limit:g} GiB")
    (options.output / "memory.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(tree > options.limit)


if __name__ == "__main__":
    main()
