"""Of calls: which pass they belong to, whether it is training, passes that run on shapes alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.models.functional import Functional


def current_pass() -> Any:
    """An object that is the same for all layers that are called in one pass through a model.

    That is the stateless scope, or else the context that the outermost call has opened; None where
    a `call` is run without either.
    """
    return backend.get_stateless_scope() or global_state.get_global_attribute("current_call_ctx")


def training_of_call() -> bool | None:
    """Whether the layer call under way is one of training; None where nothing was said of it."""
    context = global_state.get_global_attribute("current_call_ctx")
    return None if context is None else context.get_value("training")


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


@contextlib.contextmanager
def calls_replaced(change: Any) -> Iterator[None]:
    """Within the body every layer's `__call__` is what `change` makes of Keras's."""
    original = keras.layers.Layer.__call__
    keras.layers.Layer.__call__ = change(original)
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original
