"""Schemes and registries: what `quantize_apply` does to layers that say nothing themselves."""

from __future__ import annotations

import abc
from typing import Any

import keras

from litesmith.errors import InputError, RecipeError
from litesmith.options import whole_number
from litesmith.tfmot.quantization.configs import BitsConfig, QuantizeConfig


class QuantizeLayoutTransform(abc.ABC):
    """Rewrites a model before it is quantized; not needed here, see `quantize_apply`."""

    @abc.abstractmethod
    def apply(self, model: Any, layer_quantize_map: Any) -> tuple[Any, Any]:
        """The model and the map, rewritten."""


class QuantizeRegistry(abc.ABC):
    """Gives each layer its `QuantizeConfig`."""

    @abc.abstractmethod
    def get_quantize_config(self, layer: Any) -> QuantizeConfig | None:
        """The config of a built layer."""


class QuantizeScheme(abc.ABC):
    """A registry, and how the model is rewritten (which must be by one of ours: not at all)."""

    @abc.abstractmethod
    def get_layout_transformer(self) -> QuantizeLayoutTransform | None:
        """A layout transform of ours, or None."""

    @abc.abstractmethod
    def get_quantize_registry(self) -> QuantizeRegistry:
        """The registry."""


class _Unchanged(QuantizeLayoutTransform):
    """Nothing is rewritten: roundings stand where LiteRT's own graph has them."""

    def apply(self, model: Any, layer_quantize_map: Any) -> tuple[Any, Any]:
        """The model and the map as they are."""
        return model, layer_quantize_map


class Default8BitQuantizeLayoutTransform(_Unchanged):
    """The transform of `Default8BitQuantizeScheme`."""


class DefaultNBitQuantizeLayoutTransform(_Unchanged):
    """The transform of `DefaultNBitQuantizeScheme`.

    Args:
        num_bits_weight: 2 to 8.
        num_bits_activation: 8 or 16.
    """

    def __init__(self, num_bits_weight: int = 8, num_bits_activation: int = 8):
        _check_bits("DefaultNBitQuantizeLayoutTransform", num_bits_weight, num_bits_activation)


def _check_bits(what: str, weight: int, activation: int) -> None:
    whole_number(f"{what}: num_bits_weight", weight, least=2, most=8)
    if activation not in (8, 16):
        raise RecipeError(
            f"{what}: num_bits_activation",
            expected="8 or 16: LiteRT has no others",
            received=activation,
            fix="train weights of fewer bits, and activations of 8",
        )


def _check_axis(what: str, disabled: bool) -> None:
    if disabled:
        raise RecipeError(
            f"{what}: disable_per_axis",
            expected="False: a scale for each channel is what LiteRT computes with, at no cost",
            received="True",
        )


class DefaultNBitQuantizeRegistry(QuantizeRegistry):
    """The same bits for every layer.

    Args:
        disable_per_axis: only False: weights have a scale for each output channel.
        num_bits_weight: 2 to 8.
        num_bits_activation: 8 or 16.

    Raises:
        RecipeError: others.
    """

    def __init__(
        self, disable_per_axis: bool = False, num_bits_weight: int = 8, num_bits_activation: int = 8
    ):
        _check_axis(type(self).__name__, disable_per_axis)
        _check_bits(type(self).__name__, num_bits_weight, num_bits_activation)
        self._bits = num_bits_weight, num_bits_activation

    def supports(self, layer: Any) -> bool:
        """Whether a layer can be quantized: any of Keras 3, and custom ones, but no model."""
        return isinstance(layer, keras.layers.Layer) and not isinstance(layer, keras.Model)

    def get_quantize_config(self, layer: Any) -> QuantizeConfig:
        """The config of a layer.

        Raises:
            InputError: `supports` is not true for it.
        """
        if not self.supports(layer):
            raise InputError(
                f"{type(self).__name__}", expected="a layer", received=type(layer).__name__
            )
        return BitsConfig(*self._bits)


class Default8BitQuantizeRegistry(DefaultNBitQuantizeRegistry):
    """Eight bits for every layer.

    Args:
        disable_per_axis: only False.
    """

    def __init__(self, disable_per_axis: bool = False):
        super().__init__(disable_per_axis)


class DefaultNBitQuantizeScheme(QuantizeScheme):
    """The same bits for every layer.

    Args:
        disable_per_axis: only False: weights have a scale for each output channel.
        num_bits_weight: 2 to 8.
        num_bits_activation: 8 or 16.

    Raises:
        RecipeError: others.
    """

    def __init__(
        self, disable_per_axis: bool = False, num_bits_weight: int = 8, num_bits_activation: int = 8
    ):
        _check_axis(type(self).__name__, disable_per_axis)
        _check_bits(type(self).__name__, num_bits_weight, num_bits_activation)
        self._bits = num_bits_weight, num_bits_activation

    def get_layout_transformer(self) -> QuantizeLayoutTransform:
        """One that changes nothing."""
        return DefaultNBitQuantizeLayoutTransform(*self._bits)

    def get_quantize_registry(self) -> QuantizeRegistry:
        """A `DefaultNBitQuantizeRegistry`."""
        return DefaultNBitQuantizeRegistry(False, *self._bits)


class Default8BitQuantizeScheme(QuantizeScheme):
    """Eight bits for every layer.

    Args:
        disable_per_axis: only False.
    """

    # What of the model's weights stays as it is while they are trained quantized.
    keeps_zeros = False
    keeps_clusters = False

    def __init__(self, disable_per_axis: bool = False):
        _check_axis(type(self).__name__, disable_per_axis)

    def get_layout_transformer(self) -> QuantizeLayoutTransform:
        """One that changes nothing."""
        return Default8BitQuantizeLayoutTransform()

    def get_quantize_registry(self) -> QuantizeRegistry:
        """A `Default8BitQuantizeRegistry`."""
        return Default8BitQuantizeRegistry()


class Default8BitPrunePreserveQuantizeScheme(Default8BitQuantizeScheme):
    """Eight bits, and weights that are zero stay zero.

    Args:
        disable_per_axis: only False.
    """

    keeps_zeros = True


class Default8BitClusterPreserveQuantizeScheme(Default8BitQuantizeScheme):
    """Eight bits, and a weight with few distinct values keeps as few.

    Args:
        preserve_sparsity: weights that are zero stay zero, too.
    """

    keeps_clusters = True

    def __init__(self, preserve_sparsity: bool = True):
        super().__init__()
        self.preserve_sparsity = self.keeps_zeros = preserve_sparsity
