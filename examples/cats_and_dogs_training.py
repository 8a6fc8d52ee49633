"""Cats and dogs, made small while training: pruning, clustering, quantization-aware training.

    python examples/cats_and_dogs_training.py --small    # digits, a minute or two
    python examples/cats_and_dogs_training.py            # needs litesmith[tfds], and better a GPU

docs/walkthroughs/cats-and-dogs-training.md goes through it step by step.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cats_and_dogs as shared
import keras

import litesmith as ls

DENSE = keras.layers.Dense

# What is done, and the preset that the file is written with.
VARIANTS: dict[str, tuple[ls.Recipe, str]] = {
    "pruned dense": (ls.Recipe(ls.Prune(sparsity=0.8, where=DENSE)), "float32"),
    "16 clusters": (ls.Recipe(ls.Cluster(clusters=16)), "float32"),
    "int8 dense": (ls.Recipe(ls.Quantize(where=DENSE)), "int8_float_io"),
    "int8 whole": (ls.Recipe(ls.Quantize()), "int8_float_io"),
}


def main(arguments: Sequence[str] | None = None) -> ls.Comparison:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="digits and a narrow network")
    parser.add_argument("--output", type=Path, default=Path("build/cats-and-dogs"))
    options = parser.parse_args(arguments)
    job = (shared.small if options.small else shared.full)(options.output)

    pictures = shared.load(job)
    model = shared.baseline(pictures, job)
    plain = ls.export(model, job.folder / "baseline.tflite")
    results = shared.measured(plain, pictures, job)
    some = pictures.train.take(200).x  # where ranges and clusters begin
    steps = job.tuning * -(-len(pictures.train) // job.batch)
    for name, (recipe, preset) in VARIANTS.items():
        keras.utils.set_random_seed(0)
        laid_out = recipe.laid_out(steps)  # schedules that end in time to recover
        prepared = ls.prepare(model, laid_out, steps=steps, calibration=some)
        print(prepared.report)
        shared.train(prepared, pictures, job, name, job.tuning, free=job.tuning // 2)
        small = ls.strip(prepared)
        artifact = ls.export(small, job.folder / f"{name}.tflite", quantize=preset)
        results += shared.measured(artifact, pictures, job)
    comparison = ls.compare(results)
    shared.tell(comparison, job, "training")
    return comparison


if __name__ == "__main__":
    main()
