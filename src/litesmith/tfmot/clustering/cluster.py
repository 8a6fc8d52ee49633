"""`cluster_weights`, `cluster_scope` and `strip_clustering`."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import keras

from litesmith.clustering import Cluster
from litesmith.errors import RecipeError, did_you_mean
from litesmith.granularity import PerChannel
from litesmith.tfmot.clustering.layers import clusterable
from litesmith.tfmot.layerwise import wrap
from litesmith.tfmot.models import on_any, on_model, strip_any
from litesmith.tfmot.sparsity.prune import checked_keywords


class CentroidInitialization(enum.StrEnum):
    """How the values of clusters are chosen at first.

    LINEAR: evenly spaced from the smallest to the largest weight. RANDOM: drawn from the weights.
    DENSITY_BASED: quantiles of the weights. KMEANS_PLUS_PLUS: drawn far from each other (Arthur and
    Vassilvitskii, 2007). As many as are asked for, always.
    """

    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


_OURS = {
    CentroidInitialization.LINEAR: "linear",
    CentroidInitialization.RANDOM: "random",
    CentroidInitialization.DENSITY_BASED: "density",
    CentroidInitialization.KMEANS_PLUS_PLUS: "kmeans++",
}


def cluster_weights(
    to_cluster: Any,
    number_of_clusters: int,
    cluster_centroids_init: CentroidInitialization = CentroidInitialization.KMEANS_PLUS_PLUS,
    **kwargs: Any,
) -> Any:
    """Have each weight of a layer or a model be one of a few values while it trains.

    A model is copied; the given one is left alone. A layer is changed in place and returned, built
    or not; in `clone_model(model, clone_function=…)` it stays the given model's own layer.

    Args:
        to_cluster: a Keras 3 layer, a list of layers, or a model.
        number_of_clusters: distinct values in a weight, 2 to 256.
        cluster_centroids_init: how the values are chosen at first.
        **kwargs: `preserve_sparsity` and `cluster_per_channel`, see `experimental.cluster_weights`;
            for a layer `name`, `trainable`, and `input_shape` of the first of a Sequential model.

    Returns:
        The layer, the list of layers, or a new model, not compiled.

    Raises:
        ModelError: a ValueError: nothing that can be clustered.
        RecipeError: a ValueError: a wrong argument.
    """
    options = dict(kwargs)
    preserve = options.pop("preserve_sparsity", False)
    per_channel = options.pop("cluster_per_channel", False)
    return cluster(
        to_cluster, number_of_clusters, cluster_centroids_init, preserve, per_channel, options
    )


def cluster(
    to_cluster: Any,
    number: int,
    initialization: Any,
    preserve_sparsity: bool,
    per_channel: bool,
    keywords: dict[str, Any],
) -> Any:
    """What both `cluster_weights` do; see there."""
    try:
        how = _OURS[CentroidInitialization(initialization)]
    except ValueError:
        names = [each.name for each in CentroidInitialization]
        raise RecipeError(
            "cluster_weights: cluster_centroids_init",
            expected="a CentroidInitialization",
            received=initialization,
            fix=did_you_mean(str(initialization), names),
        ) from None
    for name, value in {
        "preserve_sparsity": preserve_sparsity,
        "cluster_per_channel": per_channel,
    }.items():
        if not isinstance(value, bool):
            raise RecipeError(f"cluster_weights: {name}", expected="True or False", received=value)
    technique = Cluster(
        clusters=number,
        initialization=how,  # type: ignore[arg-type]
        preserve_zeros=preserve_sparsity,
    )
    options = checked_keywords("cluster_weights", keywords)

    def own(layer: Any) -> Cluster:
        if per_channel and isinstance(layer, keras.layers.Conv2D):
            return dataclasses.replace(technique, granularity=PerChannel())
        return technique

    def layer(given: Any, **options: Any) -> Any:
        return wrap(given, own(given), clusterable, what="cluster_weights", **options)

    def model(given: keras.Model) -> keras.Model:
        return on_model(given, own if per_channel else technique, clusterable, layer)

    single = options if isinstance(to_cluster, keras.layers.Layer) else {}
    return on_any(to_cluster, "cluster_weights", model, lambda given: layer(given, **single))


def cluster_scope() -> Any:
    """A scope in which clustered models can be loaded, as a context manager.

    Loading them works without it, too.
    """
    return keras.saving.custom_object_scope({})


def strip_clustering(model: keras.Model) -> keras.Model:
    """A plain Keras model with the few values in its weights; the clustered one is left alone.

    Args:
        model: a Keras model; one that was not clustered is copied as it is.

    Raises:
        ModelError: a ValueError: it is no Keras 3 model.
    """
    return strip_any(model, "strip_clustering")
