"""Of single layers: their class, their children, their variables, how some of them compute."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras


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


def drop_child(layer: keras.layers.Layer, name: str) -> None:
    """Remove a child that `add_child` attached."""
    tracker = layer._tracker
    locked = tracker.locked
    tracker.unlock()
    try:
        delattr(layer, name)
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


def set_plainly(layer: keras.layers.Layer, name: str, value: Any) -> None:
    """Set an attribute of an instance past Keras's tracking."""
    object.__setattr__(layer, name, value)


def drop_plainly(layer: keras.layers.Layer, name: str) -> None:
    """Remove an attribute of an instance that `set_plainly` set."""
    object.__delattr__(layer, name)


def takes_anything(layer: keras.layers.Layer) -> None:
    """Let a layer take numbers, slices and the like as positional arguments, not tensors alone."""
    layer._allow_non_tensor_positional_args = True


def children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that are attributes of this one, or stand in its lists, in Keras's order."""
    return [child for child in layer._layers if isinstance(child, keras.layers.Layer)]


def copy_trainable_flag(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copy a layer's own flag without handing it down to its children."""
    target._trainable = source._trainable


def set_input_shape(layer: keras.layers.Layer, shape: Any) -> None:
    """What `input_shape=` in a layer's constructor does: a Sequential model is built by it."""
    set_plainly(layer, "_input_shape_arg", tuple(shape))


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables that belong to this very layer: no child's, no metric's; seeds included."""
    seeds = [generator.state for generator in layer._seed_generators]
    return [*layer._trainable_variables, *layer._non_trainable_variables, *seeds]


def own_trainable_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables of this very layer that are made to be trained, also where it is frozen."""
    return list(layer._trainable_variables)


@dataclasses.dataclass(frozen=True)
class Attention:
    """What a MultiHeadAttention computes with.

    Attributes:
        scale: 1 ÷ √(size of a key).
        dropout: share of the probabilities that are dropped in training.
        drop: the layer that does it.
        plain: whether nothing else is asked for: no flash attention, no gate, no function of its
            own.
    """

    scale: float
    dropout: float
    drop: Any
    plain: bool


def attention(layer: Any) -> Attention:
    """What a MultiHeadAttention computes with."""
    own = type(layer)._compute_attention is keras.layers.MultiHeadAttention._compute_attention
    flash = bool(layer._flash_attention) or bool(getattr(layer, "_use_gate", False))
    return Attention(
        float(layer._inverse_sqrt_key_dim),
        float(layer._dropout),
        getattr(layer, "_dropout_layer", None),
        own and not flash,
    )


@contextlib.contextmanager
def attention_replaced(layer: Any, change: Any) -> Iterator[None]:
    """Within the body a MultiHeadAttention computes by what `change` makes of its own function.

    Args:
        layer: the layer.
        change: takes the layer's own function and gives another of the same arguments.
    """
    set_plainly(layer, "_compute_attention", change(layer._compute_attention))
    try:
        yield
    finally:
        drop_plainly(layer, "_compute_attention")


def batch_moments(layer: keras.layers.BatchNormalization, inputs: Any, mask: Any) -> Any:
    """Mean and variance that a BatchNorm normalizes a batch by: masked, and over all replicas."""
    return layer._moments(inputs, mask)
