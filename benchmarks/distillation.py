"""A student of a quarter of the reference network's weights, alone and with a teacher.

    python benchmarks/fashion_mnist.py --seeds 3 -o build/fashion-mnist      # trains the teachers
    python benchmarks/distillation.py --teachers build/fashion-mnist -o build/distillation.json

Fashion-MNIST, ten epochs from scratch for both (eight at 1e-3, two at 1e-4, Adam, batch 128), the
same first weights and the same order of samples. The teacher is the baseline that a study of the
same seed trained. Accuracy on the test images after the last epoch; the validation images are shown
beside it, which the temperature was chosen on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

import litesmith as ls
from litesmith import data, models

BATCH = 128
HERE = Path(__file__).resolve().parent


def train(
    seed: int, dataset: data.Dataset, teacher: keras.Model | None, temperature: float, epochs: int
) -> dict[str, float]:
    """Train a student and measure it."""
    keras.utils.set_random_seed(seed)
    student = models.load("builtin:reference", {"width": 0.5})
    steps = -(-len(dataset.train) // BATCH)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [round(0.8 * epochs) * steps - 1], [1e-3, 1e-4]
    )
    with tempfile.TemporaryDirectory() as folder:
        trained: keras.Model = student
        if teacher is not None:
            trained = ls.Distiller(student, teacher, temperature=temperature, cache=folder)
        trained.compile(
            keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        keras.utils.set_random_seed(seed)
        batches = dataset.train.keras(BATCH, shuffle=True, seed=seed)
        trained.fit(batches, epochs=epochs, verbose=0)
    found = {
        name: 100 * ls.evaluate(student, getattr(dataset, name), metrics=["accuracy"])["accuracy"]
        for name in ("validation", "test")
    }
    return {**found, "weights": student.count_params()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", type=Path, default=Path("build/fashion-mnist"))
    parser.add_argument("--data", default=f"idx:{HERE.parent.parent}/shared/data/fashion-mnist")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/distillation.json"))
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        dataset = data.load(options.data, validation=1 / 6, seed=seed)
        teacher = keras.saving.load_model(options.teachers / f"seed-{seed}" / "baseline.keras")
        row = {"seed": seed, "teacher": ls.evaluate(teacher, dataset.test)["accuracy"] * 100}
        for name, by in (("alone", None), ("taught", teacher)):
            row[name] = train(seed, dataset, by, options.temperature, options.epochs)
        rows.append(row)
        alone, taught = row["alone"], row["taught"]
        print(
            f"seed {seed}: teacher {row['teacher']:.2f} %, alone {alone['test']:.2f} %, "
            f"taught {taught['test']:.2f} % ({taught['test'] - alone['test']:+.2f}; validation "
            f"{taught['validation'] - alone['validation']:+.2f}), {alone['weights']:,} weights",
            flush=True,
        )
    gains = [row["taught"]["test"] - row["alone"]["test"] for row in rows]
    print(f"gained: {statistics.mean(gains):+.3f} points, mean of {len(gains)} seeds")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
