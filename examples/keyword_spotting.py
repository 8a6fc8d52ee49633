"""Keyword spotting on a microcontroller: a DS-CNN in 8 and in 4 bits, integers only.

    python examples/keyword_spotting.py --small                 # ten words, a minute
    python examples/keyword_spotting.py --data keywords.npz     # 40 words

The data are 49×10 MFCCs of one-second clips, in a .npz with x_train, y_train, x_val, … (Arabic
Speech Commands, CC BY 4.0, Abdulkader Ghandoura). Without them `--small` makes some up.
docs/walkthroughs/keyword-spotting.md goes through it step by step.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import litesmith as ls
from litesmith import data

COMMANDS = Path("../shared/data/arabic-speech-commands/mfcc49x10_40keywords.npz")


def main(arguments: Sequence[str] | None = None) -> ls.Comparison:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="ten words, few epochs")
    parser.add_argument("--data", type=Path, default=COMMANDS, help="a .npz; see above")
    parser.add_argument("--output", type=Path, default=Path("build/keywords"))
    options = parser.parse_args(arguments)
    if not (options.small or options.data.exists()):
        parser.error(f"{options.data} is not there: give --data FILE.npz, or --small")

    folder = options.output
    words = few_words(options.data) if options.small else data.load(f"npz:{options.data}")
    words = centred(words)
    keras.utils.set_random_seed(0)
    if options.small:
        model = ds_cnn(words.num_classes or 0, blocks=2, momentum=0.9)
    else:
        model = ds_cnn(words.num_classes or 0)
    train(model, words, epochs=8 if options.small else 40, rate=3e-3)
    print(f"{model.count_params():,} weights")

    # As it is: integers from 200 clips, nothing trained.
    source = ls.convert(model)
    artifacts = [
        ls.export(source, folder / "float32.tflite"),
        ls.export(
            source,
            folder / "int8 post-training.tflite",
            quantize="int8",
            calibration=words.train.take(200).x,
        ),
    ]
    # Trained with the rounding: 8 bits; and 4, but for the first and the last layer.
    ends = ls.Quantize(where=["first", "answer"])
    for name, recipe in (
        ("int8 trained", ls.Recipe(ls.Quantize())),
        ("int4 trained", ls.Recipe(ends, ls.Quantize(weights=4))),
    ):
        epochs = 2 if options.small else 10
        steps = epochs * -(-len(words.train) // 64)
        prepared = ls.prepare(model, recipe.laid_out(steps), steps=steps)
        train(prepared, words, epochs, rate=1e-3)
        small = ls.strip(prepared)
        file = ls.export(small, folder / f"{name}.tflite", quantize="int8", strict=True)
        artifacts.append(file)

    timing: dict[str, int] = {"runs": 10, "repeats": 1} if options.small else {}
    results: list[Any] = []
    for artifact in artifacts:
        results.append(ls.evaluate(artifact, words.test, metrics=["accuracy"]))
        results.append(ls.benchmark(artifact, **timing))
    comparison = ls.compare(results)
    tell(comparison)
    comparison.save(folder / "report.html")
    header = c_array(artifacts[-1].path, folder / "keyword_model.h")
    print(f"report: {folder / 'report.html'}, for the firmware: {header}")
    return comparison


def tell(comparison: ls.Comparison) -> None:
    """What the device needs: flash for the file, RAM for the arena."""
    for one in comparison.done:
        assert one.size is not None and one.memory is not None
        print(
            f"{one.name}: accuracy {one.metrics['accuracy']:.2%}, "
            f"flash {one.size.file / 1000:.1f} kB, arena {(one.memory.arena or 0) / 1000:.1f} kB"
        )


def ds_cnn(classes: int, width: int = 44, blocks: int = 4, momentum: float = 0.99) -> keras.Model:
    """A depthwise separable CNN (Zhang et al., "Hello Edge", 2017), some 13,000 weights.

    Args:
        classes: words.
        width: channels.
        blocks: of a depthwise and a 1×1 convolution.
        momentum: of BatchNorm; 0.9 where training is short.
    """

    def normalized(x: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization(momentum=momentum)(x))

    inputs = keras.Input((49, 10, 1), name="mfcc")
    x = layers.Conv2D(width, (10, 4), strides=2, padding="same", use_bias=False, name="first")(
        inputs
    )
    x = normalized(x)
    for _ in range(blocks):
        x = normalized(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
        x = normalized(layers.Conv2D(width, 1, use_bias=False)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    outputs = layers.Dense(classes, activation="softmax", name="answer")(x)
    return keras.Model(inputs, outputs, name="ds_cnn")


def train(model: keras.Model, words: data.Dataset, epochs: int, rate: float) -> None:
    """Adam, the rate falling to zero along half a cosine."""
    steps = epochs * -(-len(words.train) // 64)
    decay = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.Adam(decay), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        words.train.keras(64, shuffle=True),
        validation_data=words.validation.keras(64),
        epochs=epochs,
        verbose=2,
    )


def few_words(path: Path, count: int = 10) -> data.Dataset:
    """The first `count` words of the data; made-up ones where there are none."""
    if not path.exists():
        print(f"{path} is not there: these are made-up sounds, and the accuracy means nothing")
        return made_up(count)
    whole = data.load(f"npz:{path}")
    parts = {
        name: split.at(np.flatnonzero(np.asarray(split.y) < count))
        for name, split in whole.splits.items()
    }
    return data.Dataset(f"{count} words", **parts)


def centred(words: data.Dataset) -> data.Dataset:
    """Each coefficient with mean 0 and deviation 1 over the training split, as (49, 10, 1).

    The firmware does the same with the same numbers, before the network: inside, one scale for
    all would leave the small coefficients without resolution.
    """
    x = np.asarray(words.train.x, np.float32).reshape(-1, 49, 10, 1)
    mean, deviation = x.mean((0, 1), keepdims=True), x.std((0, 1), keepdims=True)

    def change(split: data.Split) -> data.Split:
        x = np.asarray(split.x, np.float32).reshape(-1, 49, 10, 1)
        return data.Split((x - mean) / deviation, split.y)

    parts = {name: change(split) for name, split in words.splits.items()}
    return dataclasses.replace(words, **parts)


def made_up(count: int) -> data.Dataset:
    """Noise around one smooth curve a word: a stand-in for MFCCs, of the same shape."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 2 * np.pi, 49)[:, None, None]
    pitch = rng.uniform(0.5, 3.0, (count, 1, 10, 1))
    phase = rng.uniform(0, 6, (count, 1, 10, 1))
    curves = np.sin(pitch * time + phase)

    def split(size: int) -> data.Split:
        y = np.arange(size) % count
        x = curves[y] + rng.normal(0, 2.0, (size, 49, 10, 1))
        return data.Split(x.astype(np.float32), y)

    return data.Dataset("made-up sounds", split(1200), split(200), split(400))


def c_array(path: Path, target: Path, name: str = "keyword_model") -> Path:
    """Write a file as a C array, as `xxd -i` does: firmware has no files to read.

    Args:
        path: the `.tflite`.
        target: the header to write.
        name: of the array.

    Returns:
        The header's path.
    """
    content = Path(path).read_bytes()
    rows = [
        "  " + ", ".join(f"0x{byte:02x}" for byte in content[start : start + 12])
        for start in range(0, len(content), 12)
    ]
    body = ",\n".join(rows)
    target.write_text(
        f"// {Path(path).name}, {len(content)} bytes\n"
        f"alignas(16) const unsigned char {name}[] = {{\n{body}\n}};\n"
        f"const unsigned int {name}_len = {len(content)};\n"
    )
    return target


if __name__ == "__main__":
    main()
