"""Quantization-aware training: models that train with the rounding of their `.tflite`."""

from litesmith.quantization.config import Quantize
from litesmith.quantization.fidelity import Fidelity, fidelity

__all__ = ["Fidelity", "Quantize", "fidelity"]
