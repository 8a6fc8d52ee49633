"""Where the tensors of a float `.tflite` are in the Keras model it was converted from.

litert-quantizer tells which tensors it would quantize, and whose range each has
(`export.placement`). A tensor is found in Keras by its values: the model and the file are run on
the same inputs, and the first place where the same numbers come by is the tensor's. What fuses into
what need not be known: a tensor inside a fused operator is not there, so nothing is found for it.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from litesmith.errors import ChildError, ExportError
from litesmith.parametrize import (
    Event,
    Place,
    inner_layers,
    is_cell,
    is_norm,
    outermost_layers,
    record,
)
from litesmith.quantization.matching import behind_activations, closest, is_close, order_of
from litesmith.quantization.summing import sign_of
from litesmith.quantization.twins import find_twins

_BATCH = 2

# Operators without weights that make integers of another scale than those they take.
_MADE = ("ADD", "SUB", "MUL")


@dataclasses.dataclass(frozen=True)
class Map:
    """Where the tensors of a float `.tflite` are in a Keras model.

    Attributes:
        placement: what the quantizer would do (`export.placement.Placement`).
        places: by tensor, the places where it comes by: one, or all layers that take it.
        unmapped: tensors with a range of their own that were not found: they stay float, and so
            does what computes with them.
        order: of all places of the model, when something first comes by.
        takers: the places of layers that take it, for each tensor that is requantized, and for what
            is multiplied or added in the scale of a tensor further on.
        sums: by the tensor that a sum gives, the layer that adds (its whole call) and the tensors
            it takes, in its order; of a BatchNorm or a Rescaling in two steps the product alone.
        twins: by place, those where its tensor comes by once more (`twins.find_twins`).
        elsewhere: tensors that Keras knows in another order only, or once for all steps of a
            recurrent cell: they have ranges, but cannot be compared one to one.
    """

    placement: Any
    places: Mapping[str, tuple[Place, ...]]
    unmapped: frozenset[str]
    order: Mapping[Place, int]
    takers: Mapping[str, tuple[Place, ...]]
    sums: Mapping[str, tuple[Place, tuple[str, ...]]]
    twins: Mapping[Place, tuple[Place, ...]]
    elsewhere: frozenset[str] = frozenset()


def map_tensors(
    model: keras.Model,
    float_model: Any,
    bits: Mapping[str, int | None],
    activations: int,
    ranged: Container[str] | None = None,
) -> Map:
    """Find the tensors that would be quantized in the Keras model.

    Args:
        model: the model.
        float_model: its conversion (`export.FloatModel`).
        bits: by weight tensor, as the file stores them; None leaves the operator in float.
        activations: 8 or 16.
        ranged: places that have ranges (`str(Place)`), where that has been decided.

    Raises:
        ExportError: the quantizer cannot take the model.
    """
    from litesmith.export import placement
    from litesmith.export.layers import as_float32

    asked = placement.place(float_model.content, bits, activations)
    arrays = _inputs(float_model)
    with as_float32(model):
        events = record(model, structured(model, arrays))
    values = _values(float_model, list(asked.activations), arrays)
    missing: frozenset[str] = frozenset()
    layers = {
        (outer, inner): each
        for outer, (path, layer) in enumerate(outermost_layers(model))
        for inner, (_, each) in enumerate(inner_layers(layer, path))
    }
    cells = {at for at, layer in layers.items() if is_cell(layer)}
    acting = {at for at, layer in layers.items() if _acts(layer)}
    adding = {at for at, layer in layers.items() if is_norm(layer) or _is_dense(layer)}
    products = [each for several in asked.products.values() for each in several]
    biased = {each.output for each in products if each.bias}
    # First as when the model was prepared, then what has no range for another reason.
    for allowed in (None, ranged):
        while True:
            places = _match(asked, values, events, cells, acting, adding, biased, allowed)
            turned = _turned(asked, places)
            places.update(turned)
            places.update(_stacked(asked, places, float_model, cells))
            lost = frozenset(
                name
                for name, each in asked.activations.items()
                if each.source == name and not _has_range(places.get(name, ()), allowed)
            )
            if lost <= missing:
                break
            # What stays float may leave others float: ask again.
            missing |= lost
            asked = placement.place(float_model.content, bits, activations, missing)
    order: dict[Place, int] = {}
    for number, event in enumerate(events):
        order.setdefault(event.place, number)
    made = [each.output for each in products] + [
        name for name, each in asked.activations.items() if each.operator in _MADE
    ]
    taken_over = [name for name in made if asked.takes_over(name) and name in values]
    takers = {
        name: tuple(
            event.place
            for event in events
            if event.place.kind == "in"
            and event.value.size == values[name].size
            and is_close(np.ravel(values[name]), event.value)
        )
        for name in dict.fromkeys([name for name, _ in asked.requantized] + taken_over)
        if name in values
    }
    repeated = {name for name, at in places.items() if at[0].at in cells}
    sums = _sums(float_model, values, places, events, layers)
    known = [place for several in places.values() for place in several]
    twins = find_twins(known, events, layers)
    return Map(asked, places, missing, order, takers, sums, twins, frozenset(turned) | repeated)


def _has_range(places: tuple[Place, ...], ranged: Container[str] | None) -> bool:
    return any(ranged is None or str(place) in ranged for place in places)


def _inputs(float_model: Any) -> list[np.ndarray]:
    """Noise for each input; token ids are 0 or 1."""
    random = np.random.default_rng(3)
    arrays = []
    for spec in float_model.inputs:
        fixed = spec.shape[:1] == (1,)
        shape = [32 if size < 0 else size for size in spec.shape]
        if shape:
            shape[0] = 1 if fixed else _BATCH
        kind = np.dtype(spec.dtype)
        if kind.kind == "f":
            arrays.append(random.uniform(-1.0, 1.0, shape).astype(kind))
        else:
            arrays.append(random.integers(0, 2, shape).astype(kind))
    return arrays


def structured(model: keras.Model, arrays: list[np.ndarray]) -> Any:
    """A model's inputs as it takes them, from one array each in the file's order."""
    from litesmith.export.interface import Interface

    return keras.tree.pack_sequence_as(Interface.of(model).structure, arrays)


def _values(float_model: Any, names: list[str], arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    from litesmith.children import kept

    content = np.frombuffer(float_model.content, np.uint8)
    with kept("litesmith.export.litert_child", timeout=300) as child:
        try:
            fields, found = child.call("values", [content, *arrays], names=names)
        except ChildError as error:
            raise ExportError(f"LiteRT cannot run the float model: {error}") from error
    return dict(zip(fields["names"], found, strict=True))


def _match(
    asked: Any,
    values: Mapping[str, np.ndarray],
    events: Sequence[Event],
    cells: Container[tuple[int, int]],
    acting: Container[tuple[int, int]],
    adding: Container[tuple[int, int]],
    biased: Container[str],
    ranged: Container[str] | None,
) -> dict[str, tuple[Place, ...]]:
    """The places of each tensor: the first layer that gives it, or else all that take it.

    Args:
        asked: what the quantizer would do.
        values: by tensor.
        events: of the Keras model.
        cells: recurrent cells.
        acting: layers that end with an activation.
        adding: layers that add a bias to a product.
        biased: tensors that an operator with a kernel and a bias gives.
        ranged: places that have ranges, where that has been decided.
    """
    by_size: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        by_size[event.value.size].append(event)
    found: dict[str, tuple[Place, ...]] = {}
    used: set[Place] = set()
    spent: set[int] = set()
    for name in asked.activations:
        if name not in values or values[name].dtype.kind != "f":
            continue
        value = np.ravel(values[name])
        known = by_size[value.size]
        if name in biased:  # what lies before a bias is not what is there
            known = [e for e in known if e.place.kind != "mid" or e.place.at not in adding]
        close = closest(value, known)
        if not close and ranged is not None:
            close = closest(value, [each for each in known if str(each.place) in ranged])
        taken = tuple(dict.fromkeys(e.place for e in close if e.place.kind == "in"))
        close = [event for event in close if event.place.kind != "in"]
        given = [event.place for event in close]
        if asked.activations[name].operator == "INPUT" or not given:
            # What a layer takes is rounded for the layers inside it, too.
            whole = {place.outer for place in taken if place.inner == 0}
            taken = tuple(p for p in taken if p.inner == 0 or p.outer not in whole)
            if taken:
                found[name] = taken
            continue
        if given[0].at in cells:  # of every step
            # The first step's states are zeros: its sums have the values of what they are made of.
            event = next((each for each in close if id(each) not in spent), close[0])
            spent.add(id(event))
            found[name] = (event.place,)
            continue
        if len(given) > 1:
            alike = [other for other in values.values() if other.size == value.size]
            count = sum(is_close(np.ravel(other), value) for other in alike)
            given = behind_activations(given, len(given) - count, acting)
        if ranged is not None and asked.activations[name].source == name:
            # Places of equal numbers (a bias of zeros) are told apart by what was decided before.
            given = [place for place in given if str(place) in ranged] or given
        # Tensors of equal values (a dead layer's zeros) stand in one order here and there.
        place = next((place for place in given if place not in used), given[0])
        same = given[0] == place or _equal_values(asked, name)
        found[name] = (place if same else given[0],)
        used.add(found[name][0])
    return found


def _is_dense(layer: Any) -> bool:
    return isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))


def _acts(layer: Any) -> bool:
    """Whether a layer ends with an activation function."""
    if isinstance(layer, (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU)):
        return True
    return getattr(layer, "activation", None) not in (None, keras.activations.linear)


def _turned(asked: Any, found: Mapping[str, tuple[Place, ...]]) -> dict[str, tuple[Place, ...]]:
    """Places of tensors that Keras only knows as another operator has put them in order."""
    from litesmith.export.operators import KEEPS_VALUES

    return {
        each.source: found[name]
        for name, each in asked.activations.items()
        if name in found
        and each.operator in KEEPS_VALUES
        and each.source not in (None, name)
        and each.source not in found
    }


def _stacked(
    asked: Any,
    found: Mapping[str, tuple[Place, ...]],
    float_model: Any,
    cells: Container[tuple[int, int]],
) -> dict[str, tuple[Place, ...]]:
    """What a recurrent layer returns of all its steps has the range of its steps' states."""
    graph = float_model.view.subgraphs[0]
    stacked = {}
    for operator in graph.operators:
        if operator.name != "PACK":
            continue
        name = graph.tensors[operator.outputs[0]].name
        states = {found.get(graph.tensors[index].name, ()) for index in operator.inputs}
        each = asked.activations.get(name)
        if each is None or each.source != name or len(states) != 1:
            continue
        (places,) = states
        if places and places[0].at in cells:
            stacked[name] = places
    return stacked


def _sums(
    float_model: Any,
    values: Mapping[str, np.ndarray],
    places: Mapping[str, tuple[Place, ...]],
    events: Sequence[Event],
    layers: Mapping[tuple[int, int], Any],
) -> dict[str, tuple[Place, tuple[str, ...]]]:
    """Which layer makes each sum of the file (see `Map.sums`)."""
    adding: dict[Place, dict[int, np.ndarray]] = defaultdict(dict)
    for event in events:
        at = event.place
        if at.kind == "in" and sign_of(layers[at.at]):
            adding[Place(at.outer, at.inner, "whole", 0, at.call)][at.index] = event.value
    # The tap at the whole of a layer stands at each of its calls.
    shared = {at.at for at in adding if at.call}
    graph = float_model.view.subgraphs[0]
    found: dict[str, tuple[Place, tuple[str, ...]]] = {}
    for operator in graph.operators:
        if operator.name not in ("ADD", "SUB"):
            continue
        taken = [graph.tensors[index] for index in operator.inputs]
        names = tuple(tensor.name for tensor in taken if not tensor.constant)
        given = graph.tensors[operator.outputs[0]].name
        if len(names) == 1:
            (first, *_) = places.get(names[0], (None,))
            if first and first.kind == "mid" and is_norm(layers[first.at]):
                found[given] = (first, names)
        elif all(name in values for name in names):
            for whole, inputs in adding.items():
                if whole.at in shared:
                    continue
                order = order_of(inputs, [values[name] for name in names])
                if order is not None:
                    found[given] = (whole, tuple(names[number] for number in order))
                    break
    return found


def _equal_values(asked: Any, name: str) -> bool:
    """Whether a tensor does not just repeat the values of the one whose range it has."""
    return asked.activations[name].source in (None, name)
