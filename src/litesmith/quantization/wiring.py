"""Where to round what: taps for a model, planned from the graph that LiteRT will have.

`mapping` finds the places; here each gets its settings: whose range it has, which bias is added
there, what the result of an operator with a kernel is rounded by.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from litesmith.errors import ExportError, RecipeError
from litesmith.parametrize import (
    Kernel,
    Place,
    copy_model,
    find_kernels,
    is_cell,
    is_norm,
    is_operator,
    outermost_layers,
)
from litesmith.parametrize import inner_layers as layers_inside
from litesmith.quantization.freezing import frozen_norms
from litesmith.quantization.mapping import map_tensors
from litesmith.quantization.products import added_to, gain_of, is_first_step, row_of_bias
from litesmith.quantization.ranges import Range
from litesmith.quantization.weightless import Weightless
from litesmith.technique import Plan, Technique, Wiring

to_numpy = keras.ops.convert_to_numpy

# Under this a bias is too small to tell what it was added to from the sum.
_SMALL = 0.02


def stored_bits(weights: int, operator: str = "CONV_2D") -> int:
    """Bits in which a file stores weights of so many: the next ones LiteRT has for static kernels.

    Args:
        weights: bits that were trained.
        operator: name of the operator.
    """
    return 4 if weights <= 4 and operator in ("CONV_2D", "FULLY_CONNECTED") else 8


def wire(model: keras.Model, taken: Sequence[tuple[Technique, Mapping[int, Plan]]]) -> Wiring:
    """Plan the taps of a model, and give its kernels the keys that the taps ask for.

    Args:
        model: a plain copy of the model.
        taken: each `Quantize` of the recipe, and its plans by the kernel's place.

    Raises:
        RecipeError: the techniques disagree about the activations.
    """
    kinds = {technique.activations for technique, _ in taken}  # type: ignore[attr-defined]
    if len(kinds) > 1:
        shown = ", ".join(str(kind) for kind in sorted(kinds, key=str))
        raise RecipeError(
            "quantize: activations",
            expected="the same bits in all rules of a recipe",
            received=shown,
            fix="leave layers float by `where`, and give all rules the same activations",
        )
    plans = [dict(each) for _, each in taken]
    activations = kinds.pop()
    found = _activations(model, taken, plans, activations) if activations else Wiring(plans)
    freeze = taken[0][0].freeze_batch_norm  # type: ignore[attr-defined]
    for outer, site, tap in frozen_norms(model, freeze) if freeze is not None else ():
        found.taps.setdefault(outer, []).append((site, tap))
    return found


def _activations(
    model: keras.Model,
    taken: Sequence[tuple[Technique, Mapping[int, Plan]]],
    plans: list[dict[int, Plan]],
    activations: int,
) -> Wiring:
    """The taps that round activations."""
    from litesmith.export import convert

    try:
        with _distinct_values(model):
            # Operations of the graph are layers here, as the converter need not know them.
            plain = copy_model(model) if any(map(is_operator, model.layers)) else model
            float_model = convert(plain)
            return _Wirer(model, float_model, taken, plans, activations).wiring()
    except ExportError as error:
        note = f"quantize: activations stay float, LiteRT cannot take the model: {error}"
        return Wiring(plans, notes=(note,), incomplete=True)


@contextlib.contextmanager
def _distinct_values(model: keras.Model) -> Iterator[None]:
    """Within the body vectors of equal values (zeros, ones), and biases near zero, have others.

    What an untrained BatchNorm gives is what it takes, and a bias of zeros is not in the file. One
    that was trained a little gives nearly its product: the two could not be told apart.
    """
    random = np.random.default_rng(5)
    before = []
    for weight in model.weights:
        value = to_numpy(weight.value)
        if not value.ndim or value.dtype.kind != "f" or not value.size:
            continue
        added = value.ndim == 1 and weight.name in ("beta", "bias")
        if np.ptp(value) == 0 or (added and np.abs(value).max() < _SMALL):
            before.append((weight, value.copy()))
            moved = value + random.uniform(0.05, 0.3, value.shape) * (1.0 + np.abs(value))
            weight.assign(moved.astype(value.dtype))
    try:
        yield
    finally:
        for weight, value in before:
            weight.assign(value)


class _Wirer:
    def __init__(
        self,
        model: keras.Model,
        float_model: Any,
        taken: Sequence[tuple[Technique, Mapping[int, Plan]]],
        plans: list[dict[int, Plan]],
        activations: int,
    ):
        self.model, self.float_model, self.plans = model, float_model, plans
        self.activations = activations
        self.techniques: list[Any] = [technique for technique, _ in taken]
        self.kernels = find_kernels(model)
        self.place_of = {(k.path, k.variable.path): n for n, k in enumerate(self.kernels)}
        self.prefix, self.names = uuid.uuid4().hex[:8], dict[str, str]()
        self.numbers: dict[int, tuple[int, int]] = {}
        self.layers: dict[tuple[int, int], keras.layers.Layer] = {}
        for outer_number, (path, outer) in enumerate(outermost_layers(model)):
            for inner_number, (_, inner) in enumerate(layers_inside(outer, path)):
                self.numbers.setdefault(id(inner), (outer_number, inner_number))
                self.layers[outer_number, inner_number] = inner
        self.taps: dict[Place, dict[str, Any]] = defaultdict(dict)
        self.notes: list[str] = []

    def wiring(self) -> Wiring:
        first = self.techniques[0]
        self.map = map_tensors(self.model, self.float_model, self._bits(), self.activations)
        self.weightless = Weightless(
            self.float_model, self.map, self.taps, self.layers, self._root_key
        )
        asked = self.map.placement
        for name, each in asked.activations.items():
            for place in self.map.places.get(name, ()):
                self._round(place, name, each)
        for name, output in asked.requantized:
            self._requantize(name, output)
        for kernel in self.float_model.kernels:
            self._fold(kernel)
            if kernel.tensor in asked.products:
                self._product(kernel, asked.products[kernel.tensor])
        others = self._weightless_operators()
        self._round_again()
        taps: dict[int, list[tuple[dict[str, Any], Any]]] = defaultdict(list)
        for number, (place, settings) in enumerate(sorted(self.taps.items())):
            tap = Range(
                name=f"range_{number}_{place.kind}",
                shape=(),
                freeze=first.freeze,
                momentum=first.momentum,
                learned=first.ranges == "learned",
                **settings,
            )
            taps[place.outer].append((place.site, tap))
        for place, other in others:
            taps[place.outer].append((place.site, other))
        if self.map.unmapped:
            self.notes.append(
                f"quantize: {len(self.map.unmapped)} tensors stay float, because they are inside "
                f"layers, where ranges cannot follow them, such as {min(self.map.unmapped)!r}"
            )
        return Wiring(self.plans, dict(taps), tuple(self.notes), bool(self.map.unmapped))

    def _bits(self) -> dict[str, int | None]:
        """Bits of each weight tensor as the file will store it; None where it stays float."""
        from litesmith.export.placement import parts

        found: dict[str, int | None] = {}
        alone = parts(self.float_model.content)
        for kernel in self.float_model.kernels:
            technique, _ = self._decided(kernel.layer, kernel.variable)
            place = self.place_of.get((kernel.layer, kernel.variable))
            if technique is None and kernel.tensor in alone and place is not None:
                if any(t.where is None or t.selects(self.kernels[place]) for t in self.techniques):
                    continue
            found[kernel.tensor] = None if technique is None else stored_bits(technique.weights)
        return found

    def _decided(self, layer: str, variable: str) -> tuple[Any, int]:
        place = self.place_of.get((layer, variable), -1)
        for number, plans in enumerate(self.plans):
            if place in plans:
                return self.techniques[number], number
        return None, -1

    def _key(self, tensor: str) -> str:
        return self.names.setdefault(tensor, f"{self.prefix}:{len(self.names)}")

    def _round(self, place: Place, name: str, each: Any) -> None:
        from litesmith.export.operators import KEEPS_VALUES

        settings = self.taps[place]
        if place.kind == "mid" and is_norm(self.layers[place.at]):
            settings.update(norm=True)
        if each.source is None and self._is_table(place, each):
            settings.update(bits=each.bits, table=True, key=self._key(name))
        elif each.source is None:
            settings.update(bits=each.bits, low=each.low, high=each.high, key=self._key(name))
        elif each.source == name:
            settings.setdefault("key", self._key(name))
            settings.pop("source", None)
            settings.update(bits=each.bits)
            # A place where two tensors come by has one range: the file gets it twice.
        elif "bits" not in settings:
            root = self.map.placement.root(name)
            if each.operator in KEEPS_VALUES or root is None or root.tensor == name:
                if not settings:
                    del self.taps[place]
                return
            settings.update(bits=each.bits, source=self._root_key(root.tensor))
            if each.operator == "AVERAGE_POOL_2D":
                settings.update(mean=True)

    def _is_table(self, place: Place, each: Any) -> bool:
        """Whether a tensor is looked up in a table, and has the range of that one."""
        embedding = isinstance(self.layers[place.at], keras.layers.Embedding)
        return embedding and place.kind == "out" and each.operator == "GATHER"

    def _round_again(self) -> None:
        """Where a tensor comes by once more, it has the range it had."""
        for place, twins in self.map.twins.items():
            settings = self.taps.get(place, {})
            source = settings.get("source") or settings.get("key")
            if "bits" not in settings or not source:
                continue
            own = ("key", "low", "high", "product", "tells", "table")
            kept = {name: value for name, value in settings.items() if name not in own}
            for twin in twins:
                if not self.taps.get(twin):
                    self.taps[twin] = {**kept, "source": source}

    def _weightless_operators(self) -> list[tuple[Place, Any]]:
        """What operators without weights compute, and taps at whole layers."""
        self.weightless.average()
        if self.activations != 8:
            return []
        self.weightless.multiply()
        return [*self.weightless.hard_swishes(), *self.weightless.sums()]

    def _requantize(self, name: str, output: str) -> None:
        """Where a layer takes a tensor in the scale of what it gives, as concatenations do."""
        root = self.map.placement.root(name)
        for given in self.map.places.get(output, ()):
            if given.kind != "out" or root is None or "key" not in self.taps.get(given, {}):
                continue
            for place in self.map.takers.get(name, ()):
                same = (place.outer, place.inner, place.call)
                if same == (given.outer, given.inner, given.call) and not self.taps[place]:
                    about = {"from": self._root_key(root.tensor), "to": self.taps[given]["key"]}
                    self.taps[place].update(requantized=about)

    def _root_key(self, tensor: str) -> str:
        """The key under which the range of a tensor is told."""
        for place in self.map.places.get(tensor, ()):
            if "key" in self.taps.get(place, {}):
                return self.taps[place]["key"]
        return self._key(tensor)

    def _fold(self, kernel: Any) -> None:
        """Work on a kernel as it is, where the BatchNorm before it is not folded in after all."""
        _, number = self._decided(kernel.layer, kernel.variable)
        place = self.place_of.get((kernel.layer, kernel.variable), -1)
        if number >= 0 and not kernel.folded and self.plans[number][place].settings["folded"]:
            plan = self.plans[number][place]
            settings = {**plan.settings, "folded": False}
            self.plans[number][place] = dataclasses.replace(plan, settings=settings)

    def _product(self, kernel: Any, products: Sequence[Any]) -> None:
        technique, number = self._decided(kernel.layer, kernel.variable)
        if technique is None:
            return
        place = self.place_of[kernel.layer, kernel.variable]
        plan = self.plans[number][place]
        key = self._key(kernel.tensor)
        settings = {**plan.settings, "key": key}
        if products[0].scales == 1 and math.prod(plan.kernel.shape) > 1:
            settings["channels"] = ()
        self.plans[number][place] = dataclasses.replace(plan, settings=settings)
        live = self.kernels[place]
        scale = plan.kernel.scale
        norm = None
        if scale is not None and not scale.before and kernel.folded:
            norm = self._twin(scale.layer)
        owner = live.owners[-1][1]
        gain = gain_of(self.float_model, live, norm, products[0])
        added = added_to(self.float_model, live, norm, products[0])
        told = gain is None or added is None
        for call, product in enumerate(products):
            outputs = self.map.places.get(product.output, ())
            if is_cell(owner):
                point = outputs[0] if outputs else None
                given = self._state_key(product)
            else:
                point = self._linear_point(live, norm, call)
                given = self._input_key(product, point)
                apart = not product.bias and not is_first_step(live)
                if apart and outputs and outputs[0].kind == "mid" and point is not None:
                    continue  # by an operator of its own
            if told or point is None or given is None:
                note = f"quantize: the bias behind {kernel.variable!r} is not simulated"
                self.notes += [] if note in self.notes else [note]
                continue
            about: dict[str, Any] = {"weight": key, "input": given, "norm": norm is not None}
            if not product.bias or is_first_step(live):
                about.update(bare=True)
            elif (row := row_of_bias(live)) is not None:
                about.update(row=row)
            about |= {"gain": gain} if gain != 1.0 else {}
            about |= {"added": added} if added else {}
            self.taps[point]["product"] = about
            if norm is not None and getattr(owner, "bias", None) is not None:
                output = Place(*self.numbers[id(owner)], "out", 0, call)
                self.taps[output]["tells"] = f"{key}:bias"
            twice = product.operator == "CONV_2D" and product.bits == 4
            result = {"weight": key, "twice": twice}
            for output in self.map.places.get(product.output, ()):
                if output.kind != "in" and "bits" in self.taps.get(output, {}):
                    self.taps[output]["result"] = result
            if self.map.placement.takes_over(product.output):
                for taker, shared in self.weightless.taking(product.output):
                    self.taps[taker].update(result=result, **shared)

    def _input_key(self, product: Any, point: Place | None) -> str | None:
        """The key of the range of what a kernel is multiplied with, if it is told before."""
        root, order = self.map.placement.root(product.input), self.map.order
        places = () if root is None else self.map.places.get(root.tensor, ())
        if root is None or point is None or point not in order or not places:
            return None
        if all(order[place] >= order[point] for place in places):
            return None
        return self._root_key(root.tensor)

    def _state_key(self, product: Any) -> str | None:
        """The key of what a recurrent cell's kernel is multiplied with.

        A state comes from the step before; of the first, which are zeros, nothing has been told.
        """
        root = self.map.placement.root(product.input)
        return None if root is None else self._root_key(root.tensor)

    def _twin(self, layer: keras.layers.Layer) -> keras.layers.Layer | None:
        """The layer of this model that a plan's (of the model it was copied from) stands for."""
        if id(layer) in self.numbers:
            return layer
        for _, outer in outermost_layers(self.model):
            for _, inner in layers_inside(outer, ""):
                if inner.name == layer.name and type(inner) is type(layer):
                    return inner
        return None

    def _linear_point(self, kernel: Kernel, norm: Any, call: int) -> Place | None:
        """Where all that becomes the bias has been added, and nothing else has happened."""
        layer: Any = kernel.owners[-1][1] if norm is None else norm
        if id(layer) not in self.numbers:
            return None
        if is_first_step(kernel):
            return Place(*self.numbers[id(layer)], "mid", 0, call)
        activation = getattr(layer, "activation", None)
        linear = norm is not None or activation in (None, keras.activations.linear)
        return Place(*self.numbers[id(layer)], "out" if linear else "pre", 0, call)
