"""Data by name, and any data in batches of numpy arrays."""

from __future__ import annotations

from litesmith.data.batches import batches as batches
from litesmith.data.dataset import Dataset as Dataset
from litesmith.data.dataset import LazyArray as LazyArray
from litesmith.data.dataset import Split as Split
from litesmith.data.sources import load as load

__all__ = ["Dataset", "LazyArray", "Split", "batches", "load"]
