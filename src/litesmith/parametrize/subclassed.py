"""What a prepared subclassed model needs beyond its layers: no whole saving, and `training`.

**Saving.** The config of a subclassed model does not hold its layers: loaded again it would make
them anew, without their parametrizations, and train on as if nothing had been prepared. Such a
model is saved by its weights only; saving it whole is refused.

**Training.** On JAX, Keras calls a model's `call` directly, outside its call context, so that a
layer whose `call` takes no `training` is never told. Functional models hand it to each layer; for
subclassed ones the value is noted here, where the holders can see it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import keras

from litesmith.errors import ModelError
from litesmith.parametrize import internals
from litesmith.parametrize.parametrization import training_noted


class Subclassed:
    """Mixin of the class of a prepared subclassed model."""

    def get_config(self) -> NoReturn:
        """Refuse.

        Raises:
            ModelError: always.
        """
        name = self.name  # type: ignore[attr-defined]
        raise ModelError(
            f"prepared model {name!r} cannot be saved whole",
            expected="a sequential or functional model, or save_weights()",
            received=f"subclassed {type(self).__mro__[2].__name__}, whose config does not hold "
            "its layers, so that loading would lose what was prepared",
            fix="use save_weights() and load_weights(), or strip() it first",
        )


# Where a training step comes by: the call itself, and JAX's step, which does not tell a `call`
# without a `training` argument.
_TOLD = ("call", "compute_loss_and_updates")


def _noting(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def noting(self: Any, *args: Any, **kwargs: Any) -> Any:
        training = signature.bind(self, *args, **kwargs).arguments.get("training")
        with training_noted(training):
            return method(self, *args, **kwargs)

    return noting


@functools.cache
def _subclassed_class(base: Any) -> type:
    methods = {name: _noting(getattr(base, name)) for name in _TOLD if hasattr(base, name)}
    return type(base.__name__, (Subclassed, base), {"__module__": base.__module__, **methods})


def mark_subclassed(model: keras.Model) -> None:
    """Give every subclassed model in a prepared model, itself included, what it needs."""
    for layer in [model, *_nested(model)]:
        if not internals.is_functional(layer) and not isinstance(layer, Subclassed):
            base: Any = type(layer)
            internals.set_class(layer, _subclassed_class(base))


def _nested(model: keras.Model) -> Iterator[keras.Model]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield layer
            yield from _nested(layer)


@contextlib.contextmanager
def as_plain(*layers: Any) -> Iterator[None]:
    """Within the body models marked by `mark_subclassed` are of their original class again."""
    marked = [(layer, type(layer)) for layer in layers if isinstance(layer, Subclassed)]
    try:
        for layer, cls in marked:
            internals.set_class(layer, cls.__mro__[2])
        yield
    finally:
        for layer, cls in marked:
            internals.set_class(layer, cls)
