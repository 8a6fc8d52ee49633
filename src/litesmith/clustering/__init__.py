"""Weight clustering: a kernel's weights take no more than K distinct values."""

from litesmith.clustering.config import Cluster

__all__ = ["Cluster"]
