"""Sizes of a `.tflite`; they belong to export, which notes them in its manifest."""

from litesmith.export.sizes import sizes

__all__ = ["sizes"]
