"""`ClusteringAlgorithm`: the two look-ups of clustering, for code that calls them."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from litesmith.clustering import core
from litesmith.errors import RecipeError


class ClusteringAlgorithm:
    """Which centroid each weight is nearest to, and the weights made of centroids.

    It is for code that calls it; a subclass of it is not taken by `cluster_weights`.

    Args:
        clusters_centroids: variable or tensor, [clusters].
        cluster_gradient_aggregation: "SUM", the gradient of a centroid is the sum of its members',
            or "AVG", their mean.
        data_format: not used; a codebook for each channel is `cluster_per_channel`.

    Raises:
        RecipeError: another aggregation, or centroids that are no vector.
    """

    def __init__(
        self,
        clusters_centroids: Any,
        cluster_gradient_aggregation: str = "SUM",
        data_format: str | None = None,
    ):
        how = str(cluster_gradient_aggregation).rpartition(".")[2]
        if how not in ("SUM", "AVG"):
            raise RecipeError(
                "ClusteringAlgorithm: cluster_gradient_aggregation",
                expected="'SUM' or 'AVG'",
                received=cluster_gradient_aggregation,
            )
        if len(clusters_centroids.shape) != 1:
            raise RecipeError(
                "ClusteringAlgorithm: clusters_centroids",
                expected="a vector",
                received=f"shape {tuple(clusters_centroids.shape)}",
                fix="use experimental.cluster_weights(…, cluster_per_channel=True) for channels",
            )
        self.cluster_centroids = clusters_centroids
        self.cluster_gradient_aggregation, self.data_format = how, data_format

    def get_pulling_indices(self, weight: Any, centroids: Any = None) -> Any:
        """The number of the nearest centroid, for each weight.

        Args:
            weight: tensor of any shape.
            centroids: others than those of the constructor, [clusters].

        Returns:
            int32 tensor of the same shape.
        """
        given = self.cluster_centroids if centroids is None else centroids
        given = ops.convert_to_tensor(given)
        order = ops.argsort(given)
        table = ops.expand_dims(ops.take(given, order), 0)
        place = core.nearest(ops.convert_to_tensor(weight), table, np.zeros((), np.int32))
        return ops.take(ops.cast(order, "int32"), ops.cast(place, "int32"))

    def get_clustered_weight(self, pulling_indices: Any, original_weight: Any) -> Any:
        """The weights made of centroids.

        Args:
            pulling_indices: what `get_pulling_indices` gave.
            original_weight: the weights; they get the gradient, too, straight through.

        Returns:
            Tensor of the same shape.
        """
        centroids = ops.convert_to_tensor(self.cluster_centroids)
        if self.cluster_gradient_aggregation == "AVG":
            flat = ops.reshape(ops.cast(pulling_indices, "int32"), (-1,))
            members = ops.sum(ops.one_hot(flat, centroids.shape[0]), axis=0)
            share = 1.0 / ops.maximum(ops.cast(members, centroids.dtype), 1.0)
            still = ops.stop_gradient(centroids)
            centroids = still + share * (centroids - still)
        clustered = ops.take(centroids, ops.cast(pulling_indices, "int32"), axis=0)
        return self.add_gradient_to_original_weight(clustered, original_weight)

    def average_centroids_gradient_by_cluster_size(
        self, cluster_centroids: Any, cluster_sizes: Any
    ) -> Any:
        """The centroids, with gradients divided by the number of members.

        Args:
            cluster_centroids: [clusters].
            cluster_sizes: [clusters].
        """
        still = ops.stop_gradient(cluster_centroids)
        sizes = ops.maximum(ops.cast(cluster_sizes, still.dtype), 1.0)
        return still + (cluster_centroids - still) / sizes

    def add_gradient_to_original_weight(self, clustered_weight: Any, original_weight: Any) -> Any:
        """The clustered weights, with a gradient for the original ones, too.

        Args:
            clustered_weight: tensor.
            original_weight: of the same shape.
        """
        weight = ops.convert_to_tensor(original_weight)
        return clustered_weight + (weight - ops.stop_gradient(weight))
