"""Time of a training step and bytes of variables, prepared ÷ plain Keras, and stock ÷ plain.

    python benchmarks/steps.py --backends tensorflow jax --stock -o build/steps.json

Each network is trained in alternating rounds, plain and prepared, in one process a backend. A
round is a `fit` of some steps, so everything `fit` does counts; rounds are short, so that what else
the machine does strikes both alike. The ratio is the median of the rounds' ratios, the spread their
middle half; beside them stand the ratio of the fastest rounds and that of the processor time, which
other work on the machine changes less. The schedules run all through the
measurement, at their default frequency: a mask is made anew every 100 steps, as tfmot does.
With `--stock`, tfmot is measured the same way in an environment of its own, against plain
tf_keras. Variable bytes are the model's, without the optimizer's.

`Quantize` asks TensorFlow's converter what it will do. On a machine with a GPU and no TensorFlow,
`--models FOLDER` takes prepared models that another machine has left there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

NETWORKS = {"reference": ([28, 28, 1], 128), "mobilenet": ([96, 96, 3], 32)}
RECIPES = {
    "prune-0.8": {
        "technique": "prune",
        "sparsity": 0.8,
        "schedule": {"type": "polynomial", "end_step": 10_000},
    },
    "cluster-16": {"technique": "cluster", "clusters": 16},
    "cluster-256": {"technique": "cluster", "clusters": 256},
    "qat": {"technique": "quantize", "weights": 8, "activations": 8},
}
ALL = "all"  # prune 80 %, 16 clusters and eight bits at once
CHOICES = [*RECIPES, ALL]


def child(job: dict[str, Any]) -> None:
    """Measure in this process; print one JSON line."""
    import keras
    import numpy as np

    import litesmith as ls

    shape, batch = NETWORKS[job["network"]]
    rng = np.random.default_rng(0)
    x = rng.random((batch * job["steps"], *shape), np.float32)
    y = rng.integers(0, 10, len(x))
    if job["network"] == "reference":
        from litesmith.models import load

        plain = load("builtin:reference")
    else:
        plain = keras.applications.MobileNetV2(
            input_shape=tuple(shape), alpha=0.35, classes=10, weights=None
        )
    models = {"plain": plain}
    for name in job["make"]:
        parts = ["prune-0.8", "cluster-16", "qat"] if name == ALL else [name]
        recipe = ls.Recipe.from_dict([RECIPES[each] for each in parts])
        kept = Path(job["models"] or "", f"{job['network']}-{name}.keras")
        if job["models"] and kept.exists():
            models[name] = keras.saving.load_model(kept)
            continue
        models[name] = ls.prepare(plain, recipe, steps=10_000)
        if job["models"]:
            kept.parent.mkdir(parents=True, exist_ok=True)
            models[name].save(kept)
    for model in models.values():
        model.compile("adam", "sparse_categorical_crossentropy")
    times: dict[str, list[float]] = {name: [] for name in models}
    work: dict[str, list[float]] = {name: [] for name in models}
    # The first one compiles; ranges are looked at in each of the first ten steps.
    warm = -(-11 // job["steps"])
    for _ in range(warm + job["rounds"]):
        for name, model in models.items():
            began, used = time.perf_counter(), time.process_time()
            model.fit(x, y, batch_size=batch, verbose=0)
            work[name].append((time.process_time() - used) / job["steps"])
            times[name].append((time.perf_counter() - began) / job["steps"])
    rows = [
        {
            "name": name,
            "seconds": each[warm:],
            "processor": work[name][warm:],
            "bytes": _bytes(models[name]),
        }
        for name, each in times.items()
    ]
    print(json.dumps(rows))


def _bytes(model: Any) -> int:
    import math

    widths = {"bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "float16": 2, "bfloat16": 2}
    return sum(
        math.prod(v.shape) * widths.get(str(v.dtype), 8 if "64" in str(v.dtype) else 4)
        for v in model.variables
    )


def ours(backend: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure litesmith on one backend, in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(job)],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def ratios(rows: list[dict[str, Any]], tool: str, network: str) -> list[dict[str, Any]]:
    """Each technique against plain."""
    plain = rows[0]
    table = []
    for each in rows[1:]:
        single = [a / b for a, b in zip(each["seconds"], plain["seconds"], strict=True)]
        quartiles = statistics.quantiles(single)
        table.append(
            {
                "tool": tool,
                "network": network,
                "technique": each["name"],
                "step_ratio": statistics.median(single),
                "step_ratio_fastest": min(each["seconds"]) / min(plain["seconds"]),
                "processor_ratio": _processor(each, plain),
                "spread": [quartiles[0], quartiles[2]],
                "plain_ms": 1000 * statistics.median(plain["seconds"]),
                "bytes_ratio": each["bytes"] / plain["bytes"],
            }
        )
    return table


def _processor(rows: dict[str, Any], plain: dict[str, Any]) -> float | None:
    """Processor time ÷ plain, median; None where the tool does not tell it."""
    if "processor" not in rows:
        return None
    return statistics.median(
        a / b for a, b in zip(rows["processor"], plain["processor"], strict=True)
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--make", nargs="+", default=["prune-0.8"], choices=CHOICES)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--models", help="folder of prepared models: take or make them there")
    parser.add_argument("--stock", action="store_true", help="measure tfmot, too")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/steps.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(json.loads(options.child))
        return
    table = []
    print(
        f"{'tool':22} {'network':10} {'technique':12} {'plain':>8} {'step ÷':>7} {'fastest':>7}",
        end="",
    )
    print(f" {'cpu ÷':>7}  {'spread':13} {'bytes ÷':>7}")
    for network in options.networks:
        shape, batch = NETWORKS[network]
        job = {"network": network, "make": options.make}
        job |= {"steps": options.steps, "rounds": options.rounds, "models": options.models}
        runs = [(f"litesmith, {each}", partial(ours, each, job)) for each in options.backends]
        if options.stock:
            from stock import environment

            more = {**job, "measure": "steps", "shape": shape, "batch_size": batch}
            runs.append(("tfmot, tf_keras", partial(environment.run, more)))
        for tool, run in runs:
            for row in ratios(run(), tool, network):
                table.append(row)
                low, high = row["spread"]
                print(
                    f"{tool:22} {network:10} {row['technique']:12} {row['plain_ms']:5.1f} ms "
                    f"{row['step_ratio']:7.3f} {row['step_ratio_fastest']:7.3f} "
                    f"{row['processor_ratio'] or float('nan'):7.3f}  "
                    f"{low:5.2f} … {high:4.2f} {row['bytes_ratio']:7.3f}",
                    flush=True,
                )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
