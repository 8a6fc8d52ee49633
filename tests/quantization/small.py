"""Small models and data that the tests of quantization share."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

import litesmith as ls

CLASSES = 4


def data(shape=(8, 8, 3), count=96, seed=3):
    """Inputs and labels that can be learned from them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    means = np.random.default_rng(9).normal(size=(CLASSES, *shape))
    inputs = means[labels] + random.normal(0, 0.5, (count, *shape))
    return inputs.astype("float32"), labels


def convolutional(momentum=0.8):
    """Convolutions of every sort that fuses: BatchNorm, ReLU, residual, depthwise, dense."""
    keras.utils.set_random_seed(1)
    inputs = layers.Input((8, 8, 3))

    def block(x, layer):
        norm = layers.BatchNormalization(momentum=momentum)
        return layers.ReLU(name=f"{layer.name}_relu")(norm(layer(x)))

    x = block(inputs, layers.Conv2D(8, 3, padding="same", use_bias=False, name="first"))
    y = block(x, layers.Conv2D(8, 3, padding="same", name="second"))
    x = layers.Add(name="sum")([x, y])
    x = block(x, layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise"))
    x = block(x, layers.Conv2D(16, 1, use_bias=False, name="wide"))
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D(name="pool")(x))
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax", name="head")(x))


def train(model, x, y, epochs=3, rate=1e-2):
    """Train as the tests do."""
    jit = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", jit_compile=jit)
    model.optimizer.build(model.trainable_variables)  # else TensorFlow traces the step twice
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


_before = {}  # weights of the models that were trained before preparing, by what makes them


def trained(recipe, make=convolutional, epochs=3):
    """A model prepared by a recipe and trained, and its data."""
    model = make()
    x, y = data(tuple(model.inputs[0].shape[1:]))
    if make not in _before:
        _before[make] = train(make(), x, y).get_weights()
    model.set_weights(_before[make])
    prepared = ls.prepare(model, recipe)
    return train(prepared, x, y, epochs), x, y


def integers(path, tensor):
    """What a `.tflite` stores for a constant."""
    from litesmith.export.flatbuffer import read

    for graph in read(path).subgraphs:
        for each in graph.tensors:
            if each.name == tensor and each.constant:
                return each
    raise AssertionError(f"no constant {tensor!r}")
