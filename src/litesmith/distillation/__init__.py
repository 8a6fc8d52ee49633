"""A student that learns from a teacher."""

from litesmith.distillation.distiller import Distiller

__all__ = ["Distiller"]
