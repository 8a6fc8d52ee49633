"""What `strip` hands on: biases on their grids, and what `export` has to put into the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import keras
import numpy as np
from keras import ops

from litesmith.parametrize import (
    Place,
    factors,
    holder_of,
    is_parametrized,
    outermost_layers,
    plain_weights,
    spread,
)
from litesmith.parametrize import inner_layers as layers_inside
from litesmith.quantization import core
from litesmith.quantization.accumulating import bias_of, moved_bias, stored_scale
from litesmith.quantization.parametrization import Grid
from litesmith.quantization.ranges import Range

to_numpy = ops.convert_to_numpy


@dataclasses.dataclass(frozen=True, eq=False)
class Grids:
    """What was trained, for `export`.

    Attributes:
        activations: their bits, or None where they were not quantized.
        ranges: by place (`str(Place)`), smallest and largest value.
        kernels: by layer and variable, bits and the scale, which broadcasts to the kernel.
        stored: by layer and variable, the scales of the file's channels to the last bit, where the
            simulation went by them.
    """

    activations: int | None
    ranges: Mapping[str, tuple[float, float]]
    kernels: Mapping[tuple[str, str], tuple[int, np.ndarray]]
    stored: Mapping[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Whether any range has been observed."""
        return not self.ranges or any(low != high for low, high in self.ranges.values())


@dataclasses.dataclass(frozen=True)
class _Weight:
    """One weight on a grid: its place, its grid, its scale in inference."""

    layer: keras.layers.Layer
    path: str
    variable: keras.Variable
    grid: Grid
    scale: np.ndarray


def carry(
    model: keras.Model, copy: keras.Model, twins: Mapping[int, keras.layers.Layer]
) -> Grids | None:
    """Put the biases of a stripped model on their grids and collect what was trained.

    Args:
        model: the prepared model.
        copy: the stripped one, its weights baked.
        twins: the layer of `copy` for each of `model`, by identity.

    Returns:
        None where nothing was quantized.
    """
    weights = list(_weights(model))
    if not weights:
        return None
    news = {id(w.variable): _new_weight(w, twins) for w in weights}
    kernels = {}
    for weight in weights:
        baked = to_numpy(news[id(weight.variable)])
        kernels[weight.path, weight.variable.path] = (
            weight.grid.bits,
            weight.scale * _enlarged(weight, baked),
        )
    taps = list(_taps(model))
    ranges = {str(place): tap.ends() for place, _, tap in taps if tap.observes}
    bits = {tap.bits for _, _, tap in taps if tap.bits is not None}
    stored = _bake_biases(weights, taps, twins)
    return Grids(bits.pop() if bits else None, ranges, kernels, stored)


def _weights(model: keras.Model) -> Iterator[_Weight]:
    for path, layer in outermost_layers(model):
        if not is_parametrized(layer):
            continue
        holder = holder_of(layer)
        variables = holder.find(plain_weights(layer)) or []
        scales = holder.scales()
        for (_, chain), variable, scale in zip(holder.chains(), variables, scales, strict=True):
            weight, folded = ops.copy(variable.value), False
            for link in chain:
                if link.folded and scale is not None and not folded:
                    weight = weight * spread(factors(scale[0]), weight.shape, scale[1])
                    folded = True
                if isinstance(link, Grid):
                    found = to_numpy(link.scale_of(weight))
                    yield _Weight(layer, path, variable, link, found)
                weight = link.transform(weight, training=False)


def _new_weight(weight: _Weight, twins: Mapping[int, keras.layers.Layer]) -> keras.Variable:
    place = [id(v) for v in plain_weights(weight.layer)].index(id(weight.variable))
    return twins[id(weight.layer)].weights[place]


def _enlarged(weight: _Weight, baked: np.ndarray) -> float:
    """The power of two by which `strip` has enlarged a folded kernel."""
    if not weight.grid.folded:
        return 1.0
    whole = baked / np.broadcast_to(weight.scale, baked.shape)
    largest = float(np.abs(whole).max(initial=0.0))
    end = core.limit(weight.grid.bits)
    return 1.0 if largest <= end * 1.001 else 2.0 ** np.ceil(np.log2(largest / end) - 1e-3)


def _taps(model: keras.Model) -> Iterator[tuple[Place, keras.layers.Layer, Range]]:
    for number, (path, outer) in enumerate(outermost_layers(model)):
        if not is_parametrized(outer):
            continue
        inside = [layer for _, layer in layers_inside(outer, path)]
        for site, tap in holder_of(outer).taps():
            if isinstance(tap, Range):
                layer = inside[site["inner"]]
                yield Place(number, **site), layer, tap


def _bake_biases(
    weights: list[_Weight],
    taps: list[tuple[Place, keras.layers.Layer, Range]],
    twins: Mapping[int, keras.layers.Layer],
) -> dict[tuple[str, str], np.ndarray]:
    stored: dict[tuple[str, str], np.ndarray] = {}
    inputs = {}
    for _, _, tap in taps:
        if tap.key and tap.bits is not None:
            low, high = (ops.convert_to_tensor(end, "float32") for end in tap.ends())
            inputs[tap.key] = core.parameters(low, high, tap.bits)[0]
    by_key = {weight.grid.key: weight for weight in weights if weight.grid.key}
    before = {tap.tells: twins[id(layer)] for _, layer, tap in taps if tap.tells}
    for _, layer, tap in taps:
        product = tap.product
        if not product or product["input"] not in inputs or product["weight"] not in by_key:
            continue
        weight, new = by_key[product["weight"]], twins[id(layer)]
        made = bias_of(new, product)
        scale = stored_scale(made, ops.convert_to_tensor(weight.scale), product, weight.grid.folded)
        stored[weight.path, weight.variable.path] = to_numpy(scale)
        step = scale * inputs[product["input"]]
        earlier = before.get(product["weight"] + ":bias")
        bias = None if earlier is None else ops.cast(earlier.bias, "float32")
        moved = moved_bias(made, step, bias, product.get("added", 0.0))
        target = getattr(new, "beta" if product["norm"] else "bias", None)
        if target is None:
            continue
        if (row := product.get("row")) is not None:
            whole = np.zeros(target.shape, np.float32)
            whole[row] = to_numpy(moved)
            moved = ops.convert_to_tensor(whole)
        target.assign(ops.cast(target, "float32") + moved)
    return stored
