"""`tfmot.quantization.keras.default_8bit`."""

from litesmith.tfmot.quantization.keras.default_8bit import default_8bit_transforms
from litesmith.tfmot.quantization.schemes import (
    Default8BitQuantizeLayoutTransform,
    Default8BitQuantizeRegistry,
    Default8BitQuantizeScheme,
)

__all__ = [
    "Default8BitQuantizeLayoutTransform",
    "Default8BitQuantizeRegistry",
    "Default8BitQuantizeScheme",
    "default_8bit_transforms",
]
