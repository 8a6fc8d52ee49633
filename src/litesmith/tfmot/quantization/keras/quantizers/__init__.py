"""`tfmot.quantization.keras.quantizers`."""

from litesmith.tfmot.quantization.quantizers import (
    AllValuesQuantizer,
    FixedQuantizer,
    LastValueQuantizer,
    MovingAverageQuantizer,
    Quantizer,
)

__all__ = [
    "AllValuesQuantizer",
    "FixedQuantizer",
    "LastValueQuantizer",
    "MovingAverageQuantizer",
    "Quantizer",
]
