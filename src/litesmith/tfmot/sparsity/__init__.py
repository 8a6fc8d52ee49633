"""`tfmot.sparsity`."""

from litesmith.tfmot.sparsity import keras

__all__ = ["keras"]
