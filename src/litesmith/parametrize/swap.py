"""The class swap: a layer goes on being itself, but reads some weights through functions.

`attach` gives a layer a subclass of its own class. The subclass's `call` computes the weights to
use and runs the original `call` under a `keras.StatelessScope` in which the stored variables read
those values. Names, paths, `isinstance`, checkpoints, custom training steps: all stay.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from litesmith.parametrize import internals
from litesmith.parametrize.parametrization import Holder, Parametrization
from litesmith.parametrize.sites import Taps
from litesmith.parametrize.telling import open_pass
from litesmith.parametrize.walking import inner_layers, locate, outermost_layers

HOLDER = "litesmith_holder"
_calls: dict[int, int] | None = None  # while `count_calls` runs: calls by the layer's id


@contextlib.contextmanager
def substituted(
    layer: keras.layers.Layer, variables: Sequence[keras.Variable], values: Sequence[Any]
) -> Iterator[None]:
    """Run the body with some variables of a layer reading other values.

    An inner stateless scope hides the outer one, so every variable of the layer is mapped, and
    what the body did to the non-trainable ones (BatchNorm statistics, seeds) and to the losses is
    handed out afterwards.

    Args:
        layer: the layer whose `call` the body runs.
        variables: the variables to substitute.
        values: what they read, tensors of the same shapes.
    """
    own = {id(variable) for variable in holder_of(layer).variables}
    everything = [variable for variable in layer.variables if id(variable) not in own]
    instead = {id(variable): value for variable, value in zip(variables, values, strict=True)}
    with internals.without_autocast():
        mapping = [(v, instead[id(v)] if id(v) in instead else v.value) for v in everything]
    collect = internals.outer_scope_collects_losses()
    with keras.StatelessScope(mapping, collect_losses=collect, initialize_variables=False) as scope:
        before = {id(variable): scope.get_current_value(variable) for variable in everything}
        yield
    for variable in everything:
        after = scope.get_current_value(variable)
        if id(variable) not in instead and after is not before[id(variable)]:
            variable.assign(after)
    internals.hand_out_losses(layer, scope.losses)


class Swapped:
    """Base of the mixins by which a layer's class is swapped: `class New(Mixin, Original)`."""


@keras.saving.register_keras_serializable("litesmith")
class Parametrized(Swapped):
    """Mixin of every swapped class; holds what saving and loading need."""

    def get_config(self) -> dict[str, Any]:
        """The original layer, as Keras would serialize it, and the holder."""
        with as_original(self):
            layer = keras.saving.serialize_keras_object(self)
        layer.pop("build_config", None)  # stands in our own serialization
        holder = keras.saving.serialize_keras_object(getattr(self, HOLDER))
        return {"name": self.name, "layer": layer, "holder": holder}  # type: ignore[attr-defined]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.layers.Layer:
        """The original layer, swapped again."""
        layer = keras.saving.deserialize_keras_object(config["layer"])
        # Its state gets the paths that `attach` gives, under which PyTorch lists it.
        with keras.name_scope(config["name"]), keras.name_scope(HOLDER):
            holder = keras.saving.deserialize_keras_object(config["holder"])
        if config["name"] != layer.name:  # clone_model renames by config
            layer.name = config["name"]
        _swap(layer, holder)
        return layer


@functools.cache
def _swapped_class(base: Any) -> type:
    original = base.call
    takes_training = "training" in inspect.signature(original).parameters

    @functools.wraps(original)  # Keras reads the signature: build shapes, masks, `training`
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        holder = getattr(self, HOLDER)
        if _calls is not None:
            _calls[id(self)] = _calls.get(id(self), 0) + 1
        if not holder.found:
            internals.move_last(self, holder)
        variables = holder.find(() if holder.found else plain_weights(self))
        if variables is None:  # the symbolic call by which Keras builds the layers inside
            return original(self, *args, **kwargs)
        holder.meet(self, locate)
        open_pass()
        used = holder.use(kwargs.get("training") if takes_training else None)
        reading = substituted(self, variables, used) if variables else contextlib.nullcontext()
        if not holder.has_taps:
            with reading:
                return original(self, *args, **kwargs)
        at = holder.tapped(lambda: [layer for _, layer in inner_layers(self, "")])
        taps = Taps(at, self, holder.trains)
        args, kwargs = taps.take(self, args, kwargs)
        with reading, taps.inside():
            outputs = taps.run(self, functools.partial(original, self), args, kwargs)
        outputs = taps.give(self, outputs)
        taps.finish()
        return outputs

    swapped = type(base.__name__, (Parametrized, base), {"call": call, "__module__": __name__})
    # One registered name for all: `from_config` tells what to make.
    return keras.saving.register_keras_serializable("litesmith", "Parametrized")(swapped)


def _swap(layer: keras.layers.Layer, holder: Holder) -> None:
    base: Any = type(layer)
    internals.set_class(layer, _swapped_class(base))
    internals.add_child(layer, HOLDER, holder)


def is_parametrized(layer: Any) -> bool:
    """Whether `attach` was called on this layer."""
    return isinstance(layer, Parametrized)


def original_class(layer: keras.layers.Layer) -> type:
    """The class a layer had before it was swapped, once or more often, or has."""
    cls = type(layer)
    while issubclass(cls, Swapped):
        cls = cls.__bases__[1]
    return cls


@contextlib.contextmanager
def as_original(*layers: Any) -> Iterator[None]:
    """Within the body these layers have their original classes again."""
    swapped = [(layer, type(layer)) for layer in layers if isinstance(layer, Swapped)]
    try:
        for layer, _ in swapped:
            internals.set_class(layer, original_class(layer))
        yield
    finally:
        for layer, cls in swapped:
            internals.set_class(layer, cls)


def holder_of(layer: keras.layers.Layer) -> Holder:
    """The holder of a parametrized layer."""
    return getattr(layer, HOLDER)


def plain_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """A layer's weights without those of the holder."""
    if not is_parametrized(layer):
        return list(layer.weights)
    own = {id(variable) for variable in holder_of(layer).variables}
    return [weight for weight in layer.weights if id(weight) not in own]


def attach(
    layer: keras.layers.Layer,
    chains: Sequence[tuple[int, str, Sequence[Parametrization], Any]],
    taps: Sequence[tuple[dict[str, Any], Parametrization]] = (),
) -> None:
    """Parametrize some weights of a built layer, or what it takes and gives, in place.

    Args:
        layer: the layer, not parametrized yet.
        chains: for each weight its index in `layer.weights`, the end of its path, its
            parametrizations in the order in which data flow through them, and the `Scale` of its
            outputs where one of them is about the folded weight, or None.
        taps: the site (`sites.Place.site`) of each tap, and the tap.
    """
    weights = list(layer.weights)
    targets: list[dict[str, Any]] = []
    for index, suffix, _, scale in chains:
        targets.append({"index": index, "suffix": suffix, "shape": list(weights[index].shape)})
        if scale is not None:
            targets[-1]["scale"] = {"place": scale.place, "axes": list(scale.axes)}
            targets[-1]["scale"]["before"] = scale.before
    with contextlib.ExitStack() as scopes:
        for part in (layer.path or layer.name).split("/"):  # a layer without weights has no path
            scopes.enter_context(keras.name_scope(part))
        holder = Holder(
            targets,
            [list(chain) for _, _, chain, _ in chains],
            sites=[site for site, _ in taps],
            taps=[tap for _, tap in taps],
            name=HOLDER,
        )
    _swap(layer, holder)
    holder.find(weights)
    for number, (_, _, _, scale) in enumerate(chains):
        if scale is not None:
            holder.know(number, scale.layer)


def detach(layer: keras.layers.Layer) -> None:
    """Undo `attach`: the layer is of its original class again, its stored weights as they are."""
    internals.set_class(layer, original_class(layer))
    internals.drop_child(layer, HOLDER)


def count_calls(model: keras.Model) -> None:
    """Tell each parametrization how often one pass through the model calls its layer.

    A layer that is used twice counts two calls a training step. The pass runs on shapes alone; a
    subclassed model that does not know its input's shape is taken to call each layer once.

    Args:
        model: a model with parametrized layers.
    """
    global _calls
    inputs = internals.symbolic_inputs(model)
    if inputs is None:
        return
    _calls = {}
    try:
        passes = internals.infer(model, inputs)
        counted = {key: calls // passes for key, calls in _calls.items()}
    except Exception:  # noqa: BLE001  a subclassed model may want other inputs than it tells of
        return
    finally:
        _calls = None
    for _, layer in outermost_layers(model):
        if is_parametrized(layer):
            calls = max(1, counted.get(id(layer), 1))
            for _, chain in holder_of(layer).chains():
                for link in chain:
                    link.calls_per_step = calls
            for site, tap in holder_of(layer).taps():
                if site["kind"] == "whole":  # others stand at one call
                    tap.calls_per_step = calls


def used_weights(
    layer: keras.layers.Layer, *, folded: bool = False
) -> list[tuple[keras.Variable, Any]]:
    """Each parametrized variable of a layer, and the value inference uses for it.

    Args:
        layer: a parametrized layer.
        folded: give the folded value of those weights that a technique works on so.
    """
    holder = holder_of(layer)
    variables = holder.find(plain_weights(layer))
    assert variables is not None
    holder.meet(layer, locate)
    return list(zip(variables, holder.use(False, folded=folded), strict=True))
