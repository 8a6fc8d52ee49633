"""Small networks for the tests of clustering."""

import keras
import numpy as np
from keras import layers


def unsettled(model):
    """BatchNorms as training leaves them, some γ negative, one tiny; biases that are not zero."""
    rng = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            for weight in layer.weights:
                value = rng.normal(size=weight.shape)
                if "variance" in weight.path:
                    value = rng.uniform(0.1, 3, weight.shape)
                elif "gamma" in weight.path:
                    value[0] = 1e-3
                weight.assign(value)
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def chain(shape, *parts):
    keras.utils.set_random_seed(3)
    inputs = keras.Input(shape)
    hidden = inputs
    for part in parts:
        hidden = part(hidden)
    return unsettled(keras.Model(inputs, hidden))


def norm(**options):
    return layers.BatchNormalization(**options)
