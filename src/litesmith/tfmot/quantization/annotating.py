"""`quantize_annotate_layer` and `quantize_annotate_model`: which layers are quantized, and how."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from litesmith.errors import LitesmithWarning, ModelError, RecipeError
from litesmith.parametrize import Mark, inner_layers, is_functional, mark_of, put
from litesmith.recipe import Recipe, prepare
from litesmith.tfmot.layerwise import Pending, kind_of
from litesmith.tfmot.quantization.configs import QuantizeConfig


@keras.saving.register_keras_serializable("litesmith")
class Annotation(Mark):
    """Says that a layer is to be quantized.

    Args:
        quantize_config: how; None as the scheme says.
    """

    def __init__(self, quantize_config: QuantizeConfig | None = None):
        self.quantize_config = quantize_config

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for saving."""
        own = self.quantize_config
        return {"quantize_config": own and keras.saving.serialize_keras_object(own)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Annotation:
        """What `get_config` wrote."""
        own = config["quantize_config"]
        return cls(own and keras.saving.deserialize_keras_object(own))


def quantize_annotate_layer(to_annotate: Any, quantize_config: QuantizeConfig | None = None) -> Any:
    """Say that a layer is to be quantized; `quantize_apply` does it.

    Args:
        to_annotate: a Keras 3 layer, built or not; it is changed in place.
        quantize_config: how; by default as the scheme of `quantize_apply` says.

    Returns:
        The layer.

    Raises:
        ModelError: a ValueError: it is no layer.
        RecipeError: a ValueError: the config is no `QuantizeConfig`.
    """
    if isinstance(to_annotate, keras.Model) or not isinstance(to_annotate, keras.layers.Layer):
        raise ModelError(
            "quantize_annotate_layer",
            expected="a Keras 3 layer",
            received=kind_of(to_annotate),
            fix="use quantize_annotate_model for models",
        )
    if quantize_config is not None and not isinstance(quantize_config, QuantizeConfig):
        raise RecipeError(
            "quantize_annotate_layer: quantize_config",
            expected="a QuantizeConfig or None",
            received=quantize_config,
        )
    mark = mark_of(to_annotate)
    if isinstance(mark, Pending) and mark.waiting:
        raise ModelError(
            f"quantize_annotate_layer: layer {to_annotate.name!r}",
            expected="a layer that has been built after it was pruned or clustered",
            received="one that waits to be built",
            fix="train and strip the pruned or clustered model first",
        )
    return put(to_annotate, Annotation(quantize_config))


def quantize_annotate_model(to_annotate: keras.Model) -> keras.Model:
    """A copy of a model all of whose layers are to be quantized; `quantize_apply` does it.

    Args:
        to_annotate: a sequential or functional model, built or not; models inside it are taken,
            too. Layers that are annotated already keep their config.

    Returns:
        The copy, with the same weights.

    Raises:
        ModelError: a ValueError: it is another kind of model, or none.
    """
    check_model("quantize_annotate_model", to_annotate)
    if not to_annotate.built:
        return keras.models.clone_model(
            to_annotate,
            clone_function=lambda layer: _annotated(type(layer).from_config(layer.get_config())),
        )
    known = [mark_of(layer) for _, layer in inner_layers(to_annotate, "")]
    copy = prepare(to_annotate, Recipe())
    for mark, (_, layer) in zip(known, list(inner_layers(copy, "")), strict=True):
        if isinstance(mark, Annotation):
            put(layer, mark)
    for layer in layers_of(copy):
        _annotated(layer)
    return copy


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model and of the models in it."""
    from litesmith.parametrize import outermost_layers

    return [layer for _, layer in outermost_layers(model)]


def _annotated(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(mark_of(layer), Annotation) or isinstance(layer, keras.layers.InputLayer):
        return layer
    if isinstance(layer, keras.layers.Lambda):
        warnings.warn(
            f"layer {layer.name!r}: a Lambda is quantized as far as LiteRT's graph of it tells",
            LitesmithWarning,
            stacklevel=4,
        )
    return put(layer, Annotation())


def check_model(what: str, model: Any) -> None:
    """Refuse what is no sequential or functional Keras 3 model.

    Args:
        what: the public function.
        model: what was given.

    Raises:
        ModelError: saying what came.
    """
    if not isinstance(model, keras.Model) or not (
        isinstance(model, keras.Sequential) or is_functional(model)
    ):
        raise ModelError(
            what,
            expected="a sequential or functional Keras 3 model",
            received=kind_of(model),
            fix="for a subclassed model call litesmith.prepare(model, litesmith.Quantize())"
            if isinstance(model, keras.Model)
            else None,
        )
