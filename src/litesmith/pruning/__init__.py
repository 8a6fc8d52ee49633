"""Magnitude pruning: unstructured, n:m, blocks, channels."""

from litesmith.pruning.config import Prune

__all__ = ["Prune"]
