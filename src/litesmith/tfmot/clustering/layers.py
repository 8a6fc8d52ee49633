"""Custom layers that say which of their weights are clustered."""

from __future__ import annotations

import abc

import keras

from litesmith.errors import ModelError


class ClusterableLayer(abc.ABC):
    """A custom layer that names the weights to cluster; derive from it beside `keras.layers.Layer`.

    class Gate(keras.layers.Layer, tfmot.clustering.keras.ClusterableLayer):
        def get_clusterable_weights(self):
            return [("matrix", self.matrix)]
    """  # noqa: D214

    @abc.abstractmethod
    def get_clusterable_weights(self) -> list[tuple[str, keras.Variable]]:
        """Name and variable of each weight to cluster, once the layer is built."""

    def get_clusterable_algorithm(self, weight_name: str) -> type | None:
        """An algorithm of one's own for a weight; only None, for ours, is supported.

        Args:
            weight_name: a name that `get_clusterable_weights` gives.
        """
        return None


def clusterable(layer: keras.layers.Layer) -> list[keras.Variable] | None:
    """What a layer wants clustered; None where its class does not say.

    Raises:
        ModelError: it wants an algorithm of its own.
    """
    if not isinstance(layer, ClusterableLayer):
        return None
    named = list(layer.get_clusterable_weights())
    for name, _ in named:
        own = layer.get_clusterable_algorithm(name)
        if own is not None:
            raise ModelError(
                f"layer {layer.name!r}, weight {name!r}",  # type: ignore[attr-defined]
                expected="None from get_clusterable_algorithm: clusters are litesmith's",
                received=getattr(own, "__name__", str(own)),
                fix="write a litesmith.Technique for weights that want clusters of another kind",
            )
    return [variable for _, variable in named]
