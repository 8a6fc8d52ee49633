"""`tfmot.quantization`."""

from litesmith.tfmot.quantization import keras

__all__ = ["keras"]
