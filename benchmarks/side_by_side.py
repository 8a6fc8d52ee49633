"""Points lost by stock tools and by litesmith, from the same trained baselines, in one run.

    python benchmarks/side_by_side.py --seeds 3 -o build/fashion-mnist

The network, data, epochs and seeds are those of `fashion_mnist.py`, whose studies are run (or
resumed) first. The stock tools — tfmot 0.8.1 with tf_keras, the TFLite converter's own presets —
run in an environment of their own, which is made in `build/`, and start from the very weights of
each study's baseline. The table shows the baseline, the baseline trained as much longer (by either
side's fine-tuning policy), stock, and ours: test accuracy of the `.tflite`, mean over the seeds,
and the points each seed lost. The same goes to `side_by_side.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import fashion_mnist
import keras
import numpy as np
from stock import environment

import litesmith as ls
from litesmith import data
from litesmith.study import Study, training
from litesmith.study.file import FINE_TUNE_POLICY

# Stock's variant, and the study's that it is compared with.
PAIRS = {
    "float16": "float16",
    "dynamic": "dynamic",
    "int8": "int8",
    "prune-0.5": "pruned-50",
    "prune-0.8": "pruned-80",
    "prune-0.9": "pruned-90",
}


def hand_over(study: Path, folder: Path) -> dict[str, str]:
    """The baseline's weights and the data as files the stock tools can read."""
    loaded = Study.load(folder / f"{study.name}.toml")
    splits = data.load(
        loaded.data.source, validation=loaded.data.validation, seed=loaded.seed, root=loaded.root
    )
    arrays = {}
    for name in ("train", "test"):
        split = getattr(splits, name)
        arrays[f"x_{name}"], arrays[f"y_{name}"] = np.asarray(split.x), np.asarray(split.y)
    np.savez(study / "stock-data.npz", **arrays)
    model = keras.saving.load_model(study / "baseline.keras")
    weights, counts = {}, {}
    made = sorted((layer for layer in model.layers if layer.weights), key=_number)
    for layer in made:
        kind = type(layer).__name__
        place = counts.get(kind, 0)
        counts[kind] = place + 1
        for index, value in enumerate(layer.get_weights()):
            weights[f"{kind}/{place}/{index}"] = value
    np.savez(study / "stock-weights.npz", **weights)
    return {
        "data": str((study / "stock-data.npz").resolve()),
        "weights": str((study / "stock-weights.npz").resolve()),
    }


def _number(layer: Any) -> int:
    tail = layer.name.rpartition("_")[2]
    return int(tail) if tail.isdigit() else 0


def longer(study: Path, folder: Path, seed: int) -> float:
    """Test accuracy of the baseline after our fine-tuning policy, with no technique."""
    loaded = Study.load(folder / f"{study.name}.toml")
    splits = data.load(
        loaded.data.source, validation=loaded.data.validation, seed=loaded.seed, root=loaded.root
    )
    model = keras.saving.load_model(study / "baseline.keras")
    training.fit(
        model,
        splits,
        loaded.fine_tune.over(FINE_TUNE_POLICY),
        loss="sparse_categorical_crossentropy",
        metrics=[],
        seed=seed,
        name="longer",
        progress=lambda event: None,
    )
    return ls.evaluate(model, splits.test, metrics=["accuracy"]).metrics["accuracy"]


def measure(seed: int, folder: Path, make: list[str]) -> dict[str, Any]:
    """One seed: the study, the stock tools, the longer baseline; kept once it is there."""
    study = fashion_mnist.run(fashion_mnist.HERE / "fashion_mnist.toml", seed, folder)
    place = folder / f"seed-{seed}"
    ours = {each["name"]: each for each in study["variants"]}
    kept = place / "stock.json"
    stock = json.loads(kept.read_text()) if kept.exists() else {}
    mark = ours["baseline"]["sha256"]
    if stock.get("baseline") != mark:
        stock = {"baseline": mark}
    if "ours-longer" not in stock:
        stock["ours-longer"] = {"accuracy": longer(place, folder, seed)}
        kept.write_text(json.dumps(stock, indent=2))
    missing = [name for name in ["longer", *make] if name not in stock]
    if missing:
        job = {"seed": seed, "epochs": 3, "batch_size": 128, "make": missing}
        for row in environment.run({**job, **hand_over(place, folder)}):
            stock[row["name"]] = row
        kept.write_text(json.dumps(stock, indent=2))
    return {"ours": ours, "stock": stock}


def row(name: str, seeds: list[dict[str, Any]], accuracy: list[float], size: Any) -> dict[str, Any]:
    """A line of the table."""
    base = [each["ours"]["baseline"]["metrics"]["accuracy"] for each in seeds]
    lost = [100 * (b - a) for b, a in zip(base, accuracy, strict=True)]
    return {
        "variant": name,
        "accuracy": accuracy,
        "points_lost": [round(each, 4) for each in lost],
        "points_lost_mean": round(statistics.mean(lost), 4),
        "file": size["file"] if size else None,
        "zip": size["zip"] if size else None,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--make", nargs="*", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fashion-mnist"))
    options = parser.parse_args()
    seeds = [measure(seed, options.output, options.make) for seed in range(options.seeds)]

    def ours(name: str) -> dict[str, Any]:
        accuracy = [each["ours"][name]["metrics"]["accuracy"] for each in seeds]
        return row(f"{name}, litesmith", seeds, accuracy, seeds[0]["ours"][name]["size"])

    def stock(name: str, shown: str) -> dict[str, Any]:
        accuracy = [each["stock"][name]["accuracy"] for each in seeds]
        return row(f"{shown}, stock", seeds, accuracy, seeds[0]["stock"][name])

    rows = [ours("baseline"), stock("longer", "trained longer")]
    more = [each["stock"]["ours-longer"]["accuracy"] for each in seeds]
    rows.append(row("trained longer, litesmith", seeds, more, None))
    for theirs in options.make:
        rows += [stock(theirs, PAIRS[theirs]), ours(PAIRS[theirs])]
    print(f"{'':28} {'accuracy':>9} {'lost':>7}  {'each seed':24} {'file':>9} {'zip':>9}")
    for each in rows:
        spread = " ".join(f"{value:+.2f}" for value in each["points_lost"])
        sizes = [f"{each[key]:9,}" if each[key] else " " * 9 for key in ("file", "zip")]
        print(
            f"{each['variant']:28} {100 * statistics.mean(each['accuracy']):8.2f}% "
            f"{each['points_lost_mean']:+7.3f}  {spread:24} {' '.join(sizes)}"
        )
    (options.output / "side_by_side.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
