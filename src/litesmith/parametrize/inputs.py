"""What layers of a model are given, while it runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import internals
from litesmith.parametrize.sites import is_value


def hear_inputs(
    model: keras.Model,
    inputs: Any,
    layers: Iterable[keras.layers.Layer],
    heard: Callable[[keras.layers.Layer, np.ndarray], None],
) -> None:
    """Run a model in inference and tell the first tensor that each of some layers is called with.

    Args:
        model: a built model.
        inputs: what it takes.
        layers: layers of it, inner ones too.
        heard: called with the layer and the tensor's numbers, float32, at each call.
    """
    wanted = {id(layer) for layer in layers}

    def noting(original: Any) -> Any:
        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if id(self) in wanted:
                values = [each for each in keras.tree.flatten((args, kwargs)) if is_value(each)]
                if values:
                    heard(self, keras.ops.convert_to_numpy(values[0]).astype(np.float32))
            return original(self, *args, **kwargs)

        return call

    with internals.calls_replaced(noting):
        model(inputs, training=False)
