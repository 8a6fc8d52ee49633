"""`tfmot.clustering`."""

from litesmith.tfmot.clustering import keras

__all__ = ["keras"]
