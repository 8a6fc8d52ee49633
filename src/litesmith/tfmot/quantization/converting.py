"""A quantized model for `tf.lite.TFLiteConverter.from_keras_model`: roundings that it knows.

The converter takes ranges from TensorFlow's own fake-quantization operators. It asks a model for
its `__call__`, which nothing else does: `model(x)` and `fit` go by the class. So the model's
instance has one that computes with those operators; weights are on their grids anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from litesmith.parametrize import Mark, holder_of, is_parametrized, outermost_layers
from litesmith.parametrize.marking import set_call
from litesmith.quantization.ranges import for_converter


@keras.saving.register_keras_serializable("litesmith")
class FakeQuantizing(Mark):
    """On a model: what `TFLiteConverter` calls has fake-quantization operators.

    Args:
        only: paths of the layers that were annotated; None for all. Ranges elsewhere would have the
            converter quantize what nobody has trained for it.
    """

    def __init__(self, only: list[str] | None = None):
        self.only = only

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        return {"only": self.only}

    def _wanted(self, model: keras.Model) -> Callable[[Any], bool]:
        if self.only is None:
            return lambda tap: True
        layers = {path: layer for path, layer in outermost_layers(model) if is_parametrized(layer)}
        here = [
            tap for path in self.only if path in layers for _, tap in holder_of(layers[path]).taps()
        ]
        inputs = {tap.product["input"] for tap in here if tap.product}
        ids = {id(tap) for tap in here}
        return lambda tap: id(tap) in ids or (bool(tap.key) and tap.key in inputs)

    def placed(self, layer: keras.layers.Layer) -> None:
        """Give the instance its `__call__`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with for_converter(self._wanted(layer)):
                return type(layer).__call__(layer, *args, **kwargs)

        set_call(layer, call)
