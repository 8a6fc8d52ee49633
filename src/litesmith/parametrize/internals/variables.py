"""Of variables: when they have values, whether they were written to, who keeps a list of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.backend.common.variables import AutocastScope
from keras.src.utils.tracking import DotNotTrackScope

_WAITING = "uninitialized_variables"  # Keras's global list of variables without values


def set_path(variable: keras.Variable, path: str) -> None:
    """Give a variable of a copy the path it has in the original."""
    variable._path = path


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Layers built in the body have variables with shapes, but without values.

    Keras keeps a list of such variables, and gives all of them values at the end of the next
    stateless scope, whoever opens it: those of the body are taken off that list.
    """
    before = list(global_state.get_global_attribute(_WAITING) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(_WAITING, before)


@contextlib.contextmanager
def untracked() -> Iterator[None]:
    """Attributes set in the body are not tracked as children or variables."""
    with DotNotTrackScope():
        yield


def without_autocast() -> contextlib.AbstractContextManager[Any]:
    """Variables read in the body have their own type, whatever the layer computes in."""
    return AutocastScope(None)


@contextlib.contextmanager
def outside_of_traces() -> Iterator[None]:
    """Within the body variables have values, too, where TensorFlow traces a function around it.

    Keras on TensorFlow looks at no layer before it traces its first training step.
    """
    if backend.backend() != "tensorflow" or backend.get_stateless_scope() is not None:
        yield
        return
    import tensorflow as tf

    with tf.init_scope():
        yield


def traced() -> bool:
    """Whether TensorFlow is tracing a function, in which variables made now have no values yet."""
    return backend.backend() == "tensorflow" and backend.get_stateless_scope() is None


def has_values(variables: Iterable[keras.Variable] = ()) -> bool:
    """Whether variables have values here: not where a model is only traced, or run on shapes.

    Args:
        variables: those it is about; TensorFlow gives variables that a traced function makes their
            values when the whole function has been traced.
    """
    if backend.get_stateless_scope() is not None:
        return False
    try:
        keras.ops.convert_to_numpy(keras.ops.zeros(()))
        for variable in variables:
            if keras.ops.convert_to_numpy(variable.value).shape != tuple(variable.shape):
                return False
    except Exception:  # noqa: BLE001  each backend has its own word for it
        return False
    return True


def value_of(variable: keras.Variable) -> Any:
    """What a variable holds now, as a tensor that its gradient goes through.

    Under TensorFlow converting gives the variable itself back, so that it takes a copy.
    """
    of_torch = backend.backend() == "torch"
    return keras.ops.convert_to_tensor(variable) if of_torch else keras.ops.copy(variable)


def add_one(variable: Any) -> None:
    """Add one to an integer variable on PyTorch."""
    if backend.in_stateless_scope():
        variable.assign_add(1)
    else:
        variable.value.add_(1)


def written(variable: keras.Variable) -> tuple[Any, tuple[Any, ...]] | None:
    """A variable's tensor, and what is another after each write to it, or move.

    Writes past PyTorch's own record of them (`tensor.data.copy_`) are not seen.

    Returns:
        None but where PyTorch runs operator by operator on numbers: only there may what is done
        next hang on one.
    """
    if backend.backend() != "torch":
        return None
    import torch
    from keras.src.backend.torch.core import get_device

    tensor = variable.value
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return None
    if tensor.is_meta or tensor.is_inference():
        return None
    return tensor, (tensor._version, tensor.data_ptr(), tensor.dtype, str(get_device()))


def list_parameters(model: keras.Model) -> None:
    """Have PyTorch's own lists of parameters (`state_dict`, `parameters`) hold every variable.

    Keras makes them as a layer is built; what layers get afterwards is not in them.
    """
    if backend.backend() == "torch":
        for layer in model._flatten_layers():
            if layer.built:
                layer._track_variables()
