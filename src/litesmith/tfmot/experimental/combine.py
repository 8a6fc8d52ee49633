"""`tfmot.experimental.combine`: quantization that keeps what pruning and clustering reached."""

from litesmith.tfmot.quantization.collaborating import strip_clustering_cqat
from litesmith.tfmot.quantization.schemes import (
    Default8BitClusterPreserveQuantizeScheme,
    Default8BitPrunePreserveQuantizeScheme,
)

__all__ = [
    "Default8BitClusterPreserveQuantizeScheme",
    "Default8BitPrunePreserveQuantizeScheme",
    "strip_clustering_cqat",
]
