"""LeNet-300-100 (LeCun et al., 1998), on which compression has been compared since."""

import keras
from keras import layers


def lenet_300_100() -> keras.Model:
    """784-300-100-10, 266,610 parameters; takes 28×28×1."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(300, activation="relu"),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="lenet_300_100",
    )
