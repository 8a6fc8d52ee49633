"""The outputs' side of the mechanism: what a layer takes and gives passes through functions, too.

A `Tap` stands at a site: the inputs of a layer, its outputs, or what its activation function takes.
The layer may lie inside the one that was swapped. Taps read their state before the layer's call and
store it afterwards: inside, variables are hidden by a stateless scope.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from litesmith.parametrize import decomposing, internals, stepwise
from litesmith.parametrize.parametrization import Parametrization
from litesmith.parametrize.telling import present as _pass


@dataclasses.dataclass(frozen=True, order=True)
class Place:
    """Where a tensor is found in a model.

    Attributes:
        outer: number of the layer in `outermost_layers`.
        inner: number of the layer in the `inner_layers` of that one; 0 is itself.
        kind: "in", "out"; "pre", which is what its activation function takes; or "mid", which lies
            between the steps of a layer (`decomposing`, `stepwise`); or "whole", which is the
            layer's call itself, each time.
        index: which of its inputs or outputs, flat; of the "mid" ones the number of the step, or 1
            for an activation function's and 0 for the layer's own.
        call: number of the call in one pass through the model; a shared layer has several. All
            steps of a recurrent cell count as one.
    """

    outer: int
    inner: int
    kind: str
    index: int = 0
    call: int = 0

    def __str__(self) -> str:
        return "/".join(map(str, dataclasses.astuple(self)))

    @property
    def at(self) -> tuple[int, int]:
        """The layer: the numbers of the outermost and of the inner one."""
        return self.outer, self.inner

    @property
    def site(self) -> dict[str, Any]:
        """The place as a holder keeps it, JSON-able."""
        site = dataclasses.asdict(self)
        del site["outer"]
        return site


class Tap(Parametrization):
    """What a tensor passes through at a site, with its state."""

    def begin(self, layer: keras.layers.Layer, training: bool) -> Use:
        """Read the state, outside of any scope of ours.

        Args:
            layer: the layer at the site.
            training: whether this call is a training step.
        """
        raise NotImplementedError(f"{type(self).__name__} must define begin(layer, training)")


class Use:
    """One call of the layer a tap is at."""

    def apply(self, value: Any) -> Any:
        """What the tensor becomes; called once for each time the tensor comes by."""
        return value

    def constant(self, value: Any) -> Any:
        """What becomes of a constant that the tensor is made with."""
        return value

    def run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The layer's call, where the tap stands at the whole of it."""
        return original(*args, **kwargs)

    def finish(self) -> None:
        """Store what changed, outside of any scope of ours."""


class Taps:
    """The taps of one swapped layer, during one of its calls.

    Args:
        sites: inner layer, site and the tap, for each.
        outer: the swapped layer.
        training: whether this call is a training step.
    """

    def __init__(
        self,
        sites: list[tuple[keras.layers.Layer, dict[str, Any], Tap]],
        outer: keras.layers.Layer,
        training: bool,
    ):
        self.outer = outer
        self.at: dict[tuple[int, str], list[tuple[dict[str, Any], Use]]] = {}
        self.layers = {id(layer): layer for layer, _, _ in sites}
        self.uses = []
        _count(outer)
        for layer, site, tap in sites:
            other = site["call"] != _pass.calls[id(outer)] and site["kind"] != "whole"
            if layer is outer and other:
                continue
            use = tap.begin(layer, training)
            self.at.setdefault((id(layer), site["kind"]), []).append((site, use))
            self.uses.append(use)

    def _uses(self, layer: keras.layers.Layer, kind: str) -> dict[int, list[Use]]:
        """The uses at a layer in its present call, by the number of the tensor."""
        found: dict[int, list[Use]] = {}
        for site, use in self.at.get((id(layer), kind), ()):
            if kind == "whole" or site["call"] == _pass.calls.get(id(layer), 0):
                found.setdefault(site["index"], []).append(use)
        return found

    def take(self, layer: keras.layers.Layer, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The arguments of a layer's call."""
        uses = self._uses(layer, "in")
        return _mapped((args, kwargs), uses) if uses else (args, kwargs)

    def give(self, layer: keras.layers.Layer, outputs: Any) -> Any:
        """The outputs of a layer's call."""
        if decomposing.is_norm(layer) and (between := self._uses(layer, "mid")):
            outputs = _mapped(outputs, between)
        uses = self._uses(layer, "out")
        return _mapped(outputs, uses) if uses else outputs

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Within the body the layers inside, and activation functions, are tapped."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(stepwise.cells_called(self.outer))
            for layer in self.layers.values():
                if layer is not self.outer:
                    stack.callback(_replaced(layer, "call", self._call(layer, layer.call)))
                steps = decomposing.between(getattr(layer, "activation", None))
                if (id(layer), "pre") in self.at or (steps and (id(layer), "mid") in self.at):
                    stack.callback(_replaced(layer, "activation", self._activation(layer)))
            yield

    def run(self, layer: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A layer's own call, with what lies between its steps tapped, if anything is."""
        for use in self._uses(layer, "whole").get(0, ()):
            original = functools.partial(use.run, original)
        steps = stepwise.steps_of(layer) if (id(layer), "mid") in self.at else None
        if steps is None:
            return original(*args, **kwargs)

        return steps(layer, _Between(self, layer), original, args, kwargs)

    def _between(self, layer: Any, value: Any, index: int) -> Any:
        for use in self._uses(layer, "mid").get(index, ()):
            value = use.apply(value)
        return value

    def _call(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            _count(layer)
            args, kwargs = self.take(layer, args, kwargs)
            return self.give(layer, self.run(layer, original, args, kwargs))

        call.__signature__ = getattr(original, "__signature__", None)  # type: ignore[attr-defined]
        return call

    def _activation(self, layer: Any) -> Callable[..., Any]:
        function = layer.activation

        def activation(value: Any, *args: Any, **kwargs: Any) -> Any:
            for use in self._uses(layer, "pre").get(0, ()):
                value = use.apply(value)
            if decomposing.between(function) and (id(layer), "mid") in self.at:
                if hasattr(function, "__wrapped__"):  # by somebody who listens
                    function(value, *args, **kwargs)
                return decomposing.in_steps(
                    function, value, lambda each: self._between(layer, each, 1)
                )
            return function(value, *args, **kwargs)

        return activation

    def finish(self) -> None:
        """Store what changed."""
        for use in self.uses:
            use.finish()


class _Between:
    """What the taps between a layer's steps do (`stepwise.Change`)."""

    def __init__(self, taps: Taps, layer: Any):
        self.taps, self.layer = taps, layer

    def _uses(self, number: int) -> list[Use]:
        return self.taps._uses(self.layer, "mid").get(number, [])

    def __call__(self, value: Any, number: int) -> Any:
        for use in self._uses(number):
            value = use.apply(value)
        return value

    def constant(self, value: Any, number: int) -> Any:
        for use in self._uses(number):
            value = use.constant(value)
        return value


def _mapped(structure: Any, uses: dict[int, list[Use]]) -> Any:
    """The structure with its tensors, counted flat, passed through the uses."""
    number = -1

    def change(value: Any) -> Any:
        nonlocal number
        if not is_value(value):
            return value
        number += 1
        for use in uses.get(number, ()):
            value = use.apply(value)
        return value

    return keras.tree.map_structure(change, structure)


def is_value(value: Any) -> bool:
    """Whether something in a call's arguments or results is a tensor with floating numbers."""
    if isinstance(value, keras.KerasTensor) or keras.ops.is_tensor(value):
        return "float" in str(keras.backend.standardize_dtype(value.dtype))
    return hasattr(value, "__array__") and getattr(getattr(value, "dtype", 0), "kind", "") == "f"


def _count(layer: keras.layers.Layer) -> None:
    """Count one more call of a layer in the present pass, from 0; a cell's are one."""
    again = 0 if stepwise.is_cell(layer) else 1
    _pass.calls[id(layer)] = _pass.calls.get(id(layer), -again) + again


def _replaced(layer: keras.layers.Layer, name: str, value: Any) -> Callable[[], None]:
    """Set an attribute of an instance past Keras's tracking; returns what sets it back."""
    own = vars(layer)
    if name in own:
        before = own[name]
        internals.set_plainly(layer, name, value)
        return lambda: internals.set_plainly(layer, name, before)
    internals.set_plainly(layer, name, value)
    return lambda: internals.drop_plainly(layer, name)
