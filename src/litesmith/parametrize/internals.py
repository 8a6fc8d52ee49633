"""The only file that touches what Keras does not make public.

Each function here is one dependency on a Keras internal; `tests/core/test_internals.py` tries
them against the installed Keras, so that a new release that changes one is found at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common.variables import AutocastScope
from keras.src.models.functional import Functional
from keras.src.utils.tracking import DotNotTrackScope


def add_child(layer: keras.layers.Layer, name: str, child: keras.layers.Layer) -> None:
    """Attach `child` as the attribute `name` of a layer that may be built already.

    Keras locks a layer's tracker once it is built; the saver finds children by attribute.
    """
    tracker = layer._tracker
    locked = tracker.locked
    tracker.unlock()
    try:
        setattr(layer, name, child)
    finally:
        if locked:
            tracker.lock()


def move_last(layer: keras.layers.Layer, child: keras.layers.Layer) -> None:
    """Put a child behind its siblings, so that weights come in one order however it was made.

    A layer that makes its children in `build` gets the holder first when it is loaded, and last
    when it is prepared.
    """
    layers = layer._layers
    if layers and layers[-1] is not child:
        layers[:] = [other for other in layers if other is not child] + [child]


def set_class(layer: keras.layers.Layer, cls: type) -> None:
    """Give an instance another class; its state stays."""
    object.__setattr__(layer, "__class__", cls)


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables that belong to this very layer: no child's, no metric's; seeds included."""
    seeds = [generator.state for generator in layer._seed_generators]
    return [*layer._trainable_variables, *layer._non_trainable_variables, *seeds]


def own_trainable_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables of this very layer that are made to be trained, also where it is frozen."""
    return list(layer._trainable_variables)


def children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that are attributes of this one, or stand in its lists, in Keras's order."""
    return [child for child in layer._layers if isinstance(child, keras.layers.Layer)]


def set_path(variable: keras.Variable, path: str) -> None:
    """Give a variable of a copy the path it has in the original."""
    variable._path = path


def copy_trainable_flag(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copy a layer's own flag without handing it down to its children."""
    target._trainable = source._trainable


def is_functional(model: keras.layers.Layer) -> bool:
    """Whether a model's config holds its layers, so that saving it whole saves them too."""
    if isinstance(model, keras.Sequential):
        return type(model).get_config is keras.Sequential.get_config
    return isinstance(model, Functional) and type(model).get_config is Functional.get_config


@contextlib.contextmanager
def untracked() -> Iterator[None]:
    """Attributes set in the body are not tracked as children or variables."""
    with DotNotTrackScope():
        yield


def without_autocast() -> contextlib.AbstractContextManager[Any]:
    """Variables read in the body have their own type, whatever the layer computes in."""
    return AutocastScope(None)


def outer_scope_collects_losses() -> bool:
    """Whether `add_loss` has somewhere to go: no stateless scope, or one that collects."""
    scope = backend.get_stateless_scope()
    return scope is None or scope.collect_losses


def hand_out_losses(layer: keras.layers.Layer, losses: list[Any]) -> None:
    """Pass losses that were collected in an inner stateless scope on to the outer one, or on.

    In a scope each loss belongs to the layers that know its identity, as the inner layer that
    added it does; adding it to the outer layer, too, would count it twice.
    """
    scope = backend.get_stateless_scope()
    for loss in losses:
        if scope is None:
            layer.add_loss(loss)
        elif scope.collect_losses:
            scope.add_loss(loss)


def symbolic_inputs(model: keras.Model) -> Any:
    """KerasTensors that the model can be called on, or None where it does not know its inputs."""
    if isinstance(model, (Functional, keras.Sequential)) and model.built:
        try:
            struct = model._inputs_struct if isinstance(model, Functional) else model.inputs[0]
        except (AttributeError, IndexError, ValueError):
            return None
        return keras.tree.map_structure(
            lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype), struct
        )
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    shape = (config or {}).get("input_shape")
    if isinstance(shape, (list, tuple)) and all(
        isinstance(size, int) or size is None for size in shape
    ):
        return keras.KerasTensor(shape, getattr(model, "input_dtype", None) or "float32")
    return None


def infer(model: keras.Model, inputs: Any) -> int:
    """Run a model's call on shapes alone.

    Returns:
        How often it was run: Keras may try more than one batch size (it does on torch).
    """
    passes = 0

    def call(inputs: Any) -> Any:
        nonlocal passes
        passes += 1
        return model(inputs, training=False)

    backend.compute_output_spec(call, inputs)
    return passes
