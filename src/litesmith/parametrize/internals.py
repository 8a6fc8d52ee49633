"""The only file that touches what Keras does not make public.

Each function here is one dependency on a Keras internal; `tests/core/test_internals.py` tries
them against the installed Keras, so that a new release that changes one is found at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.backend.common.variables import AutocastScope
from keras.src.models.functional import Functional
from keras.src.ops.operation import Operation
from keras.src.utils.tracking import DotNotTrackScope

_WAITING = "uninitialized_variables"  # Keras's global list of variables without values


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


def bare_operations(model: keras.Model) -> list[Any]:
    """What stands in the graph of a functional model, or of one nested in it, and is no layer."""
    found = []
    for operation in getattr(model, "_operations", ()):
        if isinstance(operation, keras.Model):
            found += bare_operations(operation)
        elif not isinstance(operation, keras.layers.Layer):
            found.append(operation)
    return found


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


def batch_moments(layer: keras.layers.BatchNormalization, inputs: Any, mask: Any) -> Any:
    """Mean and variance that a BatchNorm normalizes a batch by: masked, and over all replicas."""
    return layer._moments(inputs, mask)


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


def set_input_shape(layer: keras.layers.Layer, shape: Any) -> None:
    """What `input_shape=` in a layer's constructor does: a Sequential model is built by it."""
    set_plainly(layer, "_input_shape_arg", tuple(shape))


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


def edges(model: keras.Model) -> tuple[list[Any], list[Any]]:
    """The operations that give a functional model's inputs, and its outputs; none of another."""
    try:
        return tuple(  # type: ignore[return-value]
            [tensor._keras_history.operation for tensor in tensors or ()]
            for tensors in (model.inputs, model.outputs)
        )
    except (AttributeError, ValueError):
        return [], []


def preceding(layer: keras.layers.Layer) -> list[Any]:
    """The layers and operations whose outputs a layer takes, in the graph of functional models."""
    return [
        tensor._keras_history.operation
        for node in layer._inbound_nodes
        for tensor in node.arguments.keras_tensors
    ]


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


@contextlib.contextmanager
def calls_replaced(change: Any) -> Iterator[None]:
    """Within the body every layer's `__call__` is what `change` makes of Keras's."""
    original = keras.layers.Layer.__call__
    keras.layers.Layer.__call__ = change(original)
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


def _tensors(structure: Any) -> dict[int, Any]:
    flat = keras.tree.flatten(structure)
    return {id(each): each for each in flat if keras.ops.is_tensor(each)}
