"""`QuantizeConfig`: how a layer is quantized, and what that is in litesmith's terms."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Self

import keras

from litesmith.errors import RecipeError
from litesmith.parametrize import Kernel
from litesmith.technique import BY_DEFAULT
from litesmith.tfmot.quantization.quantizers import (
    LastValueQuantizer,
    MovingAverageQuantizer,
    Quantizer,
)

# Kernels that LiteRT has in integers.
KINDS = BY_DEFAULT | {"depthwise"}


class QuantizeConfig(abc.ABC):
    """How a layer is quantized: which weights, which activations, by which quantizers.

    What the quantizers say is how `quantize_apply` trains: bits of weights (2 to 8) and activations
    (8 or 16). The two `set_…` methods are never called: weights are replaced without them.
    """

    @abc.abstractmethod
    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        """Each weight to quantize, a variable of the built layer, and its quantizer."""

    @abc.abstractmethod
    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        """Each activation function of the layer to quantize behind, and its quantizer."""

    @abc.abstractmethod
    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Not called; see the class."""

    @abc.abstractmethod
    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Not called; see the class."""

    @abc.abstractmethod
    def get_output_quantizers(self, layer: Any) -> list[Quantizer]:
        """The quantizers of the layer's outputs; an empty list for none."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """What `get_config` wrote."""
        return cls(**config)


@keras.saving.register_keras_serializable("litesmith.tfmot")
class BitsConfig(QuantizeConfig):
    """Every kernel of a layer and what it gives, with so many bits: what the registries give.

    Args:
        num_bits_weight: 2 to 8.
        num_bits_activation: 8 or 16.
    """

    def __init__(self, num_bits_weight: int = 8, num_bits_activation: int = 8):
        self.num_bits_weight, self.num_bits_activation = num_bits_weight, num_bits_activation

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        """Each kernel."""
        from litesmith.tfmot.layerwise import kernels_of

        quantizer = LastValueQuantizer(self.num_bits_weight, True, True, True)
        return [(k.variable, quantizer) for k in kernels_of(layer) if k.kind in KINDS]

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        """The activation function, where it has one."""
        function = getattr(layer, "activation", None)
        return [] if function is None else [(function, self._activation)]

    def get_output_quantizers(self, layer: Any) -> list[Quantizer]:
        """The output, where there is no activation function."""
        return [] if getattr(layer, "activation", None) else [self._activation]

    @property
    def _activation(self) -> Quantizer:
        return MovingAverageQuantizer(self.num_bits_activation, False, False, False)

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Not called."""

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Not called."""

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        names = ("num_bits_weight", "num_bits_activation")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Bits:
    """What a config comes to.

    Attributes:
        weights: bits; None where no weight of the layer is quantized.
        activations: bits; None where the config does not say.
        momentum: of the ranges of activations; None for litesmith's own.
    """

    weights: int | None
    activations: int | None
    momentum: float | None


def bits_of(config: QuantizeConfig, layer: Any, kernels: list[Kernel]) -> Bits:
    """What a config says of a built layer.

    Args:
        config: the config.
        layer: the layer.
        kernels: its kernels.

    Raises:
        RecipeError: something that a `.tflite` cannot have, or that litesmith does not train.
    """
    where = f"{type(config).__name__} for layer {layer.name!r}"
    asked = list(config.get_weights_and_quantizers(layer))
    able = [kernel for kernel in kernels if kernel.kind in KINDS]
    got = {id(variable) for variable, _ in asked}
    if asked and got != {id(kernel.variable) for kernel in able}:
        raise RecipeError(
            where,
            expected="all kernels of the layer, or none: "
            + (", ".join(kernel.variable.name for kernel in able) or "it has none"),
            received=", ".join(str(getattr(v, "name", v)) for v, _ in asked),
            fix="biases are quantized by themselves; split the layer to quantize a part of it",
        )
    weights = {_weight_bits(quantizer, where) for _, quantizer in asked}
    if len(weights) > 1:
        raise RecipeError(
            where, expected="one number of bits for a layer's weights", received=sorted(weights)
        )
    given = [quantizer for _, quantizer in config.get_activations_and_quantizers(layer)]
    given += list(config.get_output_quantizers(layer))
    activations = {_activation_bits(quantizer, where) for quantizer in given}
    if len(activations) > 1:
        raise RecipeError(
            where,
            expected="one number of bits for a layer's activations",
            received=sorted(activations),
        )
    last = bool(given) and all(type(each) is LastValueQuantizer for each in given)
    return Bits(
        weights.pop() if weights else None,
        activations.pop() if activations else None,
        0.0 if last else None,
    )


def _weight_bits(quantizer: Any, where: str) -> int:
    if type(quantizer) not in (LastValueQuantizer, MovingAverageQuantizer):
        raise _foreign(quantizer, where, "LastValueQuantizer for weights")
    if not quantizer.symmetric:
        raise RecipeError(
            where,
            expected="symmetric=True for weights: LiteRT has no zero point there",
            received="symmetric=False",
        )
    if not 2 <= quantizer.num_bits <= 8:
        raise RecipeError(where, expected="2 to 8 bits of weights", received=quantizer.num_bits)
    return quantizer.num_bits


def _activation_bits(quantizer: Any, where: str) -> int:
    if type(quantizer) not in (LastValueQuantizer, MovingAverageQuantizer):
        expected = "MovingAverageQuantizer or LastValueQuantizer for activations"
        raise _foreign(quantizer, where, expected)
    if quantizer.per_axis:
        raise RecipeError(
            where,
            expected="per_axis=False for activations: LiteRT has one scale for a tensor",
            received="per_axis=True",
        )
    if quantizer.num_bits not in (8, 16):
        raise RecipeError(
            where, expected="8 or 16 bits of activations", received=quantizer.num_bits
        )
    return quantizer.num_bits


def _foreign(quantizer: Any, where: str, expected: str) -> RecipeError:
    return RecipeError(
        where,
        expected=expected,
        received=type(quantizer).__name__,
        fix="a rounding that no .tflite has is not trained; call it in a layer of your own",
    )
