"""Peak memory of a training step on 25 million weights, prepared ÷ plain Keras.

    python benchmarks/step_memory.py --make prune-0.8 cluster-16 cluster-256

ResNet50 at 64×64, batch 8, Adam; each model in a fresh process, which compiles and runs one step,
then sets the system's high-water mark back, and runs three more. What building and preparing have
freed is given back to the system before (`malloc_trim`). The figure is the mark after the steps,
the whole process included; `above` is what the marks come to above a process that has only
imported Keras. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from steps import RECIPES

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
SIDE, BATCH = 64, 8


def mark(name: str = "VmHWM") -> int:
    """Bytes of resident memory: the high-water mark, or what is resident now (`VmRSS`)."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def give_back() -> None:
    """Give back to the system what is no longer in use."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library that has no such thing
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def child(name: str) -> None:
    """Measure in this process; print one JSON line."""
    import keras
    import numpy as np

    import litesmith as ls

    rng = np.random.default_rng(0)
    x, y = rng.random((BATCH, SIDE, SIDE, 3), np.float32), rng.integers(0, 1000, BATCH)
    keras.ops.convert_to_numpy(keras.ops.ones(1))
    imported = mark("VmRSS")
    model = keras.applications.ResNet50(input_shape=(SIDE, SIDE, 3), weights=None)
    if name != "plain":
        model = ls.prepare(model, ls.Recipe.from_dict([RECIPES[name]]), steps=10_000)
    give_back()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    give_back()
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        model.train_on_batch(x, y)
    print(json.dumps({"peak": mark(), "above": mark() - imported, "weights": model.count_params()}))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", nargs="+", default=["prune-0.8"], choices=list(RECIPES))
    parser.add_argument("-o", "--output", type=Path, default=Path("build/step_memory.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    rows: dict[str, dict[str, float]] = {}
    print(f"{'':14} {'peak, MB':>9} {'÷ plain':>8} {'above, MB':>10} {'÷ plain':>8}")
    for name in ["plain", *options.make]:
        done = subprocess.run(
            [sys.executable, __file__, "--child", name],
            stdout=subprocess.PIPE,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
            text=True,
            check=True,
        )
        row = rows[name] = json.loads(done.stdout.strip().splitlines()[-1])
        plain = rows["plain"]
        print(
            f"{name:14} {row['peak'] / 1e6:9,.0f} {row['peak'] / plain['peak']:8.2f} "
            f"{row['above'] / 1e6:10,.0f} {row['above'] / plain['above']:8.2f}",
            flush=True,
        )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
