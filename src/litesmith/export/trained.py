"""Export of a model that was trained quantized: its ranges and its grids, exactly.

litert-quantizer takes ranges as a plain dictionary. An activation's is the one that training ended
with; a weight's is put so that its scale is the trained one, which gives the trained integers,
also behind a BatchNorm that was folded in. The integers in the file are compared afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litesmith.errors import ExportError, PresetError
from litesmith.export import codebooks, edit, flatbuffer, kernels, placement, post_training
from litesmith.export.presets import Rule, Rules

# What a preset may be, by the bits of the activations that were trained.
_FITTING: dict[int | None, tuple[str, ...]] = {
    8: ("int8", "int8_float_io", "float32"),
    16: ("int16x8", "float32"),
    None: ("weight_int8", "weight_int4", "dynamic_int8", "dynamic_int4", "float32", "float16"),
}
# Presets of four bits, and what layers get that were trained with more.
_EIGHT = {"weight_int4": "weight_int8", "dynamic_int4": "dynamic_int8"}


@dataclass(frozen=True, eq=False)
class Grid:
    """A weight tensor's grid.

    Attributes:
        bits: that were trained.
        stored: bits in the file.
        scales: of its channels; one for all.
        integers: what the file has to hold, int8, of the tensor's shape.
        axis: of the channels.
    """

    bits: int
    stored: int
    scales: np.ndarray = field(repr=False)
    integers: np.ndarray = field(repr=False)
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """What a conversion's tensors were trained to be.

    Attributes:
        activations: bits, or None where they stay float.
        bits: by weight tensor, those the file stores; None leaves the operator in float.
        ranges: by activation tensor.
        grids: by weight tensor.
        places: by activation tensor, where it comes by in the Keras model.
        unmapped: activation tensors whose range nobody trained: they stay float.
        loose: weight tensors whose grid could not be told.
        calibrated: whether there are ranges at all.
    """

    activations: int | None
    bits: Mapping[str, int | None]
    ranges: Mapping[str, tuple[float, float]]
    grids: Mapping[str, Grid]
    places: Mapping[str, Any]
    unmapped: frozenset[str]
    loose: tuple[str, ...]
    calibrated: bool = True

    def check(self, rules: Rules) -> None:
        """Refuse what contradicts the training.

        Raises:
            PresetError: another preset than was trained for, or no ranges yet.
        """
        bits = [grid.bits for grid in self.grids.values()]
        check_fits(self.activations, rules, min(bits, default=None))
        if not self.calibrated and rules.needs_calibration:
            raise PresetError(
                f"quantize={rules.default!r}",
                expected="a model that was trained, or calibrated, after it was prepared",
                received="one that has seen no data yet, so that its ranges are unknown",
                fix="call fit first, or prepare(…, calibration=some inputs)",
            )


def check_fits(activations: int | None, rules: Rules, weights: int | None = None) -> None:
    """Refuse a preset that contradicts how a model is trained.

    Args:
        activations: the bits it is trained with; None where they stay float.
        rules: what it is to be exported as.
        weights: the fewest bits that weights are trained with; None where that is not known.

    Raises:
        PresetError: it contradicts.
    """
    fitting = _FITTING[activations]
    if rules.rules or rules.default not in fitting:
        what = f"{activations}-bit" if activations else "float"
        raise PresetError(
            f"quantize={rules.default!r}",
            expected=" or ".join(map(repr, fitting))
            + f" for a model trained with {what} activations",
            received="rules" if rules.rules else rules.default,
            fix="train without Quantize to choose freely",
        )
    if weights is not None and weights > 4 and rules.default in _EIGHT:
        raise PresetError(
            f"quantize={rules.default!r}",
            expected=f"{_EIGHT[rules.default]!r} for a model trained with {weights}-bit weights",
            received=rules.default,
            fix="train with Quantize(weights=4, activations=None) for four bits",
        )


def trained(model: Any, float_model: Any, grids: Any) -> Trained:
    """Find what was trained in a conversion's tensors.

    Args:
        model: the stripped Keras model.
        float_model: its conversion.
        grids: what `strip` collected (`quantization.carrying.Grids`).
    """
    from litesmith.parametrize import bare_operations, copy_model, find_kernels
    from litesmith.quantization.mapping import map_tensors
    from litesmith.quantization.wiring import stored_bits

    read = flatbuffer.read(float_model.content)
    values = {
        (kernel.path, kernel.variable.path): np.asarray(kernel.value(), np.float32)
        for kernel in find_kernels(model)
    }
    operators = {
        read.subgraphs[0].tensors[operator.inputs[1]].name: operator.name
        for operator in read.subgraphs[0].operators
        if len(operator.inputs) > 1 and operator.inputs[1] >= 0
    }
    bits: dict[str, int | None] = {}
    alone = placement.parts(float_model.content) if grids.activations is not None else ()
    for kernel in float_model.kernels:
        had = grids.kernels.get((kernel.layer, kernel.variable))
        operator = operators.get(kernel.tensor, "")
        if had is None and kernel.tensor in alone:
            continue  # the range of the result decides
        bits[kernel.tensor] = None if had is None else stored_bits(had[0], operator)
    ranges: dict[str, tuple[float, float]] = {}
    places: dict[str, Any] = {}
    unmapped: frozenset[str] = frozenset()
    if grids.activations is not None:
        # Ranges are known by places in a model whose graph's operations are layers.
        followed = copy_model(model, operators=True) if bare_operations(model) else model
        found = map_tensors(followed, float_model, bits, grids.activations, grids.ranges)
        for name, each in found.placement.activations.items():
            for place in found.places.get(name, ()):
                if each.source == name and str(place) in grids.ranges:
                    ranges.setdefault(name, grids.ranges[str(place)])
        for name in found.placement.activations:
            # A concatenation in another one is made in that one's scale, and what it takes too.
            root = found.placement.root(name)
            if root is not None and root.tensor in ranges:
                ranges.setdefault(name, ranges[root.tensor])
        places = {
            n: each[0]
            for n, each in found.places.items()
            if each[0].kind != "in" and n not in found.elsewhere
        }
        unmapped = found.unmapped
    laid: dict[str, Grid] = {}
    loose = []
    tensors = {tensor.name: tensor for graph in read.subgraphs for tensor in graph.tensors}
    for kernel in float_model.kernels:
        had = grids.kernels.get((kernel.layer, kernel.variable))
        stored = bits.get(kernel.tensor)
        if had is None or stored is None:
            continue
        value, data = values[kernel.layer, kernel.variable], tensors[kernel.tensor].data
        axis = codebooks.CHANNELS.get(operators.get(kernel.tensor, ""))
        scales = None
        if axis is not None and data is not None and data.size == value.size:
            scales = kernels.channel_scales(value, had[1], data, axis)
        exact = grids.stored.get((kernel.layer, kernel.variable))
        if scales is not None and exact is not None and exact.size == scales.size:
            scales = np.where(np.isclose(exact, scales, rtol=1e-5), exact, scales)
        if scales is None or data is None or axis is None:
            loose.append(kernel.tensor)
            continue
        form = [1] * data.ndim
        form[axis] = -1
        whole = np.round(data / scales.reshape(form))
        laid[kernel.tensor] = Grid(had[0], stored, scales, whole.astype(np.int8), axis)
    return Trained(
        grids.activations, bits, ranges, laid, places, unmapped, tuple(loose), grids.calibrated
    )


def derive(
    float_model: Any,
    known: Trained,
    rules: Rules,
    *,
    io_dtype: str = "int8",
) -> bytes:
    """The `.tflite` that training simulated.

    Args:
        float_model: the conversion.
        known: what was trained.
        rules: a preset that fits it.
        io_dtype: ``"int8"`` or ``"uint8"``, of the inputs and outputs of ``"int8"``.

    Raises:
        ExportError: the quantizer cannot take the model, or the file holds other integers than
            were trained.
    """
    if rules.default in ("float32", "float16"):
        return post_training.quantize(float_model, rules)
    read = flatbuffer.read(float_model.content)
    ranges: dict[str, dict[str, np.ndarray]] = {}
    if known.activations is None:
        with post_training.quiet():
            manager = post_training.recipe_for(
                float_model, read, _with_wide_layers(float_model, read, known, rules)
            )
        four = rules.default.endswith("int4")
        stored = {name: grid.stored if four else 8 for name, grid in known.grids.items()}
    else:
        with post_training.quiet():
            io = rules.default == "int8"
            manager = placement.manager(
                read, known.bits, known.activations, unknown=known.unmapped, io=io
            )
        ranges = _activation_ranges(read, known)
        stored = {name: grid.stored for name, grid in known.grids.items()}
    for name, grid in known.grids.items():
        end = float(2 ** (stored[name] - 1) - 1)
        form = [1] * grid.integers.ndim
        form[grid.axis] = -1
        # In float64 no scale is off by a bit.
        span = (grid.scales.astype(np.float64) * end).reshape(form)
        ranges[name] = {"min": -span, "max": span}
    content = post_training.run(float_model, manager, ranges, rules)
    content = edit.integer_zeros(content) if known.activations == 8 else content
    _compare(content, known, rules)
    return edit.unsigned_edges(content) if io_dtype == "uint8" else content


def _with_wide_layers(
    float_model: Any, read: flatbuffer.Flatbuffer, known: Trained, rules: Rules
) -> Rules:
    """A preset of four bits, with eight for the layers that were trained with more than four."""
    if rules.default not in _EIGHT:
        return rules
    fitting = {
        operator.inputs[1]
        for operator in read.subgraphs[0].operators
        if operator.name in ("CONV_2D", "FULLY_CONNECTED")
    }
    names = {read.subgraphs[0].tensors[index].name for index in fitting}
    wide = {name for name, grid in known.grids.items() if name in names and grid.stored == 8}
    layers = dict.fromkeys(each.layer for each in float_model.kernels if each.tensor in wide)
    preset = _EIGHT[rules.default]
    return Rules(
        tuple(Rule(where=re.escape(layer), preset=preset) for layer in layers), rules.default
    )


def _activation_ranges(
    read: flatbuffer.Flatbuffer, known: Trained
) -> dict[str, dict[str, np.ndarray]]:
    """A range for every tensor: the quantizer wants one also where it uses another's."""
    from litesmith.quantization.core import ends_of_grid

    found = {}
    for tensor in read.subgraphs[0].tensors:
        if tensor.constant or tensor.type != "FLOAT32":
            continue
        low, high = known.ranges.get(tensor.name, (-1.0, 1.0))
        low, high = ends_of_grid(low, high, known.activations or 8)
        form = (1,) * len(tensor.shape)
        found[tensor.name] = {"min": np.full(form, low), "max": np.full(form, high)}
    return found | post_training.table_ranges(read)


def _compare(content: bytes, known: Trained, rules: Rules) -> None:
    """Whether the file holds the integers that were trained."""
    tensors = {
        tensor.name: tensor
        for graph in flatbuffer.read(content).subgraphs
        for tensor in graph.tensors
        if tensor.constant
    }
    for name, grid in known.grids.items():
        tensor = tensors.get(name)
        if tensor is None or not tensor.type.startswith("INT"):
            continue
        data = tensor.data
        if data is None or not np.array_equal(data, grid.integers):
            off = "none" if data is None else int((data != grid.integers).sum())
            raise ExportError(
                f"quantize={rules.default!r}: tensor {name!r} was trained on a grid, "
                f"and {off} of its {grid.integers.size} integers are others in the file",
                fix="report this with the model's architecture",
            )
