"""Storing in a plain layer what a parametrized one uses."""

from __future__ import annotations

import keras
import numpy as np

from litesmith.parametrize import folding, internals
from litesmith.parametrize.swap import holder_of, plain_weights, used_weights
from litesmith.parametrize.walking import inner_layers

to_numpy = keras.ops.convert_to_numpy


def bake(
    old: keras.layers.Layer, new: keras.layers.Layer, twins: dict[int, keras.layers.Layer]
) -> None:
    """Give a plain copy of a parametrized layer the weights that the latter uses.

    A weight that a technique works on folded is stored folded, and the layer that scales it gets
    the values that go with it (`folding.unfold`).

    Args:
        old: the parametrized layer.
        new: its plain copy.
        twins: the plain copy of each layer of the model, by the identity of the layer.
    """
    places = {id(weight): place for place, weight in enumerate(plain_weights(old))}
    scales = holder_of(old).scales()
    owners = {
        id(variable): layer
        for _, layer in inner_layers(old, "")
        for variable in internals.own_variables(layer)
    }
    for (variable, used), scale in zip(used_weights(old, folded=True), scales, strict=True):
        target = new.weights[places[id(variable)]]
        if scale is None:
            target.assign(used)
            continue
        layer, _, before = scale
        owner = owners[id(variable)]
        if before:
            kernel, values = folding.unfold_input(to_numpy(used), layer)
            target.assign(kernel)
            _assign(layer, twins[id(layer)], values)
            continue
        bias = getattr(owner, "bias", None)
        kernel, shifted, values = folding.unfold(
            to_numpy(used), None if bias is None else to_numpy(bias), layer
        )
        target.assign(kernel)
        if shifted is not None:
            twins[id(owner)].bias.assign(shifted)
        _assign(layer, twins[id(layer)], values)


def _assign(
    layer: keras.layers.Layer, twin: keras.layers.Layer, values: list[tuple[str, np.ndarray]]
) -> None:
    """Set variables of a layer's twin, told by their names in the layer.

    A name need not be an attribute's, nor the twin's: Keras numbers those that were given none.
    """
    names = [variable.name for variable in internals.own_variables(layer)]
    for name, value in values:
        internals.own_variables(twin)[names.index(name)].assign(value)
