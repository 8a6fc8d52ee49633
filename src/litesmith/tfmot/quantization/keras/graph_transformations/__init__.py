"""`tfmot.quantization.keras.graph_transformations`: names of graph rewrites, not needed here."""

from litesmith.tfmot.quantization.keras.graph_transformations import model_transformer, transforms

__all__ = ["model_transformer", "transforms"]
