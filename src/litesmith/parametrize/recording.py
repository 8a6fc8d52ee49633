"""What each layer of a model takes and gives on some inputs, place by place."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import decomposing, internals, stepwise
from litesmith.parametrize.sites import Place, is_value
from litesmith.parametrize.swap import is_parametrized
from litesmith.parametrize.walking import inner_layers, outermost_layers


@dataclasses.dataclass(frozen=True)
class Event:
    """One tensor at one place, as it came by.

    Attributes:
        place: where.
        value: its numbers, float32.
    """

    place: Place
    value: np.ndarray = dataclasses.field(repr=False)


def record(
    model: keras.Model, inputs: Any, *, result: Callable[[Any], None] | None = None
) -> list[Event]:
    """Run a model in inference and note what passes each place, in order.

    Layers that run another one in a loop (recurrent ones that are not unrolled) are seen from
    outside only.

    Args:
        model: a built model, prepared or not.
        inputs: what it takes.
        result: told what the model gives.
    """
    places: dict[int, tuple[int, int]] = {}
    activations, stepping = [], []
    outers = list(outermost_layers(model))
    for outer_number, (path, outer) in enumerate(outers):
        looping = stepwise.loops(outer)
        for inner_number, (_, inner) in enumerate(inner_layers(outer, path)):
            if inner_number == 0 or not looping:
                places.setdefault(id(inner), (outer_number, inner_number))
                if not looping:
                    activations.append(inner)
                    if not is_parametrized(outer) and stepwise.steps_of(inner) is not None:
                        stepping.append(inner)
    events: list[Event] = []
    busy: set[int] = set()
    calls: dict[int, int] = {}

    def note(layer: Any, kind: str, structure: Any, first: int = 0) -> None:
        flat = [value for value in keras.tree.flatten(structure) if is_value(value)]
        for index, value in enumerate(flat, first):
            numbers = keras.ops.convert_to_numpy(value).astype(np.float32)
            place = Place(*places[id(layer)], kind, index, calls[id(layer)])
            events.append(Event(place, numbers))

    def noting(original: Any) -> Any:
        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if id(self) not in places or id(self) in busy:
                return original(self, *args, **kwargs)
            busy.add(id(self))
            again = 0 if stepwise.is_cell(self) else 1
            calls[id(self)] = calls.get(id(self), -again) + again
            try:
                note(self, "in", (args, kwargs))
                outputs = original(self, *args, **kwargs)
            finally:
                busy.discard(id(self))
            if decomposing.is_norm(self):
                product = keras.ops.cast(outputs, "float32") - decomposing.norm_factors(self)[1]
                note(self, "mid", product)
            note(self, "out", outputs)
            return outputs

        return call

    with contextlib.ExitStack() as stack:
        for layer in activations:
            stack.enter_context(_heard(layer, note))
        for _, outer in outers:
            stack.enter_context(stepwise.cells_called(outer))
        for layer in stepping:
            stack.enter_context(_step_by_step(layer, note))
        stack.enter_context(internals.calls_replaced(noting))
        outputs = model(inputs, training=False)
    if result is not None:
        result(outputs)
    return events


@contextlib.contextmanager
def _step_by_step(layer: Any, note: Any) -> Iterator[None]:
    """Within the body what lies between a layer's steps is noted."""
    steps, original = stepwise.steps_of(layer), layer.call

    class Between:
        def __call__(self, value: Any, number: int) -> Any:
            note(layer, "mid", value, number)
            return value

        def constant(self, value: Any, number: int) -> Any:
            return value

    def call(*args: Any, **kwargs: Any) -> Any:
        assert steps is not None
        return steps(layer, Between(), original, args, kwargs)

    internals.set_plainly(layer, "call", call)
    try:
        yield
    finally:
        internals.drop_plainly(layer, "call")


@contextlib.contextmanager
def _heard(layer: Any, note: Any) -> Iterator[None]:
    """Within the body what a layer's activation function takes is noted."""
    function = vars(layer).get("activation")
    if not callable(function) or function is keras.activations.linear:
        yield
        return

    @functools.wraps(function)
    def activation(value: Any, *args: Any, **kwargs: Any) -> Any:
        note(layer, "pre", value)
        if (steps := decomposing.between(function)) is not None:
            note(layer, "mid", steps[0](value), 1)
        return function(value, *args, **kwargs)

    internals.set_plainly(layer, "activation", activation)
    try:
        yield
    finally:
        internals.set_plainly(layer, "activation", function)
