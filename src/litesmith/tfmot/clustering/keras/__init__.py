"""`tfmot.clustering.keras`: weight clustering."""

from litesmith.tfmot.clustering import layers as clusterable_layer
from litesmith.tfmot.clustering.algorithm import ClusteringAlgorithm
from litesmith.tfmot.clustering.callbacks import ClusteringSummaries
from litesmith.tfmot.clustering.cluster import (
    CentroidInitialization,
    cluster_scope,
    cluster_weights,
    strip_clustering,
)
from litesmith.tfmot.clustering.keras import experimental
from litesmith.tfmot.clustering.layers import ClusterableLayer

__all__ = [
    "CentroidInitialization",
    "ClusterableLayer",
    "ClusteringAlgorithm",
    "ClusteringSummaries",
    "cluster_scope",
    "cluster_weights",
    "clusterable_layer",
    "experimental",
    "strip_clustering",
]
