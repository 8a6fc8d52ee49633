"""Copying a live model without touching it: no shared variable, no shared layer, same names."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from litesmith.errors import LitesmithError, ModelError
from litesmith.parametrize import internals
from litesmith.parametrize.operators import as_layers, as_operations, is_operator
from litesmith.parametrize.subclassed import as_plain
from litesmith.parametrize.swap import as_original, is_parametrized
from litesmith.parametrize.walking import inner_layers, outermost_layers


def copy_model(model: keras.Model, *, operators: bool = False) -> keras.Model:
    """A plain copy of a model: parametrized layers come out as the layers they were.

    Weights hold the stored values. Variable paths, trainable flags, seeds and BatchNorm statistics
    are those of the original; the compile state is not copied.

    Args:
        model: a built model, of any kind.
        operators: make layers of the operations of its graph (`operators.Operator`), at which
            something can stand; otherwise they are bare operations, whatever they are in the model.

    Returns:
        The copy.

    Raises:
        ModelError: the model is not built, or cannot be made again from its config.
    """
    if not model.built:
        raise ModelError(
            f"model {model.name!r}",
            expected="a built model",
            received="one that has no weights yet",
            fix="call it on a batch, or give it an Input, before preparing it",
        )
    everything = [layer for _, layer in inner_layers(model, "")]
    with as_original(*everything), as_plain(*everything):
        try:
            copy = _from_config(model, everything, operators)
            problem = _copy_state(model, copy)
            if problem and internals.is_functional(model):
                # A layer that stands in the model and in a nested one comes out twice from a
                # config; cloning keeps it one.
                copy = _clone(model, everything)
                problem = _copy_state(model, copy)
        except LitesmithError:
            raise
        except Exception as error:
            raise _cannot_copy(model, f"{type(error).__name__}: {_first_line(error)}") from error
    if problem:
        raise _shared(model) or _cannot_copy(model, problem)
    return copy


def _shared(model: keras.Model) -> ModelError | None:
    """The reason a Keras model cannot be copied: a layer that is used here and in another layer."""
    homes: dict[int, str] = {}
    for outer_path, outer in outermost_layers(model):
        for _, layer in inner_layers(outer, outer_path):
            if homes.setdefault(id(layer), outer_path) != outer_path:
                return ModelError(
                    f"model {model.name!r} cannot be copied",
                    expected="layers that stand in one place",
                    received=f"layer {layer.name!r} in {homes[id(layer)]!r} and in {outer_path!r}, "
                    "of which Keras makes two when it copies or loads the model",
                    fix="give each place a layer of its own",
                )
    return None


def _cannot_copy(model: keras.Model, reason: str) -> ModelError:
    return ModelError(
        f"model {model.name!r} cannot be copied",
        expected="a model that its own get_config() can make again",
        received=reason,
        fix="give its class a get_config() that returns its constructor's arguments",
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"


def _from_config(
    model: keras.Model, everything: list[keras.layers.Layer], operators: bool
) -> keras.Model:
    config = as_operations(_without_compile(keras.saving.serialize_keras_object(model)))
    config = as_layers(config) if operators else config
    custom = custom_objects(config, everything)
    with keras.saving.custom_object_scope(custom), warnings.catch_warnings():
        # Keras warns of a model that it cannot build as a whole; `_build_each` can.
        warnings.filterwarnings("ignore", message=".*cannot be built automatically")
        # The model is live in this process: its Lambdas have run already.
        return keras.saving.deserialize_keras_object(config, safe_mode=False)


def _clone(model: keras.Model, everything: list[keras.layers.Layer]) -> keras.Model:
    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = _without_compile(keras.saving.serialize_keras_object(layer))
        with keras.saving.custom_object_scope(custom_objects(config, everything)):
            return keras.saving.deserialize_keras_object(config, safe_mode=False)

    return keras.models.clone_model(model, clone_function=clone, recursive=True)


def _without_compile(config: Any) -> Any:
    if isinstance(config, dict):
        return {k: _without_compile(v) for k, v in config.items() if k != "compile_config"}
    if isinstance(config, list):
        return [_without_compile(item) for item in config]
    return config


def custom_objects(config: Any, everything: list[keras.layers.Layer]) -> dict[str, Any]:
    """The non-Keras classes and functions that a live model's config names.

    Args:
        config: the serialized model.
        everything: its layers; classes that no module holds (local ones) are found on them.
    """
    found = {}
    for layer in everything:
        if not type(layer).__module__.startswith("keras."):
            found[keras.saving.get_registered_name(type(layer))] = type(layer)
            found.setdefault(type(layer).__name__, type(layer))
    for node in _objects(config):
        name = node["config"] if node["class_name"] == "function" else node["class_name"]
        module = sys.modules.get(node.get("module") or "")
        if isinstance(name, str) and module is not None and hasattr(module, name):
            registered = node.get("registered_name") or name
            if not module.__name__.startswith("keras"):
                found.setdefault(registered, getattr(module, name))
                found.setdefault(name, getattr(module, name))
    return found


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if "class_name" in config and "config" in config:
            yield config
        for value in config.values():
            yield from _objects(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _objects(value)


def _build_each(
    originals: list[tuple[str, keras.Layer]], copies: list[tuple[str, keras.Layer]]
) -> None:
    """Build what is not: layers of a subclassed model that Keras cannot build as a whole."""
    for (_, old), (_, new) in zip(originals, copies, strict=True):
        if old.built and not new.built and not isinstance(new, keras.Model):
            config = old.get_build_config()
            if config:
                new.build_from_config(config)
    for (_, old), (_, new) in zip(originals, copies, strict=True):
        if isinstance(new, keras.Model) and old.built:
            new.built = True


def _copy_state(model: keras.Model, copy: keras.Model) -> str | None:
    """Copy values, paths and flags, layer by layer; returns why that is impossible, or None."""
    originals = [pair for pair in inner_layers(model, "") if not is_operator(pair[1])]
    copies = [pair for pair in inner_layers(copy, "") if not is_operator(pair[1])]
    if len(originals) != len(copies):
        return f"a copy of {len(copies)} layers where the model has {len(originals)}"
    _build_each(originals, copies)
    pairs = []
    for (path, old), (_, new) in zip(originals, copies, strict=True):
        olds, news = internals.own_variables(old), internals.own_variables(new)
        if [tuple(v.shape) for v in olds] != [tuple(v.shape) for v in news]:
            return f"layer {path.strip('/')!r} has other weights in the copy"
        pairs.append((old, new, olds, news))
    if {id(v) for v in model.variables} & {id(v) for v in copy.variables}:
        return "a copy that shares variables with the model"
    for old, new, olds, news in pairs:
        internals.copy_trainable_flag(old, new)
        if new.name != old.name:  # a subclassed model names its layers anew each time
            new.name = old.name
        for source, target in zip(olds, news, strict=True):
            # A copy: JAX gives a compiled step the buffers of its model to overwrite.
            target.assign(keras.ops.copy(source.value))
            internals.set_path(target, source.path)
            target.trainable = source.trainable
    assert not any(is_parametrized(new) for _, new, _, _ in pairs)
    return None
