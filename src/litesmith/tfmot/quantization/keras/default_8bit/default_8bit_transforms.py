"""Names of the 8-bit rewrites of tfmot's graphs, which nobody needs here."""

from litesmith.tfmot.quantization.unsupported import TRANSFORMS, transform

__all__ = list(TRANSFORMS)

globals().update({name: transform(name) for name in TRANSFORMS})
