"""Custom layers that say which of their weights are pruned."""

from __future__ import annotations

import abc

import keras


class PrunableLayer(abc.ABC):
    """A custom layer that names the weights to prune; derive from it beside `keras.layers.Layer`.

    class Gate(keras.layers.Layer, tfmot.sparsity.keras.PrunableLayer):
        def get_prunable_weights(self):
            return [self.matrix]
    """  # noqa: D214

    @abc.abstractmethod
    def get_prunable_weights(self) -> list[keras.Variable]:
        """The weights to prune: variables of the layer with two axes or more, once it is built."""


def prunable(layer: keras.layers.Layer) -> list[keras.Variable] | None:
    """What a layer wants pruned; None where its class does not say."""
    if isinstance(layer, PrunableLayer):
        return list(layer.get_prunable_weights())
    return None
