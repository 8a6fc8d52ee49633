"""Operators of a functional graph (`x + 1`, slicing, calls of `keras.ops`) as layers.

Keras keeps them as bare operations, at which no state can stand. In a prepared model each becomes
an `Operator`, a layer of the same name that runs the operation; `strip` gives the operation back.
"""

from __future__ import annotations

import functools
from typing import Any

import keras

from litesmith.parametrize import internals

_REGISTERED = "litesmith>Operator"
# Where Keras has its operations.
_MODULES = ("keras.src.ops", "keras.ops")


class _Box:
    """Holds an operation where Keras's saver does not look for it."""

    def __init__(self, operation: Any):
        self.operation = operation


@keras.saving.register_keras_serializable("litesmith")
class Operator(keras.layers.Layer):
    """An operation of a functional graph, as a layer.

    Args:
        operation: the operation, serialized or live.
    """

    def __new__(cls, operation: Any = None, **options: Any) -> Any:
        """An instance of the class that takes the arguments of this operation."""
        if cls is Operator:
            kind: Any = type(_live(operation))
            cls = _class_for(kind)
        return super().__new__(cls, operation=operation, **options)

    def __init__(self, operation: Any, **options: Any):
        options["dtype"], options["autocast"] = "float32", False
        super().__init__(**options)
        internals.set_plainly(self, "box", _Box(_live(operation)))
        internals.takes_anything(self)
        self.supports_masking = True
        self.supports_jit = True
        self.built = True

    def build(self, *shapes: Any, **named: Any) -> None:
        """Nothing to build: an operation has no weights."""

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """What the operation says of its results."""
        return self.box.operation.compute_output_spec(*args, **kwargs)

    def compute_mask(self, inputs: Any = None, previous_mask: Any = None) -> None:
        """None: an operation hands on no mask."""

    def get_config(self) -> dict[str, Any]:
        """The operation, as Keras would serialize it."""
        operation = keras.saving.serialize_keras_object(self.box.operation)
        return {"name": self.name, "operation": operation}


def _live(operation: Any) -> Any:
    if isinstance(operation, dict):
        return keras.saving.deserialize_keras_object(operation)
    return operation


@functools.cache
def _class_for(kind: Any) -> type:
    @functools.wraps(kind.call)  # Keras reads the signature
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.box.operation.call(*args, **kwargs)

    made = type("Operator", (Operator,), {"call": call, "__module__": __name__})
    # One registered name for all: the constructor tells what to make.
    register = keras.saving.register_keras_serializable("litesmith", "Operator")
    register(made)
    register(Operator)
    return made


def is_operator(layer: Any) -> bool:
    """Whether a layer stands for an operation of the graph."""
    return isinstance(layer, Operator)


def as_layers(config: Any) -> Any:
    """The config of a model with its graph's operations as layers.

    Args:
        config: a serialized model. An operation that takes a list of tensors and other things stays
            as it is: no layer takes such.
    """
    if isinstance(config, list):
        return [as_layers(item) for item in config]
    if not isinstance(config, dict):
        return config
    if _is_operation(config):
        inner = {k: v for k, v in config.items() if k not in ("name", "inbound_nodes")}
        return {
            "module": None,
            "class_name": "Operator",
            "config": {"name": config["name"], "operation": inner},
            "registered_name": _REGISTERED,
            "name": config["name"],
            "inbound_nodes": config["inbound_nodes"],
        }
    return {key: as_layers(value) for key, value in config.items()}


def as_operations(config: Any) -> Any:
    """The config of a model with bare operations where `as_layers` has made layers of them."""
    if isinstance(config, list):
        return [as_operations(item) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("registered_name") == _REGISTERED:
        around = {key: config[key] for key in ("name", "inbound_nodes") if key in config}
        return {**config["config"]["operation"], **around}
    return {key: as_operations(value) for key, value in config.items()}


def _is_operation(config: dict[str, Any]) -> bool:
    module = config.get("module") or ""
    return (
        "inbound_nodes" in config
        and module.startswith(_MODULES)
        and bool(config["inbound_nodes"])
        and not any(_mixed(node) for node in config["inbound_nodes"])
    )


def _mixed(node: Any) -> bool:
    """Whether an argument is a list of tensors and other things."""
    arguments = [*node.get("args", ()), *node.get("kwargs", {}).values()]
    for each in arguments:
        if isinstance(each, (list, tuple)):
            tensors = [_is_tensor(item) for item in each]
            if any(tensors) and not all(tensors):
                return True
    return False


def _is_tensor(item: Any) -> bool:
    return isinstance(item, dict) and item.get("class_name") == "__keras_tensor__"
