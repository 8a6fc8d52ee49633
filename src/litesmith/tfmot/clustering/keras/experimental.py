"""`tfmot.clustering.keras.experimental`."""

from __future__ import annotations

from typing import Any

from litesmith.tfmot.clustering.cluster import CentroidInitialization, cluster

__all__ = ["cluster_weights"]


def cluster_weights(
    to_cluster: Any,
    number_of_clusters: int,
    cluster_centroids_init: CentroidInitialization = CentroidInitialization.KMEANS_PLUS_PLUS,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    **kwargs: Any,
) -> Any:
    """`tfmot.clustering.keras.cluster_weights`, with two more choices.

    Args:
        to_cluster: a Keras 3 layer, a list of layers, or a model.
        number_of_clusters: distinct values in a weight, 2 to 256.
        cluster_centroids_init: how the values are chosen at first.
        preserve_sparsity: zeros stay zeros.
        cluster_per_channel: a Conv2D has as many values for each output channel; no other layer.
        **kwargs: see `cluster_weights`.

    Returns:
        The layer, the list of layers, or a new model, not compiled.

    Raises:
        ModelError: a ValueError: nothing that can be clustered.
        RecipeError: a ValueError: a wrong argument.
    """
    return cluster(
        to_cluster,
        number_of_clusters,
        cluster_centroids_init,
        preserve_sparsity,
        cluster_per_channel,
        kwargs,
    )
