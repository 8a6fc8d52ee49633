"""A mark on a layer: something to do with it later, or to know of it, kept when it is saved.

A layer that is not built yet has no weight to parametrize, and one that stands in no model yet has
no neighbours. `put` swaps the class of such a layer for a subclass that carries a `Mark`; the mark
is told when the layer has been built, and whenever somebody asks whether it is, or for its
variables, or calls it, which every way of training does before it compiles anything.
"""

from __future__ import annotations

import functools
from typing import Any

import keras

from litesmith.parametrize import internals
from litesmith.parametrize.swap import Swapped

MARK = "litesmith_mark"
_BUILD = "build"


class Mark:
    """What a marked layer carries. Subclasses are registered with Keras, and have `get_config`."""

    def placed(self, layer: keras.layers.Layer) -> None:
        """Told once the layer carries it, also after loading."""

    def built(self, layer: keras.layers.Layer) -> None:
        """Told once the layer has been built, where it was not when the mark was placed."""

    def asked(self, layer: keras.layers.Layer) -> None:
        """Told, often, before the layer's variables are listed and before it is called."""
        return None  # a body: AutoGraph warns of a function without one

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Mark:
        """What `get_config` wrote."""
        return cls(**config)


@keras.saving.register_keras_serializable("litesmith")
class Marked(Swapped):
    """Mixin of the class of a marked layer."""

    def get_config(self) -> dict[str, Any]:
        """The layer without the mark, as Keras would serialize it, and the mark."""
        marked: Any = self
        cls, mark = type(self), mark_of(self)
        internals.set_class(marked, cls.__bases__[1])
        try:
            layer = keras.saving.serialize_keras_object(self)
        finally:
            internals.set_class(marked, cls)
        for key in ("build_config", "compile_config"):  # stand in our own serialization
            layer.pop(key, None)
        mark = keras.saving.serialize_keras_object(mark)
        return {"name": marked.name, "layer": layer, "mark": mark}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.layers.Layer:
        """The layer, marked again."""
        layer = keras.saving.deserialize_keras_object(config["layer"], custom_objects)
        if config["name"] != layer.name:  # clone_model renames by config
            layer.name = config["name"]
        return put(layer, keras.saving.deserialize_keras_object(config["mark"], custom_objects))

    # `fit` asks each layer this, on every backend, before it traces anything.
    @property
    def built(self) -> bool:
        """Whether the layer has been built."""
        mark = mark_of(self)
        if mark is not None:
            mark.asked(self)
        return vars(self).get("built", False)

    @built.setter
    def built(self, value: bool) -> None:
        vars(self)["built"] = value

    @property
    def variables(self) -> list[keras.Variable]:
        """The layer's variables."""
        mark = mark_of(self)
        if mark is not None:
            mark.asked(self)
        return super().variables  # type: ignore[misc]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's call."""
        mark = mark_of(self)
        if mark is not None:
            mark.asked(self)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


@functools.cache
def _marked_class(base: Any) -> type:
    marked = type(base.__name__, (Marked, base), {"__module__": __name__})
    return keras.saving.register_keras_serializable("litesmith", "Marked")(marked)


def mark_of(layer: Any) -> Any:
    """The mark a layer carries, or None."""
    return vars(layer).get(MARK) if isinstance(layer, Marked) else None


def put(layer: Any, mark: Mark) -> Any:
    """Have a layer, or a model, carry a mark; the one it may carry already is replaced.

    Args:
        layer: any layer, built or not.
        mark: the mark.

    Returns:
        The same layer.
    """
    take_off(layer)
    internals.set_plainly(layer, MARK, mark)
    base: Any = type(layer)
    internals.set_class(layer, _marked_class(base))
    if not layer.built:
        _tell_when_built(layer)
    mark.placed(layer)
    return layer


def take_off(layer: Any) -> None:
    """Remove a layer's mark; nothing happens to one that has none."""
    if isinstance(layer, Marked):
        internals.set_class(layer, type(layer).__bases__[1])
        internals.drop_plainly(layer, MARK)
        if "__call__" in vars(layer):
            internals.drop_plainly(layer, "__call__")


def _tell_when_built(layer: Any) -> None:
    """Keras keeps a layer's `build` on the instance: that is what is wrapped."""
    original = vars(layer)[_BUILD]

    @functools.wraps(original)  # Keras reads the signature
    def build(*args: Any, **kwargs: Any) -> Any:
        internals.set_plainly(layer, _BUILD, original)
        original(*args, **kwargs)
        mark = mark_of(layer)
        if mark is not None:
            mark.built(layer)

    internals.set_plainly(layer, _BUILD, build)


def set_call(model: keras.Model, call: Any) -> None:
    """Give an instance a `__call__` for those who ask for it; `model(x)` goes by the class."""
    internals.set_plainly(model, "__call__", call)
