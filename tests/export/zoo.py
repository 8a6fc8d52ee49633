"""Small models of every kind, and a way to run what was exported."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from litesmith.export import flatbuffer


def sequential():
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(4, 3, name="conv a;1 é"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3, name="logits"),
        ]
    )


def lists():
    a, b = layers.Input((8,), name="first in"), layers.Input((8,), name="b;2")
    x = layers.Add()([layers.Dense(6)(a), layers.Dense(6)(b)])
    return keras.Model([b, a], [layers.Dense(2, name="p é")(x), layers.Dense(3, name="q")(x)])


def dicts():
    a, b = layers.Input((8,), name="za"), layers.Input((4,), name="ab")
    x = layers.Concatenate()([a, b])
    outputs = {"y": layers.Dense(2)(x), "x": keras.ops.relu(layers.Dense(3)(x))}
    return keras.Model({"za": a, "ab": b}, outputs)


def nested():
    inputs = layers.Input((8, 8, 2))
    inner = keras.Sequential(
        [
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ],
        name="inner",
    )
    x = layers.DepthwiseConv2D(3)(inner(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@keras.saving.register_keras_serializable("litesmith_tests")
class Subclassed(keras.Model):
    def __init__(self, units=4, **options):
        super().__init__(**options)
        self.units = units
        self.hidden = layers.Dense(units, activation="relu")
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(0.5)
        self.last = layers.Dense(2)

    def call(self, x, training=False):
        x = self.norm(self.hidden(x), training=training)
        return self.last(self.drop(x, training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def subclassed():
    model = Subclassed()
    model(np.zeros((2, 6), "float32"))
    return model


class Scaled(layers.Layer):
    """A custom layer nobody registered."""

    def __init__(self, units=4, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        super().build(shape)

    def call(self, x):
        return keras.ops.matmul(x, self.kernel) * 2

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def custom():
    inputs = layers.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(Scaled()(inputs)))


def recurrent():
    inputs = layers.Input((7, 3))
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(5)(inputs)))


def loop():
    inputs = layers.Input((None, 3))
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True))(inputs)
    return keras.Model(inputs, layers.Dense(2)(x))


def attention():
    inputs = layers.Input((6, 8))
    x = layers.Add()([inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(2)(x))


def embedding():
    inputs = layers.Input((6,), dtype="int32")
    x = layers.Conv1D(3, 3)(layers.Embedding(20, 4)(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return keras.Sequential(
            [
                layers.Input((8, 8, 1)),
                layers.Conv2D(4, 3),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(3, dtype="float32"),
            ]
        )
    finally:
        keras.config.set_dtype_policy("float32")


def transposed():
    return keras.Sequential(
        [
            layers.Input((8, 8, 2)),
            layers.SeparableConv2D(4, 3, padding="same"),
            layers.Conv2DTranspose(3, 3, strides=2, padding="same"),
            layers.Conv2D(6, 1, groups=3),
        ]
    )


KINDS = {
    function.__name__: function
    for function in (
        sequential,
        lists,
        dicts,
        nested,
        subclassed,
        custom,
        recurrent,
        loop,
        attention,
        embedding,
        mixed_precision,
        transposed,
    )
}


def make(kind, seed=0):
    """A model with weights that no two layers share, and BatchNorms that do something."""
    keras.utils.set_random_seed(seed)
    model = KINDS[kind]()
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) != 1 or not str(weight.dtype).startswith("float"):
            continue
        shape = tuple(weight.shape)
        positive = "variance" in weight.path or "gamma" in weight.path
        value = random.uniform(0.5, 1.5, shape) if positive else random.normal(0, 0.3, shape)
        weight.assign(value.astype("float32"))
    return model


def samples(model, count=3, seed=1):
    """Inputs in the structure the model takes."""
    random = np.random.default_rng(seed)
    if isinstance(model, Subclassed):
        return random.normal(size=(count, 6)).astype("float32")

    def one(tensor):
        shape = (count, *(size or 5 for size in tensor.shape[1:]))
        if "int" in str(tensor.dtype):
            return random.integers(0, 20, shape).astype("int32")
        return random.normal(size=shape).astype("float32")

    single = isinstance(model, keras.Sequential)
    return keras.tree.map_structure(one, model.inputs[0] if single else model.input)


def outputs(model, inputs):
    if keras.backend.backend() == "jax":  # far faster than one operation at a time
        values = keras.tree.flatten(model.predict_on_batch(inputs))
    else:
        values = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(value).astype("float32") for value in values]


def run(content, inputs):
    """Run a `.tflite` on flat inputs through its signature; quantizes and dequantizes.

    Returns:
        Outputs by name, as float.
    """
    from ai_edge_litert.interpreter import Interpreter

    signature = flatbuffer.read(content).signatures[0]
    interpreter = Interpreter(model_content=bytes(content))
    arrays = dict(zip(signature.inputs, inputs, strict=True))
    details = {d["index"]: d for d in interpreter.get_input_details()}
    for name, array in arrays.items():
        interpreter.resize_tensor_input(signature.inputs[name], array.shape)
    interpreter.allocate_tensors()
    for name, array in arrays.items():
        detail = details[signature.inputs[name]]
        scale, zero = detail["quantization"]
        if scale:
            limits = np.iinfo(detail["dtype"])
            array = np.clip(np.round(array / scale) + zero, limits.min, limits.max)
        interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
    interpreter.invoke()
    details = {d["index"]: d for d in interpreter.get_output_details()}
    found = {}
    for name, index in signature.outputs.items():
        value = interpreter.get_tensor(index).astype("float32")
        scale, zero = details[index]["quantization"]
        found[name] = (value - zero) * scale if scale else value
    return found
