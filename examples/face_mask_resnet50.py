"""A ResNet50 that tells faces with a mask from faces without: a quarter of the file.

    python examples/face_mask_resnet50.py --small            # drawn faces, a narrow network
    python examples/face_mask_resnet50.py --pictures faces   # faces/with_mask, faces/without_mask
    python examples/face_mask_resnet50.py --pictures faces --model trained.keras

docs/walkthroughs/face-mask-resnet50.md goes through it step by step.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageDraw

import litesmith as ls
from litesmith import data


def main(arguments: Sequence[str] | None = None) -> ls.Comparison:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="drawn faces and a narrow network")
    parser.add_argument("--pictures", help="a folder with one folder of pictures a class")
    parser.add_argument("--model", type=Path, help="your own trained model: a .keras file")
    parser.add_argument("--output", type=Path, default=Path("build/face-mask"))
    options = parser.parse_args(arguments)
    if not (options.small or options.pictures):
        parser.error("give --pictures FOLDER, or --small")

    folder = options.output
    source = options.pictures or draw_faces(folder / "faces")
    size = (48, 48) if options.small else (224, 224)
    pictures = data.load(f"images:{source}", image_size=size)
    print({name: len(split) for name, split in pictures.splits.items()}, pictures.classes)
    keras.utils.set_random_seed(0)
    model = keras.saving.load_model(options.model) if options.model else None
    if model is None:
        model = small_network() if options.small else network()
        train(model, pictures, options.small)
        model.save(folder / "baseline.keras")

    before = ls.export(model, folder / "baseline.tflite")
    after = ls.export(model, folder / "dynamic.tflite", quantize="dynamic_int8")
    timing: dict[str, int] = {"runs": 10, "repeats": 1} if options.small else {}
    results: list[Any] = []
    for artifact in (before, after):
        results.append(ls.evaluate(artifact, pictures.test, metrics=["accuracy"]))
        results.append(ls.benchmark(artifact, **timing))
    comparison = ls.compare(results)
    tell(comparison)
    comparison.save(folder / "report.html")
    print(f"report: {folder / 'report.html'}")
    return comparison


def tell(comparison: ls.Comparison) -> None:
    """Accuracy, size and memory, before and after."""
    for one in comparison.done:
        assert one.size is not None and one.memory is not None
        print(
            f"{one.name}: accuracy {one.metrics['accuracy']:.2%}, "
            f"file {one.size.file / 1e6:.2f} MB, "
            f"peak memory {(one.memory.peak_rss or 0) / 1e6:.1f} MB"
        )


def network() -> keras.Model:
    """ResNet50 with ImageNet weights and a new answer.

    The weights want the channels as blue, green, red, around zero. Turning the first kernel round
    once does what turning each picture round would do.
    """
    inputs = keras.Input((224, 224, 3), name="picture")
    x = layers.Rescaling(255.0)(inputs)
    x = layers.Normalization(mean=[123.68, 116.779, 103.939], variance=[1.0] * 3)(x)
    body = keras.applications.ResNet50(include_top=False, weights="imagenet", input_tensor=x)
    first = body.get_layer("conv1_conv")
    kernel, bias = first.get_weights()
    first.set_weights([kernel[:, :, ::-1], bias])
    x = layers.GlobalAveragePooling2D()(body.output)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x), name="face_mask")


def small_network() -> keras.Model:
    """Residual bottlenecks as ResNet50 has them: 1×1, 3×3, 1×1, added to a shortcut."""
    inputs = keras.Input((48, 48, 3), name="picture")
    x = _convolution(inputs, 16, 5, 2)
    for filters, strides in ((16, 2), (16, 1)):
        shortcut = x
        if strides > 1:
            shortcut = _convolution(x, 4 * filters, 1, strides, relu=False)
        x = _convolution(x, filters, 1, strides)
        x = _convolution(x, filters, 3)
        x = _convolution(x, 4 * filters, 1, relu=False)
        x = layers.ReLU()(layers.Add()([shortcut, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x), name="face_mask_small")


def _convolution(x: Any, filters: int, size: int, strides: int = 1, relu: bool = True) -> Any:
    x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def train(model: keras.Model, pictures: data.Dataset, small: bool) -> None:
    """A few epochs; with ImageNet weights small steps are enough."""
    model.compile(
        keras.optimizers.Adam(3e-3 if small else 1e-4),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(
        pictures.train.keras(16, shuffle=True),
        validation_data=pictures.validation.keras(16),
        epochs=8 if small else 5,
        verbose=2,
    )


def draw_faces(folder: Path, count: int = 500) -> Path:
    """A stand-in for a folder of photographs: drawn faces, half of them with a mask.

    Args:
        folder: gets `with_mask/*.png` and `without_mask/*.png`; left alone where it is there.
        count: of pictures, 64×64.

    Returns:
        The folder.
    """
    if folder.exists():
        return folder
    rng = np.random.default_rng(0)
    for name in ("with_mask", "without_mask"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        masked = number % 2 == 0
        name = "with_mask" if masked else "without_mask"
        _face(rng, masked).save(folder / name / f"{number:03}.png")
    return folder


def _face(rng: np.random.Generator, masked: bool) -> Image.Image:
    def colour(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(one) for one in rng.integers(low, high, 3))

    picture = Image.new("RGB", (64, 64), colour(0, 256))
    draw = ImageDraw.Draw(picture)
    x, y = rng.integers(26, 39, 2)
    wide, high = rng.integers(13, 19), rng.integers(17, 24)
    tone = rng.integers(70, 240)
    skin = (int(tone), int(tone * 0.8), int(tone * 0.65))
    draw.ellipse((x - wide, y - high, x + wide, y + high), fill=skin)
    for side in (-1, 1):
        eye = x + side * wide // 2
        draw.ellipse((eye - 2, y - 6, eye + 2, y - 3), fill=colour(0, 90))
    if masked:
        corners = [
            (x - wide, y),
            (x + wide, y),
            (x + wide // 2, y + high),
            (x - wide // 2, y + high),
        ]
        draw.polygon(corners, fill=(int(rng.integers(110, 200)), 220, int(rng.integers(225, 256))))
    else:
        draw.line((x, y - 2, x, y + 3), fill=colour(0, 120))
        draw.ellipse((x - 5, y + 7, x + 5, y + 7 + rng.integers(2, 7)), fill=colour(60, 200))
    noise = rng.normal(0, 12, (64, 64, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
