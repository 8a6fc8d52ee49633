"""What a Keras model takes and gives, by name, and how its inputs fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from litesmith.errors import ModelError


@dataclass(frozen=True)
class Interface:
    """A model's inputs, flat, with their names, and how to put them together again."""

    structure: Any
    shapes: tuple[tuple[int | None, ...], ...]
    dtypes: tuple[str, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...] | None

    @staticmethod
    def of(model: keras.Model) -> Interface:
        """Read it off a built model.

        Raises:
            ModelError: the model has not been built.
        """
        symbolic = getattr(model, "inputs", None)
        if symbolic:
            # A Sequential has no structure, and its `input` is its place in an outer model.
            single = isinstance(model, keras.Sequential)
            structure = symbolic[0] if single else model.input
            results = model.outputs[0] if single else model.output
            flat = keras.tree.flatten(structure)
            names = _input_names(model, flat)
            outputs = _names(results, _output_names(model, results))
            return Interface(
                structure=keras.tree.map_structure(lambda tensor: 0, structure),
                shapes=tuple(tuple(tensor.shape) for tensor in flat),
                dtypes=tuple(str(tensor.dtype) for tensor in flat),
                input_names=_names(structure, names),
                output_names=outputs,
            )
        if not model.built:
            raise ModelError(
                f"model {model.name!r}",
                expected="a model that was built",
                received="one without weights yet",
                fix="call it once on a batch, or train it",
            )
        shapes = (model.get_build_config() or {}).get("input_shape")
        if not shapes:
            raise ModelError(
                f"model {model.name!r}",
                expected="a model that was called once",
                received="one whose input shapes nobody knows",
                fix="call it on a batch, all inputs in one list or dict",
            )
        structure = _shape_structure(shapes)
        paths = keras.tree.flatten_with_path(structure)
        flat_shapes = [value.shape for _, value in paths]
        names = [str(path[-1]) if path else "inputs" for path, _ in paths]
        names = [f"input_{name}" if name.isdigit() else name for name in names]
        return Interface(
            structure=keras.tree.map_structure(lambda _: 0, structure),
            shapes=tuple((None, *shape[1:]) for shape in flat_shapes),
            dtypes=("float32",) * len(flat_shapes),
            input_names=_unique(names),
            output_names=None,
        )


def answer_names(model: keras.Model, answer: Any) -> tuple[str, ...]:
    """Names of a model's outputs, in the order `keras.tree.flatten` gives them.

    Args:
        model: any model.
        answer: what it answered: a subclassed model's outputs are known by it only. They are
            named by a dict's keys, or else numbered as in an exported file.
    """
    names = Interface.of(model).output_names if getattr(model, "inputs", None) else None
    if names is not None:
        return names
    count = len(keras.tree.flatten(answer))
    return _names(answer, ["output"] if count == 1 else [f"output_{i}" for i in range(count)])


class _Shape:
    """A shape that tree functions leave whole."""

    def __init__(self, shape: Sequence[int | None]):
        self.shape = tuple(shape)


def _shape_structure(shapes: Any) -> Any:
    if isinstance(shapes, dict):
        return {key: _shape_structure(value) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return _Shape(shapes)
    return [_shape_structure(value) for value in shapes]


def _input_names(model: keras.Model, tensors: Sequence[Any]) -> list[str]:
    """The input layers' names: an unnamed input's tensor is called after a running number."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]
    names = {id(layer.output): layer.name for layer in layers}
    if isinstance(model, keras.Sequential):  # keeps its input layer to itself
        names = {id(t): "input_layer" for t in tensors if t.name.startswith("keras_tensor")}
    return [names.get(id(tensor), tensor.name) for tensor in tensors]


def _output_names(model: keras.Model, results: Any) -> list[str]:
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    names = getattr(model, "output_names", None)
    flat = keras.tree.flatten(results)
    if names and len(names) == len(flat):
        return list(names)
    return [tensor.name for tensor in flat]


def _names(structure: Any, names: Sequence[str]) -> tuple[str, ...]:
    """The keys of a dict, or else the names given."""
    paths = keras.tree.flatten_with_path(structure)
    keyed = [path[-1] if path and isinstance(path[-1], str) else None for path, _ in paths]
    return _unique([key or name for key, name in zip(keyed, names, strict=True)])


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    result: list[str] = []
    for name in names:
        candidate, count = name, 1
        while candidate in result:
            candidate, count = f"{name}_{count}", count + 1
        result.append(candidate)
    return tuple(result)
