"""Every preset of EfficientNetB0 from one float conversion, and what that takes.

    python benchmarks/presets.py -o build/presets.json

The figure is the seconds of all presets, one calibration of 100 images among them that the static
ones share, over the seconds of one float conversion. With `--stock`, the TFLite converter's own
presets are timed beside it: a conversion each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import litesmith as ls
from litesmith.export import calibrate, convert

PRESETS = (
    "float32",
    "float16",
    "dynamic_int8",
    "int8",
    "int8_float_io",
    "int16x8",
    "weight_int8",
    "weight_int4",
    "dynamic_int4",
)


def stock(model: keras.Model, images: np.ndarray) -> dict[str, float]:
    """Seconds of each preset the converter has."""
    import tensorflow as tf

    seconds = {}
    for name in ("float32", "float16", "dynamic_int8", "int8"):
        began = time.perf_counter()
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if name != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if name == "int8":
            converter.representative_dataset = lambda: ([each[None]] for each in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.convert()
        seconds[name] = time.perf_counter() - began
    return seconds


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/presets.json"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = keras.applications.EfficientNetB0(
        input_shape=(96, 96, 3), classes=10, weights=None, classifier_activation=None
    )
    images = np.random.default_rng(0).random((100, 96, 96, 3), np.float32) * 255
    rounds = []
    convert(model)  # starts what is kept running
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            seconds = {}
            began = time.perf_counter()
            source = convert(model)
            seconds["conversion"] = time.perf_counter() - began
            began = time.perf_counter()
            ranges = calibrate(source, images)
            seconds["calibration"] = time.perf_counter() - began
            for name in PRESETS:
                began = time.perf_counter()
                try:
                    path = Path(folder) / f"{name}.tflite"
                    ls.export(source, path, quantize=name, calibration=ranges)
                except ls.ExportError as error:
                    print(f"{name}: {error}")
                seconds[name] = time.perf_counter() - began
            seconds["all"] = sum(seconds.values())
            rounds.append(seconds)
    table = {name: [each[name] for each in rounds] for name in rounds[0]}
    for name, values in table.items():
        print(
            f"{name:14} {statistics.median(values):6.2f} s  ({min(values):.2f} … {max(values):.2f})"
        )
    ratios = [each["all"] / each["conversion"] for each in rounds]
    print(
        f"all presets, the conversion included ÷ one conversion: {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} … {max(ratios):.2f})"
    )
    result = {"seconds": table, "ratio": ratios}
    if options.stock:
        result["stock"] = stock(model, images)
        for name, value in result["stock"].items():
            print(f"stock {name:8} {value:6.2f} s")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
