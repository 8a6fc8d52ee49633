"""Quantization after pruning and clustering: what those reached is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from litesmith.chaining import attach_chains, earlier_chains, earlier_taps
from litesmith.clustering import Cluster
from litesmith.errors import ModelError
from litesmith.parametrize import (
    Kernel,
    copy_model,
    factors,
    find_kernels,
    holder_of,
    is_parametrized,
    mark_of,
    plain_weights,
    put,
    spread,
)
from litesmith.pruning import Prune
from litesmith.quantization.parametrization import Grid
from litesmith.recipe import origin, remember
from litesmith.schedules import Constant
from litesmith.tfmot.layerwise import Pending, kernels_of, kind_of, parametrize, settle

# Masks that are made once: at the first step, from the zeros that are there.
ONCE = Constant(begin_step=0, frequency=2**30)


def preserve(
    model: keras.Model, layers: Sequence[keras.layers.Layer], *, zeros: bool, clusters: bool
) -> None:
    """Have the zeros, or the few values, of some layers' kernels stay, in place.

    Args:
        model: the model the layers stand in.
        layers: plain layers, which are quantized afterwards.
        zeros: whether weights that are zero stay zero.
        clusters: whether a kernel with fewer distinct values than weights, and at most 256, keeps
            as few.
    """

    def pruning(kernel: Kernel) -> Prune | None:
        value = kernel.value()
        count = int((value == 0).sum())
        if count in (0, value.size):
            return None
        return Prune(sparsity=count / value.size, schedule=ONCE)

    def clustering(kernel: Kernel) -> Cluster | None:
        value = kernel.value()
        distinct = len(np.unique(value))
        if distinct > 256 or distinct == value.size:
            return None
        return Cluster(clusters=max(2, distinct), preserve_zeros=zeros)

    techniques = [pruning] * zeros + [clustering] * clusters
    for layer in layers:
        for technique in techniques:
            parametrize(layer, technique, kernels_of(layer))
        if is_parametrized(layer):
            put(layer, Pending([]))
    settle(model)


def strip_clustering_cqat(to_strip: keras.Model) -> keras.Model:
    """A quantized model with its clusters baked in: it still trains and converts quantized.

    Args:
        to_strip: what `quantize_apply` made with `Default8BitClusterPreserveQuantizeScheme`; it is
            left alone.

    Returns:
        The copy, without what clustering and pruning need for training.

    Raises:
        ModelError: a ValueError: it is no model, or none that is quantized.
    """
    from litesmith.tfmot.quantization.converting import FakeQuantizing

    if not isinstance(to_strip, keras.Model):
        raise ModelError(
            "strip_clustering_cqat", expected="a Keras 3 model", received=kind_of(to_strip)
        )
    chains = earlier_chains(to_strip)
    if not any(isinstance(link, Grid) for links in chains.values() for link in links):
        raise ModelError(
            f"strip_clustering_cqat: model {to_strip.name!r}",
            expected="a model that is trained quantized",
            received="another",
            fix="use strip_clustering for a model that is only clustered",
        )
    copy = copy_model(to_strip)
    values = _baked(to_strip)
    for place, kernel in enumerate(find_kernels(copy)):
        if place in values:
            kernel.variable.assign(values[place])
    grids: dict[int, list[Any]] = {
        place: [link for link in links if isinstance(link, Grid)]
        for place, links in chains.items()
        if any(isinstance(link, Grid) for link in links)
    }
    attach_chains(copy, grids, earlier_taps(to_strip))
    known = origin(to_strip)
    if known is not None:
        remember(copy, known)
    mark = mark_of(to_strip)
    return put(copy, FakeQuantizing(mark.only if isinstance(mark, FakeQuantizing) else None))


def _baked(model: keras.Model) -> dict[int, Any]:
    """Each kernel as what stands before its grid makes it, by its place."""
    values = {}
    for place, kernel in enumerate(find_kernels(model)):
        if not is_parametrized(kernel.layer):
            continue
        holder = holder_of(kernel.layer)
        variables = holder.find(plain_weights(kernel.layer)) or []
        for (target, links), variable, scale in zip(
            holder.chains(), variables, holder.scales(), strict=True
        ):
            if target["index"] != kernel.index:
                continue
            weight, factor = keras.ops.copy(variable.value), None
            for link in links:
                if isinstance(link, Grid):
                    break
                if link.folded and scale is not None and factor is None:
                    factor = spread(factors(scale[0]), weight.shape, scale[1])
                    weight = weight * factor
                weight = link.transform(weight, training=False)
            values[place] = weight if factor is None else weight / factor
    return values
