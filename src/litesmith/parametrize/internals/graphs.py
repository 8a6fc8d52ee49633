"""Of models as graphs: what comes before and after a layer, and which tensors go where."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
from keras.src import backend
from keras.src.models.functional import Functional
from keras.src.ops.operation import Operation


def is_functional(model: keras.layers.Layer) -> bool:
    """Whether a model's config holds its layers, so that saving it whole saves them too."""
    if isinstance(model, keras.Sequential):
        return type(model).get_config is keras.Sequential.get_config
    return isinstance(model, Functional) and type(model).get_config is Functional.get_config


def bare_operations(model: keras.Model) -> list[Any]:
    """What stands in the graph of a functional model, or of one nested in it, and is no layer."""
    found = []
    for operation in getattr(model, "_operations", ()):
        if isinstance(operation, keras.Model):
            found += bare_operations(operation)
        elif not isinstance(operation, keras.layers.Layer):
            found.append(operation)
    return found


def consumers(layer: keras.layers.Layer) -> tuple[int, ...]:
    """Identities of what takes the outputs of a layer's newest call in a functional graph."""
    if not layer._inbound_nodes:
        return ()
    newest = {id(tensor) for tensor in layer._inbound_nodes[-1].outputs}
    return tuple(
        id(node)
        for node in layer._outbound_nodes
        if any(id(tensor) in newest for tensor in node.arguments.keras_tensors)
    )


def surrounding(layer: keras.layers.Layer) -> keras.Model | None:
    """The whole functional graph around a layer's newest call, as a model of the same layers.

    Returns:
        None where the layer stands in no such graph, or one that Keras cannot make a model of.
    """
    if not layer._inbound_nodes:
        return None
    ends, seen = [], set()
    waiting = list(layer._inbound_nodes[-1].outputs)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        giver = tensor._keras_history.operation
        takers = [
            node
            for node in giver._outbound_nodes
            if any(each is tensor for each in node.arguments.keras_tensors)
        ]
        if not takers:
            ends.append(tensor)
        waiting += [each for node in takers for each in node.outputs]
    roots, seen, waiting = [], set(), list(ends)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if node.is_input:
            roots.append(tensor)
        waiting += node.arguments.keras_tensors
    try:
        return Functional(roots, ends)
    except Exception:  # noqa: BLE001  a graph that is being built may be none yet
        return None


def following(layer: keras.layers.Layer) -> list[Any]:
    """The layers and operations that take a layer's outputs, in the graph of functional models."""
    return [node.operation for node in layer._outbound_nodes]


def preceding(layer: keras.layers.Layer) -> list[Any]:
    """The layers and operations whose outputs a layer takes, in the graph of functional models."""
    return [
        tensor._keras_history.operation
        for node in layer._inbound_nodes
        for tensor in node.arguments.keras_tensors
    ]


def edges(model: keras.Model) -> tuple[list[Any], list[Any]]:
    """The operations that give a functional model's inputs, and its outputs; none of another."""
    try:
        return tuple(  # type: ignore[return-value]
            [tensor._keras_history.operation for tensor in tensors or ()]
            for tensors in (model.inputs, model.outputs)
        )
    except (AttributeError, ValueError):
        return [], []


@dataclasses.dataclass
class Flow:
    """Which layer took the very tensor that another gave, in one pass through a model.

    A layer made of layers is no consumer of what one inside it consumes, and a layer that hands on
    its input (Dropout in inference) is none either. What bare operations of a `call` take is not
    seen, but for those of a functional graph.
    """

    given: dict[int, list[int]] = dataclasses.field(default_factory=dict)  # layer: tensors
    taken: dict[int, list[int]] = dataclasses.field(default_factory=dict)  # layer: tensors
    takers: dict[int, list[Any]] = dataclasses.field(default_factory=dict)  # tensor: layers
    giver: dict[int, Any] = dataclasses.field(default_factory=dict)  # tensor: innermost layer
    results: set[int] = dataclasses.field(default_factory=set)  # tensors the model gives
    tensors: list[Any] = dataclasses.field(default_factory=list)  # alive, so that ids stay theirs

    def consumers(self, layer: Any) -> list[Any]:
        """Layers and operations that take what a layer gives."""
        return [
            taker
            for tensor in self.given.get(id(layer), ())
            for taker in self.takers.get(tensor, ())
        ]

    def consumed_otherwise(self, layer: Any, by: set[int]) -> bool:
        """Whether an output of a layer goes anywhere but to the layers of these identities."""
        for tensor in self.given.get(id(layer), ()):
            takers = self.takers.get(tensor, [])
            if not takers or tensor in self.results or any(id(each) not in by for each in takers):
                return True
        return False

    def suppliers(self, layer: Any) -> list[Any]:
        """Layers and operations, the innermost, that give what a layer takes."""
        taken = self.taken.get(id(layer), ())
        return [self.giver[tensor] for tensor in taken if tensor in self.giver]

    def producers(self, layer: Any) -> set[int]:
        """Identities of the layers that give what a layer takes; a tensor of none counts as one."""
        return {
            id(self.giver[tensor]) if tensor in self.giver else -tensor
            for tensor in self.taken.get(id(layer), ())
        }


def watch(model: keras.Model, inputs: Any) -> Flow:
    """Run a model's call on shapes alone and note which layer takes what.

    Args:
        model: a built model.
        inputs: what `symbolic_inputs` gave.
    """
    flow = Flow()
    stack: list[set[int]] = []  # for each call under way, the tensors consumed inside it

    def noting(original: Any, *, bare: bool) -> Any:
        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if bare and isinstance(self, keras.layers.Layer):
                return original(self, *args, **kwargs)
            before = _tensors((args, kwargs))
            stack.append(set())
            try:
                outputs = original(self, *args, **kwargs)
            finally:
                inside = stack.pop()
            after = _tensors(outputs)
            flow.tensors += [*before.values(), *after.values()]
            consumed = [key for key in before if key not in inside and key not in after]
            for key in consumed:
                flow.takers.setdefault(key, []).append(self)
            flow.taken.setdefault(id(self), []).extend(consumed)
            for key in after:
                if key not in before:
                    flow.given.setdefault(id(self), []).append(key)
                    flow.giver.setdefault(key, self)
            if stack:
                stack[-1].update(inside, consumed)
            return outputs

        return call

    def run(inputs: Any) -> Any:
        outputs = model(inputs, training=False)
        flow.results.update(_tensors(outputs))
        return outputs

    layer_call, bare_call = keras.layers.Layer.__call__, Operation.__call__
    keras.layers.Layer.__call__ = noting(layer_call, bare=False)
    Operation.__call__ = noting(bare_call, bare=True)
    try:
        backend.compute_output_spec(run, inputs)
    finally:
        keras.layers.Layer.__call__, Operation.__call__ = layer_call, bare_call
    return flow


def _tensors(structure: Any) -> dict[int, Any]:
    flat = keras.tree.flatten(structure)
    return {id(each): each for each in flat if keras.ops.is_tensor(each)}
