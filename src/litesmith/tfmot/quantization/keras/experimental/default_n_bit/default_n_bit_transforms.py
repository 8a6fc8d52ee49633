"""`tfmot.quantization.keras.experimental.default_n_bit.default_n_bit_transforms`: names of graph rewrites, which nobody needs here."""

from litesmith.tfmot.quantization.unsupported import TRANSFORMS, transform

__all__ = list(TRANSFORMS)

globals().update({name: transform(name) for name in TRANSFORMS})
