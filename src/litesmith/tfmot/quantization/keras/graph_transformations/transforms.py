"""`tfmot.quantization.keras.graph_transformations.transforms`."""

from litesmith.tfmot.quantization.unsupported import transform

__all__ = ["LayerNode", "LayerPattern", "Transform"]

LayerNode = transform("LayerNode")
LayerPattern = transform("LayerPattern")
Transform = transform("Transform")
