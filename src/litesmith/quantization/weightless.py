"""What operators without weights compute: means, products, sums, hard swish.

Each of them rounds what it makes of whole numbers; here the ranges behind them are told of which
whole numbers that is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import Place
from litesmith.quantization.hard_swish import HardSwish
from litesmith.quantization.mapping import Map
from litesmith.quantization.summing import Sum, sign_of


@dataclasses.dataclass(frozen=True)
class Weightless:
    """The operators without weights of one graph.

    Attributes:
        float_model: the conversion (`export.FloatModel`).
        map: where its tensors are in Keras.
        taps: settings of the ranges, by place (a `defaultdict`); they are added to.
        layers: by the numbers of the outermost and of the inner one.
        key_of: gives the key under which the range of a tensor is told.
    """

    float_model: Any
    map: Map
    taps: Mapping[Place, dict[str, Any]]
    layers: Mapping[tuple[int, int], keras.layers.Layer]
    key_of: Callable[[str], str]

    def _operators(self, kind: str) -> Iterator[tuple[int, list[Any], str, list[Place]]]:
        """Number, tensors taken, name of the tensor given, and where that one is rounded."""
        graph = self.float_model.view.subgraphs[0]
        for number, operator in enumerate(graph.operators):
            if operator.name == kind:
                name = graph.tensors[operator.outputs[0]].name
                taken = [graph.tensors[index] for index in operator.inputs]
                yield number, taken, name, self._rounded(name)

    def _rounded(self, name: str) -> list[Place]:
        places = self.map.places.get(name, ())
        return [each for each in places if "bits" in self.taps.get(each, {})]

    def taking(self, name: str) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Where a concatenation takes what is made in its scale, and that scale as settings.

        When the tensor is made, that scale has not been told; and it is rounded once.
        """
        root = self.map.placement.root(name)
        for given in self.map.places.get(root.tensor, ()) if root is not None else ():
            if given.kind != "out" or "key" not in self.taps.get(given, {}):
                continue
            for place in self.map.takers.get(name, ()):
                same = place.at == given.at and place.call == given.call
                if same and not self.taps.get(place):
                    own = self.taps[given]
                    yield place, {"bits": own["bits"], "source": own["key"]}

    def _root_key(self, tensor: str) -> str | None:
        root = self.map.placement.root(tensor)
        return None if root is None else self.key_of(root.tensor)

    def average(self) -> None:
        """Where a mean over the two axes of an image has a scale of its own."""
        for _, (taken, axes, *_), name, places in self._operators("MEAN"):
            over = [] if axes.data is None else sorted(np.ravel(axes.data).tolist())
            count = math.prod(taken.shape[1:3]) if len(taken.shape) == 4 and over == [1, 2] else 0
            key = self._root_key(taken.name)
            if name not in self.map.placement.activations or key is None or count < 1:
                continue
            for place in places:
                if place.kind == "out":
                    self.taps[place].update(averaged={"input": key, "count": count})

    def multiply(self) -> None:
        """Where two tensors are multiplied, or a BatchNorm in two steps multiplies one."""
        for _, taken, name, places in self._operators("MUL"):
            keys = [self._root_key(tensor.name) for tensor in taken if not tensor.constant]
            for place in places:
                settings = self.taps[place]
                if settings.get("norm") and "key" in settings and len(keys) == 1 and keys[0]:
                    settings.update(multiplied=(keys[0], f"{settings['key']}:factor"))
            if len(keys) == 2 and None not in keys:
                for place in places:
                    if place.kind != "in":
                        self.taps[place].update(multiplied=keys)
                if self.map.placement.takes_over(name):
                    for place, settings in self.taking(name):
                        self.taps[place].update(multiplied=keys, **settings)

    def hard_swishes(self) -> Iterator[tuple[Place, HardSwish]]:
        """Layers that are nothing but hard swish, which LiteRT computes in its own way."""
        for number, (taken, *_), _, places in self._operators("HARD_SWISH"):
            key = self._root_key(taken.name)
            for place in places:
                layer = self.layers[place.at]
                whole = isinstance(layer, keras.layers.Activation) and place.kind == "out"
                if whole and key is not None and "key" in self.taps[place]:
                    keys = {"given": key, "wanted": self.taps[place]["key"]}
                    at = Place(place.outer, place.inner, "whole")
                    yield at, HardSwish(name=f"hard_swish_{number}", shape=(), **keys)

    def sums(self) -> Iterator[tuple[Place, Sum]]:
        """Layers that add two tensors: what they add is told to the range of the sum."""
        again = {name for name, _ in self.map.placement.requantized}
        for number, (name, (at, names)) in enumerate(self.map.sums.items()):
            wanted = self._rounded(name)
            keys = [key for each in names if (key := self._root_key(each)) is not None]
            if not wanted or len(keys) < len(names) or again & set(names):
                continue
            if len(names) == 1:  # of a BatchNorm in two steps, which tells by itself
                if "key" not in self.taps.get(at, {}):
                    continue
                key = f"{self.taps[at]['key']}:sum"
            else:
                key = f"{self.key_of(name)}:sum"
                sign = sign_of(self.layers[at.at])
                one, other = keys
                tap = f"sum_{number}"
                yield at, Sum(name=tap, shape=(), key=key, one=one, other=other, sign=sign)
            for place in wanted:
                self.taps[place].update(summed=key)
            if self.map.placement.takes_over(name):
                for place, settings in self.taking(name):
                    self.taps[place].update(summed=key, **settings)
