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
from litesmith.parametrize.walking import follower, inner_layers, outermost_layers

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
    """

    layer: keras.layers.Layer
    axes: tuple[int, ...]
    place: dict[str, Any] | None
    reason: str = ""


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
        axis = _channel_axis(kernel)
        if axis is None:
            continue
        owner = kernel.owners[-1][1]
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


def _scales(layer: keras.layers.Layer, owner: keras.layers.Layer) -> bool:
    """Whether a layer multiplies each output channel of `owner` by a factor."""
    if isinstance(layer, layers.BatchNormalization):
        if original_class(layer).call is not layers.BatchNormalization.call:
            return False
        wanted = 1 if getattr(owner, "data_format", None) == "channels_first" else -1
        rank = layer.input_spec.ndim
        return layer.axis % rank == wanted % rank
    return _is_layer_scale(layer)


def _is_layer_scale(layer: keras.layers.Layer) -> bool:
    """ConvNeXt's LayerScale, and whatever is built like it."""
    own = internals.own_variables(layer)
    return type(layer).__name__ == "LayerScale" and len(own) == 1 and len(own[0].shape) == 1


def _channels(scale: keras.layers.Layer) -> tuple[int, ...]:
    return tuple(internals.own_variables(scale)[0].shape)


def _place(
    kernel: Kernel, scale: keras.layers.Layer, places: dict[int, keras.layers.Layer]
) -> dict[str, Any] | None:
    inside = [layer for _, layer in inner_layers(kernel.layer, "")]
    for number, layer in enumerate(inside):
        if layer is scale:
            return {"inside": number}
    if places.get(id(scale)) is scale and follower(kernel.layer, scale.name) is scale:
        return {"after": scale.name}
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
