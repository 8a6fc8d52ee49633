"""`quantize_apply`, `quantize_model` and `quantize_scope`."""

from __future__ import annotations

import re
from typing import Any

import keras

from litesmith.errors import ModelError, RecipeError
from litesmith.parametrize import (
    holder_of,
    is_parametrized,
    mark_of,
    outermost_layers,
    put,
)
from litesmith.quantization import Quantize
from litesmith.quantization.parametrization import MOMENTUM, Grid
from litesmith.recipe import Recipe, prepare
from litesmith.tfmot.layerwise import kernels_of
from litesmith.tfmot.quantization import quantizers, schemes
from litesmith.tfmot.quantization.annotating import (
    Annotation,
    check_model,
    quantize_annotate_model,
)
from litesmith.tfmot.quantization.collaborating import preserve
from litesmith.tfmot.quantization.configs import Bits, BitsConfig, QuantizeConfig, bits_of
from litesmith.tfmot.quantization.converting import FakeQuantizing
from litesmith.tfmot.quantization.schemes import Default8BitQuantizeScheme, QuantizeScheme


def quantize_apply(
    model: keras.Model,
    scheme: QuantizeScheme = Default8BitQuantizeScheme(),  # noqa: B008  as tfmot has it
    quantized_layer_name_prefix: str | None = "quant_",
) -> keras.Model:
    """A copy of an annotated model that trains with the roundings its `.tflite` will have.

    Args:
        model: a built sequential or functional model with annotated layers; it is left alone.
        scheme: how layers without a config of their own are quantized, and what they keep.
        quantized_layer_name_prefix: begins the names of the quantized layers.

    Returns:
        The copy, not compiled. `TFLiteConverter.from_keras_model(copy)` and
        `litesmith.export(copy, path)` both make an integer file of it.

    Raises:
        ModelError: a ValueError: another kind of model, one that is not built, or nothing in it to
            quantize.
        RecipeError: a ValueError: a config or scheme asks for what a `.tflite` cannot have.
    """
    check_model("quantize_apply", model)
    if not isinstance(scheme, QuantizeScheme):
        raise RecipeError("quantize_apply: scheme", expected="a QuantizeScheme", received=scheme)
    _check_transform(scheme.get_layout_transformer())
    if not model.built:
        raise ModelError(
            f"quantize_apply: model {model.name!r}",
            expected="a built model",
            received="one that has no weights yet",
            fix="give it a keras.Input, or call it on a batch",
        )
    marks = {
        number: mark
        for number, (_, layer) in enumerate(outermost_layers(model))
        if isinstance(mark := mark_of(layer), Annotation)
    }
    if not marks:
        raise ModelError(
            f"quantize_apply: model {model.name!r}",
            expected="a model with annotated layers",
            received="one without",
            fix="call quantize_annotate_model or quantize_annotate_layer first, or quantize_model",
        )
    copy = prepare(model, Recipe())
    layers = [layer for _, layer in outermost_layers(copy)]
    bits = {
        number: found
        for number, mark in marks.items()
        if (found := _bits(layers[number], mark, scheme)) is not None
    }
    if not any(each.weights for each in bits.values()):
        raise ModelError(
            f"quantize_apply: model {model.name!r}",
            expected="an annotated layer with a kernel; what it takes and gives comes with it",
            received=", ".join(repr(layers[number].name) for number in list(marks)[:3]),
            fix="annotate the convolutions and dense layers, too",
        )
    for number in marks:
        layers[number].name = f"{quantized_layer_name_prefix or ''}{layers[number].name}"
    taken = [layers[number] for number, each in bits.items() if each.weights]
    keeps = [getattr(scheme, name, False) for name in ("keeps_zeros", "keeps_clusters")]
    preserve(copy, taken, zeros=keeps[0], clusters=keeps[1])
    quantized = prepare(copy, _recipe(copy, layers, bits))
    paths = [path for path, _ in outermost_layers(quantized)]
    whole = all(n in marks or isinstance(x, keras.layers.InputLayer) for n, x in enumerate(layers))
    return put(quantized, FakeQuantizing(None if whole else [paths[number] for number in marks]))


def _check_transform(transform: Any) -> None:
    known = (
        schemes.Default8BitQuantizeLayoutTransform,
        schemes.DefaultNBitQuantizeLayoutTransform,
    )
    if transform is not None and type(transform) not in known:
        raise RecipeError(
            "quantize_apply: the scheme's layout transformer",
            expected="one of ours, or None: where to round is read off the graph that LiteRT has",
            received=type(transform).__name__,
        )


def _bits(layer: Any, mark: Annotation, scheme: QuantizeScheme) -> Bits | None:
    """What is to be done to a layer; None where nothing is."""
    config = mark.quantize_config or scheme.get_quantize_registry().get_quantize_config(layer)
    if config is None:
        return None
    if not isinstance(config, QuantizeConfig):
        raise RecipeError(
            f"{type(scheme).__name__}: config of layer {layer.name!r}",
            expected="a QuantizeConfig or None",
            received=config,
        )
    return bits_of(config, layer, kernels_of(layer))


def _recipe(model: keras.Model, layers: list[Any], bits: dict[int, Bits]) -> Recipe:
    """One `Quantize` for each number of bits of weights."""
    said = {each.activations for each in bits.values() if each.activations is not None}
    if len(said) > 1:
        raise RecipeError(
            "quantize_apply",
            expected="the same bits of activations in all layers",
            received=" and ".join(map(str, sorted(said))),
        )
    activations = said.pop() if said else None
    asked = [each.momentum for each in bits.values() if each.activations is not None]
    last = bool(asked) and all(momentum is not None for momentum in asked)
    momentum = 0.0 if last else MOMENTUM
    paths = {id(layer): path for path, layer in outermost_layers(model)}
    by_bits: dict[int, list[str]] = {}
    for number, each in bits.items():
        if each.weights is not None:
            path = re.escape(paths[id(layers[number])])
            by_bits.setdefault(each.weights, []).append(f"{path}(/.*)?")
    return Recipe(
        *(
            Quantize(where=where, weights=weights, activations=activations, momentum=momentum)
            for weights, where in by_bits.items()
        )
    )


def quantize_model(
    to_quantize: keras.Model, quantized_layer_name_prefix: str | None = "quant_"
) -> keras.Model:
    """A copy of a model that trains with the roundings its `.tflite` will have, in eight bits.

    Args:
        to_quantize: a built sequential or functional model; it is left alone.
        quantized_layer_name_prefix: begins the names of the quantized layers.

    Returns:
        The copy, not compiled; see `quantize_apply`.

    Raises:
        ModelError: a ValueError: another kind of model, or one that is not built.
    """
    check_model("quantize_model", to_quantize)
    annotated = quantize_annotate_model(to_quantize)
    return quantize_apply(annotated, quantized_layer_name_prefix=quantized_layer_name_prefix)


def quantize_scope(*args: dict[str, Any]) -> Any:
    """A scope in which annotated and quantized models can be loaded, as a context manager.

    Loading them works without it, too, but for classes of your own.

    Args:
        *args: tables of such classes by name.
    """
    ours: dict[str, Any] = {"BitsConfig": BitsConfig}
    for name in (
        "AllValuesQuantizer",
        "FixedQuantizer",
        "LastValueQuantizer",
        "MovingAverageQuantizer",
    ):
        ours[name] = getattr(quantizers, name)
    for table in args:
        if not isinstance(table, dict):
            raise RecipeError(
                "quantize_scope", expected="tables of classes by name", received=table
            )
        ours |= table
    return keras.saving.custom_object_scope(ours)


class _Quantized(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        if not is_parametrized(instance):
            return False
        holder = holder_of(instance)
        return holder.has_taps or any(isinstance(link, Grid) for link in holder.links)


class QuantizeWrapper(metaclass=_Quantized):
    """`isinstance(layer, QuantizeWrapper)` tells whether a layer is trained quantized.

    There is no wrapper: `layer` is the layer itself. Making one raises a ModelError.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        raise ModelError(
            type(self).__name__,
            expected="layers that stay what they are, without a wrapper",
            received="a wrapper made by hand",
            fix="call quantize_annotate_layer(layer, config), then quantize_apply(model)",
        )


class QuantizeWrapperV2(QuantizeWrapper):
    """The same as `QuantizeWrapper`."""
