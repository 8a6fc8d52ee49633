"""Whether the `.tflite` does what quantization-aware training simulated, layer by layer.

    python benchmarks/fidelity.py --model build/fashion-mnist/seed-0/baseline.keras

Prepares the reference network (trained or not) with `Quantize` in 8, 4 and 2 bits, trains some
steps on Fashion-MNIST, and compares the prepared Keras model with the integer file on test images:
top-1 agreement, logits within one quantum, each tensor both have. The trained integers are compared
with those in the file by `export` itself, which fails where one differs. `--layers` prints all
tensors; the same goes to `OUT/fidelity.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import keras

import litesmith as ls
from litesmith import data, models

SOURCE = "idx:" + str(Path(__file__).parents[2] / "shared" / "data" / "fashion-mnist")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin:reference")
    parser.add_argument("--data", default=SOURCE)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 2])
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fidelity"))
    options = parser.parse_args()
    loaded = data.load(options.data)
    count = options.steps * 128
    x, y = loaded.train.x[:count], loaded.train.y[:count]
    results = []
    print(f"{'weights':>7} {'agreement':>10} {'logits ±1':>10} {'equal':>9} {'file':>9}  parted at")
    for bits in options.bits:
        keras.utils.set_random_seed(0)
        prepared = ls.prepare(models.load(options.model), ls.Quantize(weights=bits))
        rate = keras.optimizers.schedules.CosineDecay(1e-3, max(1, options.steps))
        prepared.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        prepared.fit(x, y, batch_size=128, verbose=0)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.tflite"
            artifact = ls.export(prepared, file, quantize="int8")
            size = file.stat().st_size
            images = loaded.test.x[: options.samples]
            found = ls.fidelity(prepared, images, artifact=artifact, samples=options.samples)
        last = found.last
        assert last is not None and found.agreement is not None
        where = found.first.layer if found.first else "nowhere"
        print(
            f"{bits:7} {100 * found.agreement:9.3f}% {100 * last.within:9.3f}% "
            f"{100 * last.equal:8.3f}% {size:9,}  {where}",
            flush=True,
        )
        if options.layers:
            print(found, flush=True)
        results.append({"weights": bits, "file": size, **found.to_dict()})
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2).replace("Infinity", "null")
    (options.output / "fidelity.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
