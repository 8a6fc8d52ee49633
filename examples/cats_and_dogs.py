"""What the two walk-throughs about cats and dogs share: pictures, network, training, results."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import litesmith as ls
from litesmith import data


@dataclasses.dataclass(frozen=True)
class Job:
    """How much of everything.

    Attributes:
        small: the stand-in that runs in a minute, instead of the real thing.
        folder: where the results go.
        epochs: of training the network.
        tuning: epochs of each fine-tuning.
        rate: Adam's learning rate, to begin with.
        batch: samples a step.
        timing: for `ls.benchmark`.
    """

    small: bool
    folder: Path
    epochs: int
    tuning: int
    rate: float
    batch: int
    timing: dict[str, int]


def full(folder: Path) -> Job:
    """23,262 photographs and EfficientNetB0: hours on a CPU, minutes on a GPU."""
    return Job(False, folder, epochs=10, tuning=10, rate=1e-4, batch=32, timing={})


def small(folder: Path) -> Job:
    """Digits and a narrow network of the same blocks, from random weights."""
    return Job(
        True, folder, epochs=12, tuning=6, rate=3e-3, batch=32, timing={"runs": 10, "repeats": 1}
    )


def load(job: Job) -> data.Dataset:
    """Pictures (height, width, 3) in 0…1, labels 0 and 1; 70 % to train, 20 to choose, 10 to test.

    `data.load` holds back 20 % of a source without a test split, and then `validation` of the rest,
    each class in proportion: an eighth of 80 % is 10 %. The larger part is the one to choose by.
    """
    if job.small:
        return even_and_odd()
    held = data.load("tfds:cats_vs_dogs", image_size=(224, 224), validation=0.125)
    return dataclasses.replace(held, validation=held.test, test=held.validation)


def even_and_odd() -> data.Dataset:
    """Scikit-learn's digits as pictures of 32×32 in colour: is the number even or odd?"""
    digits = data.load("digits")

    def pictures(split: data.Split) -> data.Split:
        x = np.asarray(split.x).repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
        return data.Split(x, np.asarray(split.y) % 2)

    parts = {name: pictures(split) for name, split in digits.splits.items()}
    return data.Dataset("digits, even or odd", classes=("even", "odd"), **parts)


def network(job: Job) -> keras.Model:
    """EfficientNetB0 with ImageNet weights and a head of dense layers; or its small relative."""
    inputs = keras.Input((32, 32, 3) if job.small else (224, 224, 3), name="picture")
    if job.small:
        x = blocks(inputs)
        momentum = 0.9  # a few hundred steps: with 0.99 the moving statistics would lag behind
    else:
        x = layers.Rescaling(255.0)(inputs)  # EfficientNet takes 0…255
        body = keras.applications.EfficientNetB0(
            include_top=False, weights="imagenet", input_tensor=x
        )
        x, momentum = body.output, 0.99
    x = layers.GlobalMaxPooling2D()(x)
    x = layers.Dense(512, activation="relu", name="dense_512")(x)
    x = layers.BatchNormalization(momentum=momentum)(x)
    x = layers.Dense(64, activation="relu", name="dense_64")(x)
    x = layers.Dropout(0.2)(x)
    outputs = layers.Dense(2, activation="softmax", name="answer")(x)
    return keras.Model(inputs, outputs, name="cats_and_dogs")


def blocks(x: Any) -> Any:
    """A stem and two inverted bottlenecks with squeeze-and-excitation, as EfficientNet has."""
    x = _normalized(layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False)(x))
    for filters, strides in ((16, 2), (16, 1)):
        x = _bottleneck(x, filters, strides)
    return _normalized(layers.Conv2D(48, 1, use_bias=False)(x))


def _bottleneck(x: Any, filters: int, strides: int, expansion: int = 3) -> Any:
    before, wide = x, expansion * x.shape[-1]
    x = _normalized(layers.Conv2D(wide, 1, use_bias=False)(x))
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = _normalized(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(max(4, before.shape[-1] // 4), 1, activation="swish")(gate)
    gate = layers.Conv2D(wide, 1, activation="sigmoid")(gate)
    x = layers.Conv2D(filters, 1, use_bias=False)(layers.Multiply()([x, gate]))
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Add()([before, x]) if strides == 1 and before.shape[-1] == filters else x


def _normalized(x: Any) -> Any:
    return layers.Activation("swish")(layers.BatchNormalization(momentum=0.9)(x))


def train(
    model: keras.Model, pictures: data.Dataset, job: Job, name: str, epochs: int, free: int = 0
) -> None:
    """Adam; less when validation stops getting better; the best epoch is kept.

    Args:
        model: ordinary or prepared.
        pictures: train and validation split.
        job: learning rate, batch.
        name: of the checkpoint.
        epochs: how many.
        free: so many epochs count for nothing. While a pruning schedule is under way the model
            still has more weights than it will have: its early epochs would win.
    """
    model.compile(
        keras.optimizers.Adam(job.rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    best = job.folder / f"{name}.weights.h5"
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.3, patience=2)
    checkpoint = keras.callbacks.ModelCheckpoint(
        best, monitor="val_accuracy", save_best_only=True, save_weights_only=True
    )
    shared: dict[str, Any] = {
        "validation_data": pictures.validation.keras(job.batch),
        "verbose": 2,
    }
    samples = pictures.train.keras(job.batch, shuffle=True)
    if free:
        model.fit(samples, epochs=free, callbacks=[plateau], **shared)
    model.fit(samples, epochs=epochs, initial_epoch=free, callbacks=[plateau, checkpoint], **shared)
    model.load_weights(best)


def baseline(pictures: data.Dataset, job: Job) -> keras.Model:
    """The trained network: from the folder, where one of the walk-throughs has left it."""
    path = job.folder / "baseline.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        model = network(job)
        train(model, pictures, job, "baseline", job.epochs)
        model.save(path)
    return keras.saving.load_model(path)


def measured(artifact: ls.Artifact, pictures: data.Dataset, job: Job) -> list[Any]:
    """Accuracy of a `.tflite` on the test pictures; its size, latency and memory."""
    return [
        ls.evaluate(artifact, pictures.test, metrics=["accuracy"]),
        ls.benchmark(artifact, **job.timing),
    ]


def tell(comparison: ls.Comparison, job: Job, name: str) -> None:
    """The table and the verdict on the terminal; a report and a chart in the folder."""
    from rich.console import Console

    Console().print(comparison.table())
    print(*comparison.verdict, sep="\n")
    comparison.save(job.folder / f"{name}.html")
    chart(comparison, job.folder / f"{name}.png")
    print(f"report: {job.folder / name}.html, chart: {job.folder / name}.png")


def chart(comparison: ls.Comparison, path: Path) -> None:
    """Bars: what each file gets right, and what it weighs."""
    from matplotlib.figure import Figure

    names = [one.name for one in comparison.done]
    shares = [100 * one.metrics["accuracy"] for one in comparison.done]
    zipped = [one.size.zip / 1000 if one.size else 0.0 for one in comparison.done]
    figure = Figure(figsize=(9, 0.5 * len(names) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, title, form in (
        (left, shares, "accuracy, %", "%.2f"),
        (right, zipped, "zipped size, kB", "%.0f"),
    ):
        bars = axes.barh(names, values, color="#2460d8")
        axes.bar_label(bars, fmt=form, padding=3)
        axes.margins(x=0.18)
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    left.invert_yaxis()
    figure.savefig(path, dpi=120)
