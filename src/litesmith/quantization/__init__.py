"""Quantization-aware training: models that train with the rounding of their `.tflite`."""

from litesmith.quantization.config import Quantize

__all__ = ["Quantize"]
