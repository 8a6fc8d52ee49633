"""A network of keras.applications for other classes: its features, and a new head.

The features come with what they have learned on ImageNet where that can be had. The images are
taken as litesmith's data has them, 0…1, and scaled inside the model as the network wants; a grey
one stands in for each colour.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from litesmith.errors import LitesmithWarning, ModelError

# How a network was trained, by the module it is in; others scale 0…255 by themselves.
_AROUND_ZERO = frozenset(
    "mobilenet mobilenet_v2 inception_v3 inception_resnet_v2 xception nasnet resnet_v2".split()
)
_NORMALIZED = frozenset({"densenet"})
_MEAN_FREE = frozenset({"vgg16", "vgg19", "resnet"})
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_BGR_MEAN = [-123.68, -116.779, -103.939]  # in the order red, green, blue
_PATIENCE = 20.0  # seconds for a server that does not answer


def build(
    name: str,
    function: Callable[..., keras.Model],
    given: dict[str, Any],
    input_shape: Sequence[int] | None,
    classes: int | None,
) -> keras.Model:
    """Build a network with a head for other classes.

    Args:
        name: as the source has it, for errors.
        function: of keras.applications.
        given: its arguments; `weights` is "imagenet" where they can be had unless it is given, and
            `dropout` (0.2) is the head's.
        input_shape: of one sample.
        classes: of the data.

    Returns:
        The model, its features trainable, ending in softmax.

    Raises:
        ModelError: data that is no images of one or three channels, or has no classes.

    Warns:
        LitesmithWarning: ImageNet's weights could not be had.
    """
    given = {key: value for key, value in given.items() if key != "transfer"}
    shape = tuple(given.pop("input_shape", None) or input_shape or ())
    classes = given.pop("classes", None) or classes
    dropout = given.pop("dropout", 0.2)
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise ModelError(
            name, expected="images of one or three channels", received=f"samples of shape {shape}"
        )
    if not classes:
        raise ModelError(
            name, expected="data with classes", received="data without", fix="give classes"
        )
    image = keras.Input(shape, name="image")
    colour = keras.layers.Concatenate(name="colours")([image] * 3) if shape[-1] == 1 else image
    family = function.__module__.rpartition(".")[2]
    scaled = _scaling(family)(colour)
    options = {"include_top": False, "pooling": "avg", "input_shape": (*shape[:2], 3)}
    weights = given.pop("weights", "imagenet")
    with warnings.catch_warnings():
        # Keras minds sizes that ImageNet's weights were not made for; they work.
        warnings.filterwarnings("ignore", message=".*input_shape.*", category=UserWarning)
        model, learned = _with_weights(
            name, lambda w: function(input_tensor=scaled, weights=w, **options, **given), weights
        )
    if learned and family in _MEAN_FREE:
        _turn_channels(model)
    hidden = model.outputs[0]
    if dropout:
        hidden = keras.layers.Dropout(dropout, name="head_dropout")(hidden)
    outputs = keras.layers.Dense(classes, activation="softmax", name="head")(hidden)
    return keras.Model(image, outputs, name=name.rpartition(":")[2].lower())


def _with_weights(
    name: str, make: Callable[[Any], keras.Model], weights: Any
) -> tuple[keras.Model, bool]:
    """The network, and whether it has learned; random where ImageNet's weights cannot be had."""
    if weights != "imagenet":
        return make(weights), weights is not None
    try:
        with _patience():
            return make(weights), True
    except Exception as error:
        # A wrong argument is one with random weights, too; and then that error is the better one.
        model = make(None)
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        warnings.warn(
            f"{name}: ImageNet's weights could not be had ({why[:120]}): random ones",
            LitesmithWarning,
            stacklevel=4,
        )
        return model, False


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _scaling(family: str) -> keras.layers.Layer:
    """From 0…1 to what the networks of a module were trained on."""
    if family in _MEAN_FREE:
        return keras.layers.Rescaling(255.0, _BGR_MEAN, name="scaling")
    if family in _NORMALIZED:
        return keras.layers.Rescaling(
            (1 / _DEVIATION).tolist(), (-_MEAN / _DEVIATION).tolist(), name="scaling"
        )
    if family in _AROUND_ZERO:
        return keras.layers.Rescaling(2.0, -1.0, name="scaling")
    return keras.layers.Rescaling(255.0, name="scaling")


def _turn_channels(model: keras.Model) -> None:
    """Have a first convolution that learned on blue, green, red take red, green, blue."""
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and len(kernel.shape) == 4 and kernel.shape[2] == 3:
            kernel.assign(keras.ops.flip(kernel, axis=2))
            return
