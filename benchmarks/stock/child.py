"""The stock tools' side of a comparison: tf_keras, tfmot and the TFLite converter.

It runs in an environment of its own (`environment.py` makes it), reads one job as JSON from the
file it is given, and prints its answer as JSON on the last line of standard output. A job is

    {"weights": "baseline.npz", "data": "data.npz", "seed": 0, "epochs": 3, "batch_size": 128,
     "make": ["longer", "float16", "dynamic", "int8", "prune-0.8", "cluster-16", "qat"]}

with the arrays of the trained baseline by layer and place (`conv2d/0`), and the data's splits
(`x_train`, `y_train`, `x_test`, `y_test`). Fine-tuning is as tfmot's guides have it: Adam 3e-4, a
polynomial schedule over all steps.
"""

from __future__ import annotations

import json
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

RATE = 3e-4


def reference() -> Any:
    """The reference network (`builtin:reference`), layer by layer the same."""

    def convolution(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization()(x))

    inputs = tf_keras.Input((28, 28, 1))
    x = convolution(inputs, 16)
    x = convolution(x, 32, strides=2)
    x = layers.Add()([x, convolution(x, 32)])
    x = convolution(x, 64, strides=2)
    x = layers.Add()([x, convolution(x, 64)])
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = convolution(x, 96, size=1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    x = layers.Dense(64, activation="relu")(x)
    return tf_keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def by_kind(model: Any) -> dict[str, Any]:
    """Layers with weights, as they were made: `Conv2D/0`, `Conv2D/1` and on."""
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    made = sorted((each for each in model.layers if each.weights), key=_number)
    for layer in made:
        kind = type(layer).__name__
        found[f"{kind}/{counts.get(kind, 0)}"] = layer
        counts[kind] = counts.get(kind, 0) + 1
    return found


def _number(layer: Any) -> int:
    tail = layer.name.rpartition("_")[2]
    return int(tail) if tail.isdigit() else 0


def trained(weights: Path) -> Any:
    """The reference network with the baseline's weights."""
    tf_keras.backend.clear_session()
    model = reference()
    stored = np.load(weights)
    for name, layer in by_kind(model).items():
        layer.set_weights([stored[f"{name}/{i}"] for i in range(len(layer.weights))])
    return model


class Bench:
    """One job."""

    def __init__(self, job: dict[str, Any]):
        self.job = job
        with np.load(job["data"]) as data:
            self.data = {name: data[name] for name in data.files}
        self.weights = Path(job["weights"])

    def fit(self, model: Any, callbacks: Any = (), rate: float = RATE) -> Any:
        """Fine-tune in place."""
        model.compile(
            tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        model.fit(
            self.data["x_train"],
            self.data["y_train"],
            batch_size=self.job["batch_size"],
            epochs=self.job["epochs"],
            callbacks=list(callbacks),
            verbose=0,
        )
        return model

    def make(self, name: str) -> tuple[bytes, dict[str, Any]]:
        """A variant's `.tflite`, and what is to be told of it."""
        tf_keras.utils.set_random_seed(self.job["seed"])
        model = trained(self.weights)
        kind, _, amount = name.partition("-")
        if kind == "longer":
            return self.convert(self.fit(model)), {}
        if kind == "prune":
            return self.convert(self.prune(model, float(amount))), {}
        if kind == "cluster":
            return self.convert(self.cluster(model, int(amount))), {}
        if kind == "qat":
            aware = self.fit(tfmot.quantization.keras.quantize_model(model))
            return self.convert(aware, "dynamic"), {}
        return self.convert(model, kind), {}

    def prune(self, model: Any, sparsity: float) -> Any:
        """Magnitude pruning of the whole model, over all steps."""
        keras = tfmot.sparsity.keras
        steps = -(-len(self.data["x_train"]) // self.job["batch_size"]) * self.job["epochs"]
        schedule = keras.PolynomialDecay(sparsity / 2, sparsity, begin_step=0, end_step=steps)
        wrapped = keras.prune_low_magnitude(model, pruning_schedule=schedule)
        self.fit(wrapped, [keras.UpdatePruningStep()])
        return keras.strip_pruning(wrapped)

    def cluster(self, model: Any, clusters: int) -> Any:
        """Clustering of the whole model, k-means++ centroids, which did best or as well."""
        keras = tfmot.clustering.keras
        wrapped = keras.cluster_weights(
            model,
            number_of_clusters=clusters,
            cluster_centroids_init=keras.CentroidInitialization.KMEANS_PLUS_PLUS,
        )
        return keras.strip_clustering(self.fit(wrapped))

    def convert(self, model: Any, preset: str = "float32") -> bytes:
        """By the TFLite converter's own presets."""
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if preset != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if preset == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if preset == "int8":
            samples = self.data["x_train"][:200]
            converter.representative_dataset = lambda: ([each[None]] for each in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()

    def accuracy(self, content: bytes) -> float:
        """On the test split, one sample an invoke, as the guides do it."""
        interpreter = tf.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
        given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        scale, zero = given["quantization"]
        right = 0
        for x, y in zip(self.data["x_test"], self.data["y_test"].ravel(), strict=True):
            if scale:
                x = np.clip(np.rint(x / scale + zero), -128, 127)
            interpreter.set_tensor(given["index"], x[None].astype(given["dtype"]))
            interpreter.invoke()
            right += int(interpreter.get_tensor(got["index"]).argmax() == y)
        return right / len(self.data["x_test"])

    def run(self) -> list[dict[str, Any]]:
        """Everything the job names."""
        rows = []
        for name in self.job["make"]:
            began = time.perf_counter()
            content, told = self.make(name)
            row = {
                "name": name,
                "accuracy": self.accuracy(content),
                "file": len(content),
                "zip": len(zlib.compress(content, 9)),
                "seconds": round(time.perf_counter() - began, 1),
                **told,
            }
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
        return rows


def steps(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of one training step, plain and wrapped, in alternating rounds."""
    rng = np.random.default_rng(0)
    shape = job["shape"]
    x = rng.random((job["batch_size"] * job["steps"], *shape), np.float32)
    y = rng.integers(0, 10, len(x))

    def network() -> Any:
        if job["network"] == "reference":
            return reference()
        return tf_keras.applications.MobileNetV2(
            input_shape=tuple(shape), alpha=0.35, classes=10, weights=None
        )

    def wrap(name: str) -> tuple[Any, list[Any]]:
        kind, _, amount = name.partition("-")
        if kind == "prune":
            keras = tfmot.sparsity.keras
            schedule = keras.PolynomialDecay(0.0, float(amount), 0, 10_000)
            wrapped = keras.prune_low_magnitude(network(), pruning_schedule=schedule)
            return wrapped, [keras.UpdatePruningStep()]
        if kind == "cluster":
            keras = tfmot.clustering.keras
            return keras.cluster_weights(
                network(),
                number_of_clusters=int(amount),
                cluster_centroids_init=keras.CentroidInitialization.LINEAR,
            ), []
        if kind == "qat":
            return tfmot.quantization.keras.quantize_model(network()), []
        return network(), []

    models = {name: wrap(name) for name in ["plain", *job["make"]]}
    for model, _ in models.values():
        model.compile("adam", "sparse_categorical_crossentropy")
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(job["rounds"] + 1):
        for name, (model, callbacks) in models.items():
            began = time.perf_counter()
            model.fit(x, y, batch_size=job["batch_size"], callbacks=callbacks, verbose=0)
            times[name].append((time.perf_counter() - began) / job["steps"])
    sizes = {
        name: sum(int(np.prod(v.shape)) * v.dtype.size for v in model.weights)
        for name, (model, _) in models.items()
    }
    return [
        {"name": name, "seconds": each[1:], "bytes": sizes[name]} for name, each in times.items()
    ]


def main() -> None:
    """Read the job, do it, print the rows."""
    job = json.loads(Path(sys.argv[1]).read_text())
    rows = steps(job) if job.get("measure") == "steps" else Bench(job).run()
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
