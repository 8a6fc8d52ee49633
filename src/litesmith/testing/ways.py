"""The ways to train a model that a technique has to stand, and the check of them.

    from litesmith.testing import check_training

    check_training(MyTechnique(strength=0.5))

prepares a model, trains it in each way, and raises an AssertionError that lists whatever does not
hold afterwards:

- the technique's promise, for every weight it took;
- training moved every trainable weight, and no frozen one;
- a parametrization that counts `steps` in its `progress` counted those that were made, and none
  says that training ended too early;
- where the way is another road to the same sums, the weights are those that plain `fit` comes to;
- the state is the same on every device;
- strip predicts what the prepared model does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from litesmith import parametrize
from litesmith.children import Child
from litesmith.errors import InputError, LitesmithWarning, did_you_mean
from litesmith.recipe import Recipe, prepare, strip
from litesmith.technique import Technique
from litesmith.testing import promises
from litesmith.testing.kinds import KINDS, SAMPLES, Kind

BATCH, EPOCHS, LEARNING_RATE = 8, 2, 0.05
# Weights that came another road to where `fit` came may be off by so much of the way.
_OFF = 0.02

_to_numpy = keras.ops.convert_to_numpy


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to train a model.

    Attributes:
        name: what it is called.
        train: trains a prepared model, in place, for `EPOCHS` epochs of a kind's data.
        make: the model to prepare.
        around: where the model is made, prepared, trained and stripped.
        backends: those that have it.
        like_fit: whether it comes to the weights that plain `fit` comes to.
        devices: how many it uses; one with more runs in a fresh process.
        precision: how far the stripped model may predict from the prepared one.
        without: kinds that Keras itself cannot train so, by backend.
    """

    name: str
    train: Callable[[keras.Model, Kind], None]
    make: Callable[[Kind], keras.Model] = Kind.make
    around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    backends: tuple[str, ...] = ("tensorflow", "jax", "torch")
    like_fit: bool = True
    devices: int = 1
    precision: float = 1e-6
    without: tuple[tuple[str, str], ...] = ()


def _own() -> Any:
    """What is written for the backend of this process."""
    return importlib.import_module(f"litesmith.testing.on_{keras.backend.backend()}")


def _fit(model: keras.Model, kind: Kind, *, ema: bool = False, **options: Any) -> None:
    average: dict[str, Any] = {}
    if ema:
        average = {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 5}
    # XLA takes longer to compile so small a step than the step takes; JAX knows no other way.
    options.setdefault("jit_compile", keras.backend.backend() == "jax")
    optimizer = keras.optimizers.SGD(LEARNING_RATE, **average)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), **options)
    x, y = kind.data()
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0)


def _compiled(model: keras.Model, kind: Kind) -> None:
    quicker = _own().compiling() if keras.backend.backend() == "torch" else contextlib.nullcontext()
    with quicker:
        _fit(model, kind, jit_compile=True)


def _loop(model: keras.Model, kind: Kind) -> None:
    _own().loop(model, _batches(kind), LEARNING_RATE)


def _batches(kind: Kind) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    x, y = kind.data()
    for _ in range(EPOCHS):
        for start in range(0, len(x), BATCH):
            yield x[start : start + BATCH], y[start : start + BATCH]


def _with_own_step(kind: Kind) -> keras.Model:
    model = kind.make()
    if not getattr(model, "inputs", None):  # a subclassed one
        inputs = keras.Input(kind.shape)
        return _own().CustomStep(inputs, model(inputs))
    return _own().CustomStep(*model.inputs, *model.outputs)


@contextlib.contextmanager
def _half_precision() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _two_devices() -> AbstractContextManager[Any]:
    return _own().two_devices()


WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        Way("fit", _fit),
        # JAX always compiles.
        Way("jit_compile", _compiled, backends=("tensorflow", "torch")),
        Way(
            "steps_per_execution",
            functools.partial(_fit, steps_per_execution=3),
            backends=("tensorflow", "jax"),
        ),
        Way(
            "mixed_float16",
            _fit,
            around=_half_precision,
            like_fit=False,
            precision=2e-3,
            # Keras 3.15.1 stacks an activity loss of float16 with a loss of float32; JAX 0.10.2 has
            # no dot product for Keras's attention in half precision on a processor.
            without=(("tensorflow", "custom layer"), ("jax", "attention")),
        ),
        Way("ema", functools.partial(_fit, ema=True), like_fit=False),
        Way("train_step", _fit, make=_with_own_step),
        Way("loop", _loop),
        # BatchNorm sees half a batch on each replica.
        Way(
            "mirrored",
            _fit,
            around=_two_devices,
            backends=("tensorflow",),
            like_fit=False,
            devices=2,
        ),
        Way("data_parallel", _fit, around=_two_devices, backends=("jax",), devices=2),
    )
}
"""Plain `fit`; compiled by XLA or `torch.compile`; several steps an execution; mixed precision;
weights averaged by the optimizer; a `train_step` of the model's own; a loop written by hand;
`tf.distribute.MirroredStrategy`; `keras.distribution.DataParallel`."""


def check_training(
    technique: Technique | Recipe | Iterable[Technique],
    *,
    ways: Sequence[str] | None = None,
    kinds: Iterable[str] = ("sequential", "custom layer"),
) -> None:
    """Check what a technique promises after each way of training.

    Args:
        technique: a technique, or several in order; their modules can be imported. A schedule
            should end within 12 steps, or the promise at the end cannot hold.
        ways: names of `WAYS`; by default all that the backend has. It takes some seconds a way,
            and minutes for `jit_compile` on torch.
        kinds: names of `litesmith.testing.KINDS`.

    Raises:
        AssertionError: one line for each thing that does not hold.
        InputError: there is no such way on this backend.
    """
    recipe, kinds = Recipe.of(technique), list(kinds)
    backend = keras.backend.backend()
    chosen = _chosen(ways, backend)
    problems: list[str] = []
    for way in chosen:
        possible = [kind for kind in kinds if (backend, kind) not in way.without]
        if way.devices > 1:
            problems += _in_fresh_process(recipe, way, possible)
            continue
        for kind in possible:
            problems += check_way(recipe, way.name, kind)
    assert not problems, f"{len(problems)} broken:\n" + "\n".join(problems)


def _chosen(names: Sequence[str] | None, backend: str) -> list[Way]:
    had = {name: way for name, way in WAYS.items() if backend in way.backends}
    for name in names or ():
        if name not in had:
            raise InputError(
                "way of training",
                expected=f"one that Keras has on {backend}",
                received=name,
                fix=did_you_mean(name, had),
            )
    return [had[name] for name in (had if names is None else names)]


def _in_fresh_process(recipe: Recipe, way: Way, kinds: list[str]) -> list[str]:
    environment = {
        "KERAS_BACKEND": keras.backend.backend(),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={way.devices}",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    with Child("litesmith.testing.fresh_process", environment=environment) as child:
        modules = sorted({type(technique).__module__ for technique in recipe})
        child.call("start", modules=modules, recipe=recipe.to_json())
        return child.call("check_way", way=way.name, kinds=kinds)[0]["problems"]


def check_way(recipe: Recipe, name: str, kind_name: str) -> list[str]:
    """Train one kind of model in one way, in this process, and tell what does not hold.

    Args:
        recipe: the techniques.
        name: of the way.
        kind_name: of the kind.
    """
    way, kind = WAYS[name], KINDS[kind_name]
    with way.around():
        model = way.make(kind)
        prepared = prepare(model, recipe)
        started = _values(prepared)
        way.train(prepared, kind)
        found = [*promises.broken_in_model(prepared, recipe, finished=True)]
        found += _unmoved(prepared, started)
        found += _miscounted(prepared)
        found += _unequal(prepared, way)
        simulates = any(technique.simulates for technique in recipe)
        found += _stripped_otherwise(
            prepared, kind, promises.ROUNDING if simulates else way.precision
        )
    if way.like_fit and name != "fit" and not kind.dropout:
        found += _apart(prepared, started, _fitted(recipe, kind))
    return [f"{kind_name}, trained by {name}: {problem}" for problem in found]


@functools.cache
def _fitted(recipe: Recipe, kind: Kind) -> list[np.ndarray]:
    prepared = prepare(kind.make(), recipe)
    _fit(prepared, kind)
    return _values(prepared)


def _weights(model: keras.Model) -> Iterator[keras.Variable]:
    for _, layer in parametrize.outermost_layers(model):
        yield from parametrize.plain_weights(layer)


def _values(model: keras.Model) -> list[np.ndarray]:
    """The weights, without those of litesmith; copied, since JAX gives buffers away."""
    return [_to_numpy(weight).copy() for weight in _weights(model)]


def _unmoved(prepared: keras.Model, started: list[np.ndarray]) -> Iterator[str]:
    trained = {id(weight) for weight in prepared.trainable_weights}
    kernels = {id(kernel.variable) for kernel in parametrize.find_kernels(prepared)}
    for weight, start in zip(_weights(prepared), started, strict=True):
        same = np.array_equal(start, _to_numpy(weight))
        if id(weight) in trained and same:
            yield f"{weight.path} did not move"
        elif id(weight) in kernels and id(weight) not in trained and not same:
            yield f"{weight.path} is frozen, and moved"
        if not np.isfinite(_to_numpy(weight)).all():
            yield f"{weight.path} is no longer finite"


def _links(prepared: keras.Model) -> Iterator[tuple[str, parametrize.Parametrization]]:
    for path, layer in parametrize.outermost_layers(prepared):
        if parametrize.is_parametrized(layer):
            for link in parametrize.holder_of(layer).links:
                yield f"{path}, {link.name}", link


def _miscounted(prepared: keras.Model) -> Iterator[str]:
    expected = EPOCHS * -(-SAMPLES // BATCH)
    for path, link in _links(prepared):
        steps = link.progress().get("steps", expected)
        if steps != expected:
            yield f"{path} counted {steps} steps, not {expected}"
        if unfinished := link.unfinished():
            yield f"{path}: {unfinished}"


def _unequal(prepared: keras.Model, way: Way) -> Iterator[str]:
    if way.devices < 2:
        return
    state = [(path, variable) for path, link in _links(prepared) for variable in link.variables]
    state += [(weight.path, weight) for weight in prepared.trainable_weights]
    for path, variable in state:
        first, *others = _own().on_each_device(variable)
        if len(others) != way.devices - 1:
            yield f"{path}, {variable.name} is on {1 + len(others)} devices, not {way.devices}"
        elif not all(np.array_equal(first, other) for other in others):
            yield f"{path}, {variable.name} differs between devices"


def _stripped_otherwise(prepared: keras.Model, kind: Kind, most: float) -> Iterator[str]:
    # Called, not `predict`: on several replicas that would use each one's own BatchNorm statistics.
    x, _ = kind.data()
    expected = _to_numpy(prepared(x, training=False)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LitesmithWarning)
        found = _to_numpy(strip(prepared)(x, training=False)).astype("float32")
    worst = float(np.abs(expected - found).max())
    if not worst <= most:
        yield f"strip changes predictions by {worst:.2g}"


def _apart(
    prepared: keras.Model, started: list[np.ndarray], fitted: list[np.ndarray]
) -> Iterator[str]:
    """Weights that went elsewhere than by `fit`, measured by the way they went."""
    for weight, start, aim in zip(_weights(prepared), started, fitted, strict=True):
        went = float(np.linalg.norm(aim - start))
        off = float(np.linalg.norm(aim - _to_numpy(weight)))
        if off > _OFF * went + 1e-6:
            yield f"{weight.path} is {off / max(went, 1e-6):.1%} off where fit brings it"
