"""Finding a model's kernels: which layer holds them, how they are laid out, what kind they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import internals
from litesmith.parametrize.swap import original_class, plain_weights
from litesmith.parametrize.walking import Chain, layer_chains, outermost_layers

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which axes of a kernel are outputs, which are inputs; the others are spatial.

    The canonical view of a kernel is [outputs, spatial, inputs], the order in which LiteRT lays
    out CONV_2D and FULLY_CONNECTED weights.
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One weight that a technique may take.

    Attributes:
        layer: the outermost layer that stands in the model's config.
        path: its path in the model, names joined by "/".
        owners: path and layer from the outermost one to the one whose variable it is.
        variable: the variable.
        index: its place in the outermost layer's weights.
        suffix: the shortest end of the variable's path that tells it from the layer's others.
        kind: "conv", "dense", "recurrent", "depthwise", "embedding" or "other".
        layout: its axes.
        scale: what scales its output channels (`neighbours.find_scales`), where that was asked.
    """

    layer: keras.layers.Layer
    path: str
    owners: Chain
    variable: keras.Variable
    index: int
    suffix: str
    kind: str
    layout: Layout
    scale: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape, as Keras has it."""
        return tuple(self.variable.shape)

    @property
    def layer_type(self) -> str:
        """Name of the outermost layer's class."""
        return original_class(self.layer).__name__

    def value(self) -> np.ndarray:
        """The stored weight."""
        return keras.ops.convert_to_numpy(self.variable.value)


def find_kernels(model: keras.Model) -> list[Kernel]:
    """Every weight of a built model that could be a technique's, by the model's order.

    Kernels are the variables named `kernel` or `…_kernel`, of two axes or more; embeddings; and,
    as kind "other", what a custom layer calls otherwise and has two axes or more.

    Args:
        model: a built model.
    """
    found = []
    for path, layer in outermost_layers(model):
        weights = plain_weights(layer)
        index = {id(weight): place for place, weight in enumerate(weights)}
        # A wrapper may hold the kernel of the layer it wraps as its own, too: the innermost
        # layer comes last, and is the owner.
        owned: dict[int, tuple[keras.Variable, Chain]] = {}
        for chain in layer_chains(layer, path):
            for variable in internals.own_trainable_variables(chain[-1][1]):
                if id(variable) in index and not _never(chain[-1][1], variable):
                    owned[id(variable)] = (variable, chain)
        for variable, chain in owned.values():
            owner = chain[-1][1]
            found.append(
                Kernel(
                    layer=layer,
                    path=path,
                    owners=chain,
                    variable=variable,
                    index=index[id(variable)],
                    suffix=_suffix(variable, weights),
                    kind=_kind(owner, variable),
                    layout=_layout(owner, variable),
                )
            )
    return found


_NORMS = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.RMSNormalization,
)


def _never(owner: keras.layers.Layer, variable: keras.Variable) -> bool:
    """Biases (a GRU's has two axes) and what normalizations hold are no kernels."""
    return len(variable.shape) < 2 or variable.name.endswith("bias") or isinstance(owner, _NORMS)


def _suffix(variable: keras.Variable, weights: list[keras.Variable]) -> str:
    """The shortest end of a variable's path that no other weight of the layer shares."""
    parts = variable.path.split("/")
    others = [weight for weight in weights if weight is not variable]
    for count in range(1, len(parts) + 1):
        end = "/".join(parts[-count:])
        if not any(("/" + other.path).endswith("/" + end) for other in others):
            return end
    return variable.path


_RECURRENT = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


def _kind(owner: keras.layers.Layer, variable: keras.Variable) -> str:
    name = variable.name
    if isinstance(owner, layers.Embedding):
        return "embedding"
    if not name.endswith("kernel"):
        return "other"
    if isinstance(owner, _DEPTHWISE) or name == "depthwise_kernel":
        return "depthwise"
    if isinstance(owner, _RECURRENT) or name == "recurrent_kernel":
        return "recurrent"
    if len(variable.shape) == 2 or isinstance(owner, layers.EinsumDense):
        return "dense"
    return "conv"


def _layout(owner: keras.layers.Layer, variable: keras.Variable) -> Layout:
    axes = len(variable.shape)
    if isinstance(owner, layers.Embedding):
        return Layout(outputs=(1,), inputs=())
    if isinstance(owner, _TRANSPOSED):
        return Layout(outputs=(axes - 2,), inputs=(axes - 1,))
    if _kind(owner, variable) == "depthwise":
        return Layout(outputs=(axes - 2, axes - 1), inputs=())
    if isinstance(owner, layers.EinsumDense):
        return _einsum_layout(owner.equation)
    return Layout(outputs=(axes - 1,), inputs=(axes - 2,))


def _einsum_layout(equation: str) -> Layout:
    operands, result = equation.replace(" ", "").split("->")
    kernel = operands.split(",")[1].replace("...", "")
    outputs = tuple(axis for axis, letter in enumerate(kernel) if letter in result)
    inputs = tuple(axis for axis, letter in enumerate(kernel) if letter not in result)
    return Layout(outputs=outputs, inputs=inputs)
