"""A quantized model for `tf.lite.TFLiteConverter.from_keras_model`: roundings that it knows.

The converter takes ranges from TensorFlow's own fake-quantization operators. It asks a model for
its `__call__`, which nothing else does: `model(x)` and `fit` go by the class. So the model's
instance has one that computes with those operators; weights are on their grids anyway.
"""

from __future__ import annotations

from typing import Any

import keras

from litesmith.parametrize import Mark
from litesmith.parametrize.marking import set_call
from litesmith.quantization.ranges import for_converter


@keras.saving.register_keras_serializable("litesmith")
class FakeQuantizing(Mark):
    """On a model: what `TFLiteConverter` calls has fake-quantization operators."""

    def placed(self, layer: keras.layers.Layer) -> None:
        """Give the instance its `__call__`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with for_converter():
                return type(layer).__call__(layer, *args, **kwargs)

        set_call(layer, call)
