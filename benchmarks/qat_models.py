"""Quantization-aware training beyond convolutions: points lost by three small models.

    python benchmarks/qat_models.py [--only vit lstm ds-cnn] [--epochs 8] -o build/qat-models

- `vit`: a vision transformer (4×4 patches, two blocks, three heads of 16), Fashion-MNIST;
- `lstm`: an LSTM over the 28 rows of a Fashion-MNIST image;
- `ds-cnn`: depthwise separable convolutions of about 13 k weights, Arabic speech commands, 49×10
  coefficients, 40 words, other speakers in each split.

Each is trained in float, then goes on with `Quantize` for `--fine-tune` epochs: eight bits, and
four for the DS-CNN. The table shows test accuracy of the float and the integer `.tflite`, the
points lost, the accuracy of the float model trained as much longer, agreement of file and
simulation and their signal to noise at the logits, and what operators stay float. The same goes
to `OUT/qat_models.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import litesmith as ls
from litesmith import data

SHARED = Path(__file__).parents[2] / "shared" / "data"
BATCH = 128


@keras.saving.register_keras_serializable("qat_models")
class Positions(layers.Layer):
    """Adds a trained vector for each position."""

    def build(self, shape: Any) -> None:
        """One vector a position."""
        self.table = self.add_weight(name="table", shape=shape[1:], initializer="uniform")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The sum."""
        return inputs + ops.convert_to_tensor(self.table)


def vit() -> keras.Model:
    width, heads = 48, 3
    inputs = layers.Input((28, 28, 1))
    x = layers.Conv2D(width, 4, strides=4, name="patches")(inputs)
    x = Positions(name="positions")(layers.Reshape((49, width))(x))
    for block in range(2):
        y = layers.LayerNormalization(epsilon=1e-5, name=f"norm_{block}a")(x)
        y = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{block}")(y, y)
        x = layers.Add(name=f"sum_{block}a")([x, y])
        y = layers.LayerNormalization(epsilon=1e-5, name=f"norm_{block}b")(x)
        y = layers.Dense(2 * width, activation="gelu", name=f"up_{block}")(y)
        x = layers.Add(name=f"sum_{block}b")([x, layers.Dense(width, name=f"down_{block}")(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-5, name="norm")(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="head")(x), name="vit")


def lstm() -> keras.Model:
    inputs = layers.Input((28, 28))
    x = layers.LSTM(64, name="lstm")(inputs)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="head")(x), name="lstm")


def ds_cnn() -> keras.Model:
    inputs = layers.Input((49, 10, 1))

    def block(x: Any, layer: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layer(x)))

    width = 44
    x = block(
        inputs,
        layers.Conv2D(width, (10, 4), strides=2, padding="same", use_bias=False, name="stem"),
    )
    x = layers.Dropout(0.2)(x)
    for number in range(4):
        depthwise = layers.DepthwiseConv2D(3, padding="same", use_bias=False)
        x = block(x, depthwise)
        x = block(x, layers.Conv2D(width, 1, use_bias=False, name=f"pointwise_{number}"))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    outputs = layers.Dense(40, activation="softmax", name="head")(x)
    return keras.Model(inputs, outputs, name="ds-cnn")


def images(rows: bool = False) -> tuple[Any, Any]:
    loaded = data.load(f"idx:{SHARED / 'fashion-mnist'}")
    parts = []
    for split in (loaded.train, loaded.test):
        x = np.asarray(split.x, np.float32)
        parts.append((x[..., 0] if rows else x, np.asarray(split.y)))
    return parts[0], parts[1]


def speech() -> tuple[Any, Any]:
    found = np.load(SHARED / "arabic-speech-commands" / "mfcc49x10_40keywords.npz")
    x, y = found["x_train"].astype("float32"), found["y_train"]
    mean, spread = x.mean(axis=(0, 1)), x.std(axis=(0, 1)) + 1e-3

    def scaled(values: Any) -> Any:
        return np.clip((values.astype("float32") - mean) / spread, -4, 4).reshape(-1, 49, 10, 1)

    return (scaled(x), y), (scaled(found["x_test"]), found["y_test"])


MODELS: dict[str, tuple[Callable[[], keras.Model], Callable[[], Any], list[int], int]] = {
    "vit": (vit, images, [8], 8),
    "lstm": (lstm, lambda: images(rows=True), [8], 6),
    "ds-cnn": (ds_cnn, speech, [8, 4], 40),
}


def train(model: keras.Model, x: Any, y: Any, epochs: int, rate: float, seed: int = 0) -> None:
    keras.utils.set_random_seed(seed)
    steps = max(1, epochs * (-(-len(x) // BATCH)))
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    jit = keras.backend.backend() == "jax"
    model.compile(
        keras.optimizers.Adam(schedule),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit,
    )
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)


def work(name: str, options: argparse.Namespace) -> dict[str, Any]:
    make, load, bits, epochs = MODELS[name]
    (x, y), (x_test, y_test) = load()
    x, y = x[: options.samples], y[: options.samples]
    x_test, y_test = x_test[: options.tests], y_test[: options.tests]
    epochs = options.epochs or epochs
    folder = options.output / name
    folder.mkdir(parents=True, exist_ok=True)

    def accuracy(artifact: Any) -> float:
        return ls.evaluate(artifact, (x_test, y_test), metrics=["accuracy"])["accuracy"]

    keras.utils.set_random_seed(options.seed)
    model = make()
    train(model, x, y, epochs, 2e-3, options.seed)
    base = accuracy(ls.export(model, folder / "float.tflite"))
    longer = keras.models.clone_model(model)
    longer.set_weights(model.get_weights())
    train(longer, x, y, options.fine_tune, options.rate, options.seed)
    more = accuracy(ls.export(longer, folder / "longer.tflite"))
    rows = []
    for each in bits:
        start = time.perf_counter()
        steps = options.fine_tune * (-(-len(x) // BATCH))
        recipe = ls.Recipe(ls.Quantize(weights=each)).laid_out(steps)
        prepared = ls.prepare(model, recipe, calibration=x[:256])
        train(prepared, x, y, options.fine_tune, options.rate, options.seed)
        artifact = ls.export(prepared, folder / f"int{each}.tflite", quantize="int8")
        found = ls.fidelity(prepared, x_test[:512], artifact=artifact, samples=512)
        reached = accuracy(artifact)
        last = found.last
        rows.append(
            {
                "weights": each,
                "accuracy": reached,
                "lost": 100 * (base - reached),
                "lost_to_longer": 100 * (more - reached),
                "file": artifact.path.stat().st_size,
                "float_operators": artifact.manifest.float_operators,
                "agreement": found.agreement,
                "logits_db": None if last is None else last.signal_to_noise,
                "parted": None if found.first is None else found.first.layer,
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
        print(row(name, model.count_params(), base, more, rows[-1]), flush=True)
    return {"name": name, "parameters": model.count_params(), "float": base, "rows": rows}


HEAD = (
    f"{'model':8} {'weights':>8} {'bits':>4} {'float':>7} {'longer':>7} {'int':>7} {'lost':>6} "
    f"{'file':>8} {'agree':>7} {'logits':>7}  float operators"
)


def row(name: str, weights: int, base: float, more: float, found: dict[str, Any]) -> str:
    return (
        f"{name:8} {weights:8,} {found['weights']:4} {100 * base:6.2f}% {100 * more:6.2f}% "
        f"{100 * found['accuracy']:6.2f}% {found['lost']:+6.2f} {found['file']:8,} "
        f"{100 * found['agreement']:6.2f}% {found['logits_db']:4.1f} dB  {found['float_operators']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--epochs", type=int, help="in float; default each model's own")
    parser.add_argument("--fine-tune", type=int, default=3)
    parser.add_argument("--rate", type=float, default=5e-4, help="highest, in fine-tuning")
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/qat-models"))
    options = parser.parse_args()
    print(HEAD, flush=True)
    results = [work(name, options) for name in options.only]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "qat_models.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
