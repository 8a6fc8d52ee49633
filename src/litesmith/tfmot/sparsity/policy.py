"""Policies: which layers of a model are pruned."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import Any

import keras

from litesmith.errors import ModelError
from litesmith.parametrize import edges, following, preceding

layers = keras.layers


class PruningPolicy(abc.ABC):
    """Which layers of a model are pruned, and which models at all.

    Given to `prune_low_magnitude(model, pruning_policy=…)`.
    """

    @abc.abstractmethod
    def allow_pruning(self, layer: keras.layers.Layer) -> bool:
        """Whether a layer is pruned."""

    @abc.abstractmethod
    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Refuse a model.

        Raises:
            ValueError: the model is not to be pruned by this policy.
        """


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Only 1×1 convolutions, and only in models that XNNPACK runs sparse.

    Such a network begins with a 3×3 convolution of stride 2 on three channels, padded by one on
    each side by a ZeroPadding2D; ends in a global average pooling that keeps its axes; and has
    nothing else between than 1×1 convolutions, depthwise ones of 3×3 or 5×5, and what works element
    by element (Elsen et al., "Fast sparse ConvNets", 2020; XNNPACK's rules for sparse inference).
    """

    def allow_pruning(self, layer: keras.layers.Layer) -> bool:
        """Whether it is a 1×1 convolution."""
        return isinstance(layer, layers.Conv2D) and tuple(layer.kernel_size) == (1, 1)

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Refuse a model that XNNPACK does not run sparse.

        Raises:
            ModelError: a ValueError, naming the layer.
        """
        first, last = edges(model) if isinstance(model, keras.Model) else ([], [])
        if not first or not last:
            raise ModelError(
                "PruneForLatencyOnXNNPack",
                expected="a built sequential or functional model",
                received="another" if isinstance(model, keras.Model) else type(model).__name__,
            )
        starts = _reach(first, following, _is_stem)
        if not starts:
            raise ModelError(
                f"PruneForLatencyOnXNNPack: model {model.name!r}",
                expected="a 3×3 Conv2D of three input channels, stride 2 and 'valid' padding after "
                "a ZeroPadding2D(1) in each input's branch",
                received="none there",
                fix="leave the policy out: pruning then makes the file smaller, not faster",
            )
        ends = _reach(last, preceding, _is_head)
        if not ends:
            raise ModelError(
                f"PruneForLatencyOnXNNPack: model {model.name!r}",
                expected="a GlobalAveragePooling2D in each output's branch",
                received="none there",
                fix="leave the policy out: pruning then makes the file smaller, not faster",
            )
        ids = {id(layer) for layer in ends}

        def stop(layer: Any) -> bool:
            if id(layer) in ids and layer.keepdims:
                return True
            if not _runs_sparse(layer):
                raise ModelError(
                    f"PruneForLatencyOnXNNPack: layer {layer.name!r}",
                    expected="layers that XNNPACK runs sparse between the stem and the pooling",
                    received=_described(layer),
                    fix="leave the policy out: pruning then makes the file smaller, not faster",
                )
            return False

        _reach([each for start in starts for each in following(start)], following, stop)


def _reach(start: Iterable[Any], step: Callable[[Any], list[Any]], stop: Any) -> list[Any]:
    """The layers at which `stop` ends each branch; none where a branch runs out."""
    waiting, found = list(start), []
    seen = {id(layer) for layer in waiting}
    while waiting:
        layer = waiting.pop()
        if stop(layer):
            found.append(layer)
            continue
        after = step(layer)
        if not after:
            return []
        for each in after:
            if id(each) not in seen:
                seen.add(id(each))
                waiting.append(each)
    return found


def _padding_before(layer: keras.layers.Layer) -> Any:
    """What the one ZeroPadding2D before a layer pads by, or None."""
    before = list({id(each): each for each in preceding(layer)}.values())
    if len(before) == 1 and isinstance(before[0], layers.ZeroPadding2D):
        return before[0].padding
    return None


def _is_stem(layer: Any) -> bool:
    return (
        isinstance(layer, layers.Conv2D)
        and tuple(layer.kernel.shape[:3]) == (3, 3, 3)
        and tuple(layer.strides) == (2, 2)
        and layer.padding == "valid"
        and _padding_before(layer) == ((1, 1), (1, 1))
    )


def _is_head(layer: Any) -> bool:
    return isinstance(layer, layers.GlobalAveragePooling2D)


_ELEMENTWISE = (
    layers.Add,
    layers.Dropout,
    layers.ELU,
    layers.LeakyReLU,
    layers.Multiply,
    layers.ReLU,
    layers.ZeroPadding2D,
)
_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "sigmoid")
_OPERATIONS = ("Add", "Subtract", "Multiply", "Identity")


def _runs_sparse(layer: Any) -> bool:
    """Whether XNNPACK takes a layer into a sparse subgraph."""
    if isinstance(layer, _ELEMENTWISE) or type(layer).__name__ in _OPERATIONS:
        return True
    if isinstance(layer, layers.DepthwiseConv2D):
        return _depthwise_runs(layer)
    if isinstance(layer, layers.Conv2D):
        plain = layer.groups == 1 and tuple(layer.dilation_rate) == (1, 1)
        return plain and tuple(layer.kernel_size) == (1, 1) and tuple(layer.strides) == (1, 1)
    if isinstance(layer, layers.BatchNormalization):
        return layer.axis in (3, -1)
    if isinstance(layer, layers.UpSampling2D):
        return layer.interpolation == "bilinear"
    if isinstance(layer, layers.Activation):
        return getattr(layer.activation, "__name__", "") in _ACTIVATIONS
    return False


def _depthwise_runs(layer: Any) -> bool:
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    if layer.depth_multiplier != 1 or tuple(layer.dilation_rate) != (1, 1):
        return False
    if size not in ((3, 3), (5, 5)):
        return False
    if layer.padding == "same":
        return strides == (1, 1)
    wide = size[0] // 2
    padded = _padding_before(layer) == ((wide, wide), (wide, wide))
    return padded and strides in ((1, 1), (2, 2))


def _described(layer: Any) -> str:
    text = f"a {type(layer).__name__}"
    for field in ("kernel_size", "strides", "padding", "activation", "keepdims"):
        value = getattr(layer, field, None)
        if value is not None:
            text += f", {field} {getattr(value, '__name__', value)}"
    return text
