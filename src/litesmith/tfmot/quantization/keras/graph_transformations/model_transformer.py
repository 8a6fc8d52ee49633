"""`tfmot.quantization.keras.graph_transformations.model_transformer`."""

from litesmith.tfmot.quantization.unsupported import transform

__all__ = ["ModelTransformer"]

ModelTransformer = transform("ModelTransformer")
