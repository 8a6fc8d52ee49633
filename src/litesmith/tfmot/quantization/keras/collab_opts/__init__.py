"""`tfmot.quantization.keras.collab_opts`."""

from litesmith.tfmot.quantization.schemes import Default8BitPrunePreserveQuantizeScheme

__all__ = ["Default8BitPrunePreserveQuantizeScheme"]
