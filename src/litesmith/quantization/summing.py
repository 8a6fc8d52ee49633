"""What is added to what: told by the layer that adds, for the range behind its activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from litesmith.parametrize import Tap, Use, is_operator, is_value, tell, told
from litesmith.quantization.calibrating import watching


def sign_of(layer: Any) -> int:
    """1 where a layer adds two tensors, −1 where it subtracts one from another, else 0."""
    if is_operator(layer):
        kind = type(layer.box.operation).__name__
    else:
        kind = type(layer).__name__ if type(layer).__module__.startswith("keras.") else ""
    return {"Add": 1, "Subtract": -1}.get(kind, 0)


@keras.saving.register_keras_serializable("litesmith")
class Sum(Tap):
    """Stands at the whole call of a layer that adds two tensors.

    Args:
        key: under which the two are told, each with its scale.
        one, other: the keys of their scales.
        sign: −1 where the other one is subtracted.
    """

    fields = ("key", "one", "other", "sign")

    def __init__(self, *, key: str, one: str, other: str, sign: int = 1, **options: Any):
        super().__init__(**options)
        self.key, self.one, self.other, self.sign = key, one, other, sign

    def begin(self, layer: keras.layers.Layer, training: bool) -> _SumUse:
        """One call."""
        return _SumUse(self, training)


class _SumUse(Use):
    def __init__(self, tap: Sum, training: bool):
        self.tap, self.training = tap, training

    def run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In inference, where both scales are known, tell what is added."""
        one, other = told(self.tap.one), told(self.tap.other)
        if not self.training and not watching() and one is not None and other is not None:
            found = [each for each in keras.tree.flatten((args, kwargs)) if is_value(each)]
            if len(found) == 2:
                first, second = (keras.ops.cast(each, "float32") for each in found)
                tell(self.tap.key, ((first, one[0]), (self.tap.sign * second, other[0])))
        return original(*args, **kwargs)
