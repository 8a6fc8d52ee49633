"""`tfmot.experimental`."""

from litesmith.tfmot.experimental import combine

__all__ = ["combine"]
