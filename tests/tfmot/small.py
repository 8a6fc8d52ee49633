"""Small models and data for the tests of tfmot's names."""

import keras
import numpy as np
from sklearn.datasets import load_digits

import litesmith as ls

layers = keras.layers


def digits():
    """Handwritten digits, shuffled, as they lie by writer: 1,297 to train on, 500 to test."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order].reshape(-1, 8, 8, 1) / 16.0).astype("float32"), y[order].astype("int32")
    return (x[:1297], y[:1297]), (x[1297:], y[1297:])


def noise(count=32):
    """Made-up pictures and labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 8, 8, 1)).astype("float32"), rng.integers(0, 4, count)


def network():
    """A convolution with BatchNorm, a depthwise one, two dense layers."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(inputs)
    hidden = layers.BatchNormalization(momentum=0.9, name="norm")(hidden)
    hidden = layers.ReLU(name="relu")(hidden)
    hidden = layers.DepthwiseConv2D(3, strides=2, name="depthwise")(hidden)
    hidden = layers.Flatten(name="flatten")(hidden)
    hidden = layers.Dense(16, activation="relu", name="hidden")(hidden)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(hidden))


def fit(model, data=None, epochs=1, callbacks=()):
    """Train a little."""
    x, y = data or noise()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, batch_size=16, verbose=0, callbacks=list(callbacks))
    return model


def kernels(model):
    """The kernels of a plain model, by layer."""
    found = {}
    for layer in model.layers:
        for name in ("kernel", "depthwise_kernel", "embeddings"):
            if hasattr(layer, name):
                found[layer.name] = keras.ops.convert_to_numpy(getattr(layer, name))
    return found


def sparsity(model):
    """Share of zeros of each kernel of a plain model."""
    return {name: float((value == 0).mean()) for name, value in kernels(model).items()}


def distinct(model):
    """Number of distinct values of each kernel of a plain model."""
    return {name: len(np.unique(value)) for name, value in kernels(model).items()}


def is_plain(model):
    """Whether nothing of litesmith is in a model."""
    classes = [type(layer) for layer in model._flatten_layers()]
    return all(cls.__module__.startswith("keras.") for cls in classes)


def same(model, other, atol=1e-5):
    """Whether two models predict the same."""
    x, _ = noise()
    first, second = model.predict(x, verbose=0), other.predict(x, verbose=0)
    return np.allclose(first, second, atol=atol)


def through_litert(content, tmp_path, data):
    """Accuracy of a `.tflite` given as bytes."""
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    return ls.evaluate(path, data, metrics=["accuracy"]).metrics["accuracy"]


def types(content):
    """How many tensors of each type a `.tflite` has."""
    from litesmith.export import flatbuffer

    found = {}
    for tensor in flatbuffer.read(content).subgraphs[0].tensors:
        found[tensor.type] = found.get(tensor.type, 0) + 1
    return found


def points(folder, tag):
    """Step and value of each point of a tag in the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = []
    for file in sorted(folder.glob("events.*")):
        events = EventAccumulator(str(file), size_guidance={"tensors": 0})
        events.Reload()
        if tag in events.Tags()["tensors"]:
            found += [(each.step, make_ndarray(each.tensor_proto)) for each in events.Tensors(tag)]
    return sorted(found, key=lambda each: each[0])
