"""Techniques on single layers, as tfmot's scripts hang them on: before or after the layer is built.

A layer that is built is parametrized at once, one that is not as soon as it is. What stands around
it in a model is only known later: a `Pending` mark waits for that, and then has the codebook follow
the kernel as it is once BatchNorm has been folded in.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from litesmith.chaining import recreated, start_links
from litesmith.errors import ModelError, RecipeError
from litesmith.parametrize import (
    Kernel,
    Mark,
    Parametrization,
    attach,
    consumers,
    count_calls,
    detach,
    find_kernels,
    find_scales,
    has_values,
    holder_of,
    is_parametrized,
    mark_of,
    outermost_layers,
    outside_of_traces,
    plain_weights,
    put,
    set_input_shape,
    surrounding,
    take_off,
    traced,
)
from litesmith.technique import BY_DEFAULT, Technique

# tfmot takes embeddings, too, and leaves depthwise kernels alone.
KINDS = BY_DEFAULT | {"embedding"}

# The layer whose surroundings are being looked at: looking asks other layers for their variables.
_looking: list[keras.layers.Layer] = []

# From a layer the weights its class wants taken; None where it is no such class.
Wanted = Callable[[keras.layers.Layer], list[keras.Variable] | None]


def kernels_of(layer: keras.layers.Layer) -> list[Kernel]:
    """The kernels of one built layer, which need not stand in a model."""
    return find_kernels(types.SimpleNamespace(layers=[layer]))


def chosen(layer: keras.layers.Layer, wanted: Wanted) -> list[Kernel]:
    """The kernels of a built layer that a technique is about.

    Args:
        layer: the layer.
        wanted: what its class asks for.

    Raises:
        ModelError: it is a custom layer with weights, and nobody says which.
    """
    kernels = kernels_of(layer)
    asked = wanted(layer)
    if asked is not None:
        ids = {id(variable) for variable in asked}
        found = [kernel for kernel in kernels if id(kernel.variable) in ids]
        if len(found) < len(ids):
            raise ModelError(
                f"layer {layer.name!r}",
                expected="weights of its own, of two axes or more, that are made to be trained",
                received=f"{len(ids) - len(found)} that are something else",
                fix="return the layer's own kernels",
            )
        return found
    found = [kernel for kernel in kernels if kernel.kind in KINDS]
    if not found and any(kernel.kind == "other" for kernel in kernels):
        raise ModelError(
            f"layer {layer.name!r}",
            expected="a layer of Keras, or one that names its weights (PrunableLayer, "
            "ClusterableLayer)",
            received=f"a {type(layer).__name__} with weights that are no kernels",
            fix="derive its class from PrunableLayer or ClusterableLayer, too",
        )
    return found


def wrap(
    layer: Any,
    technique: Technique,
    wanted: Wanted,
    *,
    what: str,
    name: str | None = None,
    trainable: bool | None = None,
    input_shape: Sequence[int | None] | None = None,
) -> Any:
    """Have a layer's weights pass through a technique; the same layer, built or not.

    A layer that passes through a technique of this kind already gets the new one instead.

    Args:
        layer: the layer.
        technique: the technique.
        wanted: what the layer's class asks for.
        what: the public function, for errors.
        name: a new name for the layer.
        trainable: its flag.
        input_shape: of one sample, where it is the first of a Sequential model.

    Raises:
        ModelError: it is no layer.
        RecipeError: the technique cannot take it.
    """
    if isinstance(layer, keras.Model) or not isinstance(layer, keras.layers.Layer):
        raise ModelError(
            what, expected="a Keras 3 layer, a list of them or a model", received=kind_of(layer)
        )
    if isinstance(layer, keras.layers.InputLayer):
        return layer
    if name is not None:
        layer.name = name
    if trainable is not None:
        layer.trainable = trainable
    if input_shape is not None:
        set_input_shape(layer, input_shape)
    mark = mark_of(layer)
    if mark is not None and not isinstance(mark, Pending):
        raise ModelError(
            f"{what}: layer {layer.name!r}",
            expected="a layer that is pruned or clustered before it is annotated",
            received="one that quantize_annotate_layer has marked",
            fix="prune or cluster, strip, then annotate",
        )
    earlier = list(mark.waiting) if isinstance(mark, Pending) else []
    waiting = [each for each in earlier if type(each[0]) is not type(technique)]
    if not layer.built:
        return put(layer, Pending([*waiting, (technique, wanted)]))
    parametrize(layer, technique, chosen(layer, wanted))
    return put(layer, Pending([]))


def kind_of(value: Any) -> str:
    """What something is, for errors: also whether it comes from Keras 2."""
    cls = type(value)
    if cls.__module__.startswith("tf_keras"):
        return f"a tf_keras {cls.__name__}; load it with keras"
    return cls.__name__


def parametrize(
    layer: keras.layers.Layer,
    technique: Technique | Callable[[Kernel], Technique | None],
    kernels: Iterable[Kernel],
) -> None:
    """Hang a technique on kernels of one built layer, in place, behind what is there.

    Args:
        layer: the layer.
        technique: the technique, or what gives each kernel its own (None leaves it alone).
        kernels: some of the layer's.

    Raises:
        RecipeError: the technique cannot take one of them.
    """
    chains: dict[int, list[Parametrization]] = {}
    new: dict[int, Parametrization] = {}
    for kernel in kernels:
        own = technique if isinstance(technique, Technique) else technique(kernel)
        if own is None:
            continue
        (plan,) = own.plan([kernel])
        if plan.reason:
            raise RecipeError(
                f"layer {layer.name!r}, weight {kernel.suffix!r}",
                expected=f"a weight that {own.name} can take",
                received=plan.reason,
                fix="leave the layer as it is, or choose other settings",
            )
        name = f"{kernel.suffix.replace('/', '_')}_{own.name}"
        new[kernel.index] = own.parametrization(plan, name, calls_per_step=1)
    if not new:
        return
    if is_parametrized(layer):
        holder = holder_of(layer)
        if holder.has_taps:
            raise ModelError(
                f"layer {layer.name!r}",
                expected="a layer that is pruned or clustered before it is quantized",
                received="one whose activations are quantized already",
                fix="strip the model first",
            )
        for target, links in holder.chains():
            replaced = type(new.get(target["index"]))
            chains[target["index"]] = [
                recreated(link) for link in links if type(link) is not replaced
            ]
        mark = mark_of(layer)
        detach(layer)
        if mark is not None:
            put(layer, mark)
    for index, link in new.items():
        chains.setdefault(index, []).append(link)
    found = {kernel.index: kernel for kernel in kernels_of(layer)}
    mark = mark_of(layer)
    take_off(layer)
    attach(layer, [(i, found[i].suffix, links, None) for i, links in sorted(chains.items())])
    if mark is not None:
        put(layer, mark)
    if has_values(plain_weights(layer)):
        for index, link in new.items():
            start_links(found[index], chains[index], None, [link])
    elif traced() and any(link.makes_few for link in new.values()):
        raise ModelError(
            f"layer {layer.name!r}",
            expected="a layer with weights to choose clusters for, before training starts",
            received="one that TensorFlow builds in the first training step",
            fix="give the model a keras.Input, or call it on a batch before fit",
        )


@keras.saving.register_keras_serializable("litesmith")
class Pending(Mark):
    """What waits: for the layer to be built, then for a model around it.

    Args:
        waiting: techniques that wait for the layer to be built, each with what the layer's class
            asks for.
    """

    def __init__(self, waiting: list[tuple[Technique, Wanted]]):
        self.waiting = waiting
        self.unstarted = False
        self.around: tuple[int, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """The techniques, as a file has them."""
        return {"waiting": [technique.to_dict() for technique, _ in self.waiting]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pending:
        """What `get_config` wrote."""
        from litesmith.tfmot.clustering.layers import clusterable
        from litesmith.tfmot.sparsity.layers import prunable

        made = [Technique.from_dict(each) for each in config["waiting"]]
        return cls([(t, clusterable if t.name == "cluster" else prunable) for t in made])

    def built(self, layer: keras.layers.Layer) -> None:
        """Hang the techniques on, now that there are weights."""
        waiting, self.waiting = self.waiting, []
        with outside_of_traces():
            for technique, wanted in waiting:
                parametrize(layer, technique, chosen(layer, wanted))
            self.unstarted = not has_values(plain_weights(layer))

    def asked(self, layer: keras.layers.Layer) -> None:
        """Start what could not be started yet, and look around once there is something to see."""
        if self.waiting or _looking or not is_parametrized(layer):
            return
        if not self.unstarted and consumers(layer) == self.around:
            return
        with outside_of_traces():
            if not has_values(plain_weights(layer) if self.unstarted else ()):
                return
            _looking.append(layer)
            try:
                self._look(layer)
            finally:
                _looking.clear()

    def _look(self, layer: keras.layers.Layer) -> None:
        if self.unstarted:
            start_anew(layer, {})
            self.unstarted = False
        self.around = consumers(layer)
        graph = surrounding(layer) if self.around else None
        if graph is not None:
            settle(graph)


def settle(model: Any) -> None:
    """Have what waits in the layers of a model follow what stands around them there."""
    pending = []
    for _, layer in outermost_layers(model):
        mark = mark_of(layer)
        if isinstance(mark, Pending) and is_parametrized(layer):
            mark.around = consumers(layer)
            if not mark.unstarted and not _trained(layer):
                pending.append(layer)
    if not pending:
        return
    ids = {id(layer) for layer in pending}
    kernels = [kernel for kernel in find_kernels(model) if id(kernel.layer) in ids]
    scales = find_scales(model, kernels) if any(map(_foldable, pending)) else {}
    for layer in pending:
        start_anew(layer, scales)
    count_calls(model)


def _foldable(layer: keras.layers.Layer) -> bool:
    """Whether the layer has a codebook that a scale can do harm to."""
    return any(link.can_fold for link in holder_of(layer).links)


def _trained(layer: keras.layers.Layer) -> bool:
    return any(link.progress().get("steps", 0) for link in holder_of(layer).links)


def start_anew(layer: keras.layers.Layer, scales: dict[int, Any]) -> None:
    """Start a layer's parametrizations from its weights as they are now.

    Args:
        layer: a parametrized layer.
        scales: what `find_scales` gave.
    """
    mark = mark_of(layer)
    take_off(layer)  # so that asking for variables does not come back here
    try:
        holder = holder_of(layer)
        variables = holder.find(plain_weights(layer)) or []
        found = {kernel.index: kernel for kernel in kernels_of(layer)}
        for number, ((target, links), variable) in enumerate(
            zip(holder.chains(), variables, strict=True)
        ):
            scale = scales.get(id(variable))
            about = [link for link in links if link.can_fold]
            if scale is not None and about and not scale.reason:
                holder.scaled(number, scale)
                for link in about:
                    link.fold()
            else:
                scale = None
            start_links(found[target["index"]], links, scale, links)
    finally:
        if mark is not None:
            put(layer, mark)
