"""What follows a kernel and scales its output channels: BatchNorm, a layer scale.

A promise about values is about the *folded* kernel (`folding.py`), and the graph tells which layer
is folded into which. It is found by running the model on shapes once and watching which layer takes
the very tensor that another gave: this sees through nested models, sequences, subclassed models and
layers that hand on what they get (Dropout).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras

from litesmith.parametrize import internals
from litesmith.parametrize.kernels import Kernel
from litesmith.parametrize.swap import original_class
from litesmith.parametrize.walking import inner_layers, locate, outermost_layers

layers = keras.layers

# Layers whose output is their kernel's, but for a bias; and the name of that kernel.
_OUTPUT_KERNEL: tuple[tuple[Any, str], ...] = (
    ((layers.SeparableConv1D, layers.SeparableConv2D), "pointwise_kernel"),
    (
        (
            layers.Conv1D,
            layers.Conv2D,
            layers.Conv3D,
            layers.Conv1DTranspose,
            layers.Conv2DTranspose,
            layers.Conv3DTranspose,
            layers.DepthwiseConv1D,
            layers.DepthwiseConv2D,
            layers.Dense,
            layers.EinsumDense,
        ),
        "kernel",
    ),
)


@dataclasses.dataclass(frozen=True)
class Scale:
    """The layer that scales what a kernel gives, channel by channel.

    Attributes:
        layer: a BatchNormalization, or a layer of one `gamma` that it multiplies by.
        axes: the kernel's axes that its channels are.
        place: where it is, from the kernel's outermost layer: `{"inside": number}` in
            `inner_layers`, `{"after": name}` among the layers that follow in the graph, or None
            where only a live model can tell (inside a subclassed model, which is not saved whole).
        reason: why the kernel cannot be handled as folded; "" where it can.
        before: whether it scales what the layer takes, not what it gives.
    """

    layer: keras.layers.Layer
    axes: tuple[int, ...]
    place: dict[str, Any] | None
    reason: str = ""
    before: bool = False


def find_scales(model: keras.Model, kernels: Iterable[Kernel]) -> dict[int, Scale]:
    """What scales each kernel's output.

    Args:
        model: a built model; one that does not know the shape of its input has no answer.
        kernels: of that model.

    Returns:
        By the identity of the kernel's variable; kernels that nothing scales are left out.
    """
    inputs = internals.symbolic_inputs(model)
    if inputs is None:
        return {}
    try:
        flow = internals.watch(model, inputs)
    except Exception:  # noqa: BLE001  a subclassed model may want other inputs than it tells of
        return {}
    places = _outermost(model)
    found = {}
    for kernel in kernels:
        owner = kernel.owners[-1][1]
        if (norm := _folded_forward(kernel, flow)) is not None:
            found[id(kernel.variable)] = Scale(
                layer=norm,
                axes=kernel.layout.inputs,
                place=_place(kernel, norm, places),
                reason=_reason_before(model, kernel, norm, flow, places),
                before=True,
            )
            continue
        if _channel_axis(kernel) is None:
            continue
        following = {id(layer): layer for layer in flow.consumers(owner) if _scales(layer, owner)}
        if len(following) != 1 or flow.consumed_otherwise(owner, set(following)):
            continue
        (scale,) = following.values()
        found[id(kernel.variable)] = Scale(
            layer=scale,
            axes=_kernel_axes(kernel),
            place=_place(kernel, scale, places),
            reason=_reason(model, kernel, scale, flow, places),
        )
    return found


def _folded_forward(kernel: Kernel, flow: internals.Flow) -> keras.layers.Layer | None:
    """The BatchNorm that the converter folds into the Dense that takes what it gives, or None.

    It does so for inputs of rank two. A BatchNorm right after another kernel is that one's.
    """
    owner = kernel.owners[-1][1]
    if not isinstance(owner, layers.Dense):
        return None
    for norm in flow.suppliers(owner):
        plain = isinstance(norm, layers.BatchNormalization) and norm.input_spec.ndim == 2
        if plain and not flow.consumed_otherwise(norm, {id(owner)}):
            behind = [each for each in flow.suppliers(norm) if _gives_kernel(each)]
            return None if behind else norm
    return None


def _gives_kernel(layer: Any) -> bool:
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    return linear and any(isinstance(layer, classes) for classes, _ in _OUTPUT_KERNEL)


def _reason_before(
    model: keras.Model,
    kernel: Kernel,
    norm: keras.layers.Layer,
    flow: internals.Flow,
    places: dict[int, keras.layers.Layer],
) -> str:
    owner = kernel.owners[-1][1]
    if getattr(norm, "renorm", False):
        return f"{norm.name!r}, which scales its input, renormalizes"
    if not (norm.center and norm.scale):
        return f"{norm.name!r}, which scales its input, has no gamma or no beta"
    if _channel_axis(kernel) is not None and any(_scales(x, owner) for x in flow.consumers(owner)):
        return f"{norm.name!r} scales its input, and another layer its output"
    if _place(kernel, norm, places) is None and internals.is_functional(model):
        return f"{norm.name!r}, which scales its input, is not in the same model as the layer"
    return ""


def _outermost(model: keras.Model) -> dict[int, keras.layers.Layer]:
    return {
        id(inner): outer
        for path, outer in outermost_layers(model)
        for _, inner in inner_layers(outer, path)
    }


def _channel_axis(kernel: Kernel) -> int | None:
    """The output's axis that the kernel's output channels are on; None if they are on none."""
    owner, name = kernel.owners[-1][1], kernel.variable.name
    for classes, which in _OUTPUT_KERNEL:
        if isinstance(owner, classes):
            linear = owner.activation is None or owner.activation is keras.activations.linear
            if name != which or not linear:
                return None
            first = getattr(owner, "data_format", None) == "channels_first"
            return 1 if first else -1
    return None


def _kernel_axes(kernel: Kernel) -> tuple[int, ...]:
    owner = kernel.owners[-1][1]
    if isinstance(owner, layers.EinsumDense):
        operands, result = owner.equation.replace(" ", "").split("->")
        return (operands.split(",")[1].replace("...", "").index(result[-1]),)
    return kernel.layout.outputs


def _scales(layer: Any, owner: keras.layers.Layer) -> bool:
    """Whether a layer multiplies each output channel of `owner` by a factor."""
    if isinstance(layer, layers.BatchNormalization):
        plain: Any = original_class(layer)
        if plain.call is not layers.BatchNormalization.call:
            return False
        wanted = 1 if getattr(owner, "data_format", None) == "channels_first" else -1
        rank = layer.input_spec.ndim
        return layer.axis % rank == wanted % rank
    return _is_layer_scale(layer)


def _is_layer_scale(layer: Any) -> bool:
    """ConvNeXt's LayerScale, and whatever is built like it."""
    if type(layer).__name__ != "LayerScale" or not isinstance(layer, layers.Layer):
        return False  # a bare operation, say
    own = internals.own_variables(layer)
    return len(own) == 1 and len(own[0].shape) == 1


def _channels(scale: keras.layers.Layer) -> tuple[int, ...]:
    return tuple(internals.own_variables(scale)[0].shape)


def _place(
    kernel: Kernel, scale: Any, places: dict[int, keras.layers.Layer]
) -> dict[str, Any] | None:
    inside = [layer for _, layer in inner_layers(kernel.layer, "")]
    for number, layer in enumerate(inside):
        if layer is scale:
            return {"inside": number}
    name = scale.name
    if places.get(id(scale)) is scale:
        for side in ("after", "before"):
            if locate(kernel.layer, {side: name}) is scale:
                return {side: name}
    return None


def _reason(
    model: keras.Model,
    kernel: Kernel,
    scale: keras.layers.Layer,
    flow: internals.Flow,
    places: dict[int, keras.layers.Layer],
) -> str:
    if len(flow.producers(scale)) != 1:
        return f"{scale.name!r}, which scales it, scales other layers, too"
    if getattr(scale, "renorm", False):
        return f"{scale.name!r}, which scales it, renormalizes"
    bias = getattr(kernel.owners[-1][1], "bias", None)
    if bias is not None and math.prod(bias.shape) != math.prod(_channels(scale)):
        return f"its bias has another shape than the channels of {scale.name!r}, which scales it"
    if any(_scales(layer, scale) for layer in flow.consumers(scale)):
        return f"two layers in a row scale it, {scale.name!r} and the next"
    if _place(kernel, scale, places) is None and internals.is_functional(model):
        return f"{scale.name!r}, which scales it, is not in the same model as the layer itself"
    return ""
