"""`tfmot.quantization.keras.experimental.default_n_bit`."""

from litesmith.tfmot.quantization.keras.experimental.default_n_bit import default_n_bit_transforms
from litesmith.tfmot.quantization.schemes import (
    DefaultNBitQuantizeLayoutTransform,
    DefaultNBitQuantizeRegistry,
    DefaultNBitQuantizeScheme,
)

__all__ = [
    "DefaultNBitQuantizeLayoutTransform",
    "DefaultNBitQuantizeRegistry",
    "DefaultNBitQuantizeScheme",
    "default_n_bit_transforms",
]
