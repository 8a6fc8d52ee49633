"""Quantization-aware training: models that train with the rounding of their `.tflite`."""

from litesmith.quantization.comparing import Fidelity, fidelity
from litesmith.quantization.config import Quantize

__all__ = ["Fidelity", "Quantize", "fidelity"]
