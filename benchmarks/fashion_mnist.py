"""Points lost by each variant of the reference network on Fashion-MNIST, over several seeds.

    python benchmarks/fashion_mnist.py --seeds 3 -o build/fashion-mnist
    python benchmarks/fashion_mnist.py benchmarks/clustering.toml -o build/clustering
    python benchmarks/fashion_mnist.py benchmarks/lenet.toml -o build/lenet

Each seed is one `litesmith study` of `fashion_mnist.toml`, or of the study that is named (its own
baseline, its own folder), made by the command line as a user would, and resumed where it was cut
off. Points lost are test accuracy of the variant's `.tflite` against the float `.tflite` of its own
baseline, in percentage points; the table shows the mean and each seed. The same goes to
`points_lost.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import tomli_w

HERE = Path(__file__).parent


def run(file: Path, seed: int, output: Path) -> dict:
    folder = output / f"seed-{seed}"
    study = tomllib.loads(file.read_text())
    study["seed"] = seed
    kind, _, place = study["data"]["source"].partition(":")
    study["data"]["source"] = f"{kind}:{(file.parent / place).resolve()}"
    if ".py:" in study["model"]["source"]:
        study["model"]["source"] = str((file.parent / study["model"]["source"]).resolve())
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"seed-{seed}.toml"
    file.write_text(tomli_w.dumps(study))
    command = [sys.executable, "-m", "litesmith.cli", "study", str(file), "-o", str(folder)]
    subprocess.run([*command, "--resume", "--json"], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "study.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", type=Path, default=HERE / "fashion_mnist.toml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fashion-mnist"))
    options = parser.parse_args()
    studies = [run(options.study, seed, options.output) for seed in range(options.seeds)]
    rows = []
    for index, first in enumerate(studies[0]["variants"]):
        variants = [study["variants"][index] for study in studies]
        baselines = [study["variants"][0] for study in studies]
        lost = [
            100 * (base["metrics"]["accuracy"] - each["metrics"]["accuracy"])
            for base, each in zip(baselines, variants, strict=True)
        ]
        rows.append(
            {
                "variant": first["name"],
                "accuracy": [each["metrics"]["accuracy"] for each in variants],
                "points_lost": [round(value, 4) for value in lost],
                "points_lost_mean": round(statistics.mean(lost), 4),
                "agreement": [each["agreement"] for each in variants],
                "sparsity": [each["sparsity"] for each in variants],
                "unique_weights": [each["unique_weights"] for each in variants],
                "file": first["size"]["file"],
                "zip": [each["size"]["zip"] for each in variants],
            }
        )
    print(f"{'variant':16} {'accuracy':>9} {'lost':>7}  {'each seed':24} {'file':>9} {'zip':>9}")
    for row in rows:
        each = " ".join(f"{value:+.2f}" for value in row["points_lost"])
        print(
            f"{row['variant']:16} {100 * statistics.mean(row['accuracy']):8.2f}% "
            f"{row['points_lost_mean']:+7.3f}  {each:24} {row['file']:9,} "
            f"{round(statistics.mean(row['zip'])):9,}"
        )
    (options.output / "points_lost.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
