"""What pruning and clustering have in common on whole models and lists of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from litesmith.errors import ModelError
from litesmith.parametrize import (
    copy_model,
    holder_of,
    is_parametrized,
    mark_of,
    outermost_layers,
    put,
)
from litesmith.quantization.parametrization import Grid
from litesmith.recipe import Recipe, prepare, strip
from litesmith.technique import Technique
from litesmith.tfmot.layerwise import KINDS, Pending, Wanted, chosen, kind_of, parametrize, settle


def on_model(
    model: keras.Model,
    technique: Technique | Callable[[keras.layers.Layer], Technique | None],
    wanted: Wanted,
    wrap: Callable[[keras.layers.Layer], Any],
) -> keras.Model:
    """A copy of a model whose layers pass through a technique; layers that do already keep it.

    Args:
        model: a model of any kind; one that is not built yet must be sequential.
        technique: the technique, or what gives each layer its own (None leaves it alone).
        wanted: what custom classes ask for.
        wrap: the same for one layer, in place.
    """
    if not model.built:
        if not isinstance(model, keras.Sequential):
            raise ModelError(
                f"model {model.name!r}",
                expected="a built model, or a Sequential one",
                received="one that has no weights yet",
                fix="call it on a batch first",
            )
        return keras.models.clone_model(
            model, clone_function=lambda layer: wrap(type(layer).from_config(layer.get_config()))
        )
    layers = [layer for _, layer in outermost_layers(model)]
    same = isinstance(technique, Technique) and all(
        wanted(layer) is None and not is_parametrized(layer) for layer in layers
    )
    if same and isinstance(technique, Technique):
        return prepare(model, _by_kind(technique, model))
    kind = _link_kinds(technique, layers)
    copy = prepare(model, Recipe())
    for layer in [layer for _, layer in outermost_layers(copy)]:
        own = technique if isinstance(technique, Technique) else technique(layer)
        had = {type(link) for link in holder_of(layer).links} if is_parametrized(layer) else set()
        if own is None or had & kind:
            continue
        kernels = [k for k in chosen_or_none(layer, wanted) if not own.plan([k])[0].reason]
        if kernels:
            parametrize(layer, own, kernels)
            put(layer, Pending([]))
    settle(copy)
    return copy


def chosen_or_none(layer: keras.layers.Layer, wanted: Wanted) -> list[Any]:
    """`chosen`, with nothing from layers that nobody can tell the weights of."""
    try:
        return chosen(layer, wanted)
    except ModelError:
        return []


def _link_kinds(technique: Any, layers: list[keras.layers.Layer]) -> set[type]:
    """The classes of parametrizations that count as having been wrapped already."""
    from litesmith.clustering.parametrization import Codebook
    from litesmith.pruning.parametrization import Mask

    first = technique
    if not isinstance(technique, Technique):
        first = next((own for layer in layers if (own := technique(layer)) is not None), None)
    return {Codebook} if getattr(first, "name", "") == "cluster" else {Mask}


def _by_kind(technique: Technique, model: keras.Model) -> Recipe:
    """The technique, and once more for embeddings, which ours takes only when asked."""
    import dataclasses

    from litesmith.parametrize import find_kernels

    kinds = {kernel.kind for kernel in find_kernels(model)}
    rules = [technique] if kinds & (KINDS - {"embedding"}) else []
    if "embedding" in kinds:
        rules.append(dataclasses.replace(technique, where=keras.layers.Embedding))
    return Recipe(*(rules or [technique]))


def on_any(given: Any, what: str, model: Callable[[Any], Any], layer: Callable[[Any], Any]) -> Any:
    """Whatever tfmot's functions take: a model, a layer, or a list of layers.

    Args:
        given: one of these.
        what: the public function, for errors.
        model: what to do with a model.
        layer: what to do with a layer.

    Raises:
        ModelError: something else.
    """
    if isinstance(given, keras.Model):
        return model(given)
    if isinstance(given, (list, tuple)):
        return [on_any(each, what, model, layer) for each in given]
    if isinstance(given, keras.layers.Layer):
        return layer(given)
    raise ModelError(
        what, expected="a Keras 3 layer, a list of them or a model", received=kind_of(given)
    )


def strip_any(model: Any, what: str) -> keras.Model:
    """`strip`, but a model without anything to strip is copied as it is, as in tfmot.

    Args:
        model: a Keras model.
        what: the public function, for errors.

    Raises:
        ModelError: it is none, or was quantized.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(what, expected="a Keras 3 model", received=kind_of(model))
    layers = [layer for _, layer in outermost_layers(model)]
    for layer in layers:
        if mark_of(layer) is not None:
            list(layer.variables)  # what waits is done now
    had = [layer for layer in layers if is_parametrized(layer)]
    if not had:
        return copy_model(model)
    if any(isinstance(link, Grid) for layer in had for link in holder_of(layer).links):
        raise ModelError(
            f"{what}: model {model.name!r}",
            expected="a model that was pruned or clustered",
            received="one that is trained quantized",
            fix="convert it as it is, or call litesmith.strip(model)",
        )
    return strip(model)
