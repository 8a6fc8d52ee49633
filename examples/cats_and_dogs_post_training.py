"""Cats and dogs, made small after training: no step of training more.

    python examples/cats_and_dogs_post_training.py --small    # digits instead of pictures
    python examples/cats_and_dogs_post_training.py            # needs litesmith[tfds]

docs/walkthroughs/cats-and-dogs-post-training.md goes through it step by step.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cats_and_dogs as shared

import litesmith as ls


def main(arguments: Sequence[str] | None = None) -> ls.Comparison:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="digits and a narrow network")
    parser.add_argument("--output", type=Path, default=Path("build/cats-and-dogs"))
    options = parser.parse_args(arguments)
    job = (shared.small if options.small else shared.full)(options.output)

    pictures = shared.load(job)
    model = shared.baseline(pictures, job)
    source = ls.convert(model)  # once, for all four files
    ranges = ls.calibrate(source, pictures.train.take(100).x, samples=100)
    folder = job.folder
    artifacts = [
        ls.export(source, folder / "baseline.tflite"),
        ls.export(source, folder / "float16.tflite", quantize="float16"),
        ls.export(source, folder / "dynamic.tflite", quantize="dynamic_int8"),
        ls.export(
            source,
            folder / "full integer.tflite",
            quantize="int8",
            calibration=ranges,
            io_dtype="uint8",
        ),
    ]
    results = []
    for artifact in artifacts:
        ports = artifact.manifest.inputs + artifact.manifest.outputs
        print(artifact.path, *(f"{port.name}: {port.dtype}" for port in ports), sep="\n  ")
        results += shared.measured(artifact, pictures, job)
    comparison = ls.compare(results)
    shared.tell(comparison, job, "post-training")
    return comparison


if __name__ == "__main__":
    main()
