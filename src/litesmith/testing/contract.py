"""The contract every technique keeps, on every backend and kind of model.

    from litesmith.testing import check_technique

    check_technique(MyTechnique(strength=0.5))

raises an AssertionError that lists whatever does not hold:

- the given model is untouched, and may go on being trained;
- names, variable paths, trainable flags and classes stay;
- fit moves the weights, and the technique's promise holds while it does and afterwards;
- saved and loaded in a fresh process, as `.keras` and `.h5`, it is the same model with the same
  weights; from `.keras`, which has the optimizer too, fit goes on identically; a subclassed model
  does so by its weights, and refuses to be saved whole;
- strip predicts what the prepared model does, and leaves no trace;
- the exported `.tflite` agrees, and the promise holds in it.

`check_training` (`ways.py`) trains in other ways than plain `fit`.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from litesmith import parametrize
from litesmith.children import Child
from litesmith.errors import ChildError, LitesmithWarning, ModelError
from litesmith.recipe import Recipe, prepare, strip
from litesmith.technique import Technique
from litesmith.testing import promises
from litesmith.testing.kinds import KINDS, SAMPLES, Kind

BATCH, EPOCHS = 8, 2
# In decibels, how far the integer file may be from the model that simulates it.
_LEAST_RATIO = 30.0
_to_numpy = keras.ops.convert_to_numpy


@dataclasses.dataclass
class Case:
    """One kind of model on its way through the contract."""

    kind: Kind
    recipe: Recipe
    folder: Path
    problems: list[str]
    prepared: Any = None
    expected: Any = None
    stripped: Any = None
    saved: tuple[str, list[np.ndarray]] | None = None
    continued: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a problem where something does not hold."""
        if not holds:
            self.problems.append(f"{self.kind.name}: {otherwise}")


def check_technique(
    technique: Technique | Recipe | Iterable[Technique],
    *,
    kinds: Iterable[str] | None = None,
    export: bool = True,
    fresh_process: bool = True,
) -> None:
    """Check the contract; it takes some seconds a kind of model.

    Args:
        technique: a technique, or several in order. Its `where` must be one that a file can hold.
            A schedule should end within 12 steps, or the promise at the end cannot hold.
        kinds: names of `litesmith.testing.KINDS`; all by default.
        export: whether to convert to `.tflite` and compare.
        fresh_process: whether to save, load in a new process and compare, trained on, too.

    Raises:
        AssertionError: one line for each thing that does not hold.
    """
    recipe = Recipe.of(technique)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        cases = []
        for number, kind in enumerate(kinds or KINDS):
            folder = Path(name) / str(number)
            folder.mkdir()
            case = Case(KINDS[kind], recipe, folder, problems)
            _check_in_process(case)
            if fresh_process:
                _save_and_continue(case)
            cases.append(case)
        if fresh_process:
            _check_fresh_process(cases)
        if export:
            for case in cases:
                check_exported(case)
    assert not problems, f"{len(problems)} broken:\n" + "\n".join(problems)


def compile_for_test(model: keras.Model, optimizer: str = "adam") -> None:
    """Compile as the contract does, in this process and in the fresh one."""
    rate = 1e-2
    made = keras.optimizers.Adam(rate) if optimizer == "adam" else keras.optimizers.SGD(rate)
    # Compiling each small step with XLA takes longer than running it; JAX knows no other way.
    jit = keras.backend.backend() == "jax"
    model.compile(made, "sparse_categorical_crossentropy", jit_compile=jit)
    # TensorFlow would trace a step that makes variables twice.
    made.build(model.trainable_variables)


def fit_for_test(model: keras.Model, kind: Kind, epochs: int, **options: Any) -> Any:
    """Train as the contract does: no shuffling."""
    x, y = kind.data()
    return model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, **options)


def config_of(model: keras.Model) -> str:
    """What a model is made of; not its weights, nor how it was compiled."""
    return json.dumps(model.get_config(), default=str, sort_keys=True)


def _snapshot(model: keras.Model) -> tuple[Any, ...]:
    return (
        [_to_numpy(variable).copy() for variable in model.variables],
        [(variable.path, variable.trainable) for variable in model.variables],
        [(path, type(layer)) for path, layer in parametrize.outermost_layers(model)],
        json.dumps(keras.saving.serialize_keras_object(model), default=str, sort_keys=True),
    )


def _same(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    values = all(np.array_equal(a, b) for a, b in zip(one[0], two[0], strict=True))
    return values and one[1:] == two[1:]


def _plain(model: keras.Model) -> list[keras.Variable]:
    return [w for _, layer in parametrize.outermost_layers(model) for w in _weights(layer)]


def _weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    return parametrize.plain_weights(layer)


def _check_in_process(case: Case) -> None:
    kind = case.kind
    model = kind.make()
    compile_for_test(model)
    before = _snapshot(model)
    prepared = case.prepared = prepare(model, case.recipe)
    case.expect(_same(before, _snapshot(model)), "prepare changed the given model")
    case.expect(bool(prepared.report.done), "nothing was taken")

    paths = [(w.path, w.trainable) for w in _plain(model)]
    case.expect(
        [(w.path, w.trainable) for w in _plain(prepared)] == paths,
        "variable paths or trainable flags changed",
    )
    originals = list(parametrize.outermost_layers(model))
    # Operators of the graph are layers while a model is prepared.
    layers = [
        pair
        for pair in parametrize.outermost_layers(prepared)
        if not parametrize.is_operator(pair[1])
    ]
    case.expect(
        [path for path, _ in layers] == [path for path, _ in originals]
        and all(isinstance(n, type(o)) for (_, n), (_, o) in zip(layers, originals, strict=True)),
        "layer names or classes changed",
    )
    shared = {id(v) for v in model.variables} & {id(v) for v in prepared.variables}
    case.expect(not shared, "the prepared model shares variables with the given one")

    compile_for_test(prepared)
    started = {w.path: _to_numpy(w).copy() for w in _plain(prepared)}

    def promise(when: str, finished: bool) -> None:
        for broken in promises.broken_in_model(prepared, case.recipe, finished=finished):
            case.expect(False, f"{when}, {broken}")

    class EachEpoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            promise(f"after epoch {epoch + 1}", finished=False)

    losses = fit_for_test(prepared, kind, EPOCHS, callbacks=[EachEpoch()]).history["loss"]
    case.expect(bool(np.isfinite(losses).all()), f"the loss is {losses}")
    promise("after training", finished=True)
    case.expect(_same(before, _snapshot(model)), "training changed the given model")
    for weight in _plain(prepared):
        if weight.trainable:
            moved = not np.array_equal(started[weight.path], _to_numpy(weight))
            case.expect(moved, f"fit did not move {weight.path}")

    check_strip(case)
    fit_for_test(model, kind, 1)  # the given model goes on being trained
    case.expect(not _same(before, _snapshot(model)), "the given model does not train after prepare")


def check_strip(case: Case) -> None:
    """Strip the prepared model of a case: it predicts the same, and nothing of ours is left."""
    x, _ = case.kind.data()
    expected = case.expected = case.prepared.predict(x, batch_size=SAMPLES, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LitesmithWarning)
        stripped = case.stripped = strip(case.prepared)
    found = stripped.predict(x, batch_size=SAMPLES, verbose=0)
    worst = float(np.abs(expected - found).max())
    # A model that simulates its file rounds what the stripped one does not.
    most = promises.ROUNDING if _simulates(case.recipe) else 1e-6
    case.expect(worst <= most, f"strip changes predictions by {worst:.2g}")
    again = case.prepared.predict(x, batch_size=SAMPLES, verbose=0)
    case.expect(np.array_equal(expected, again), "strip changed the prepared model")
    trace = [
        path
        for outer, layer in parametrize.outermost_layers(stripped)
        for path, inner in parametrize.inner_layers(layer, outer)
        if type(inner).__module__.startswith("litesmith.parametrize")
    ]
    config = json.dumps(keras.saving.serialize_keras_object(stripped), default=str)
    clean = not trace and "litesmith.parametrize" not in config and "litesmith>" not in config
    case.expect(clean, f"strip leaves a trace: {trace or 'in the config'}")
    case.expect(
        [w.path for w in stripped.weights] == [w.path for w in _plain(case.prepared)],
        "strip changes the weights' paths",
    )


def _save_and_continue(case: Case) -> None:
    """Save the prepared model mid-training, and train on here for comparison."""
    prepared, kind, folder = case.prepared, case.kind, case.folder
    if kind.whole:
        prepared.save(folder / "saved.keras")
    if kind.h5:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras calls the format legacy
            prepared.save(folder / "saved.h5")
    if not kind.whole:
        try:
            prepared.save(folder / "refused.keras")
        except ModelError as error:
            case.expect("save_weights" in str(error), f"refused without a way out: {error}")
        else:
            case.expect(False, "a subclassed prepared model was saved whole")
        prepared.save_weights(folder / "saved.weights.h5")
    case.saved = (config_of(prepared) if kind.whole else ""), prepared.get_weights()
    if kind.whole:
        state = [_to_numpy(variable).copy() for variable in prepared.variables]
        fit_for_test(prepared, kind, 1)
        case.continued["saved.keras"] = prepared.get_weights()
        for variable, value in zip(prepared.variables, state, strict=True):
            variable.assign(value)
    else:
        compile_for_test(prepared, "sgd")
        fit_for_test(prepared, kind, 1)
        case.continued["saved.weights.h5"] = prepared.get_weights()


def _check_fresh_process(cases: list[Case]) -> None:
    recipe = cases[0].recipe
    environment = {"KERAS_BACKEND": keras.backend.backend()}
    with Child("litesmith.testing.fresh_process", environment=environment) as child:
        modules = sorted({type(technique).__module__ for technique in recipe})
        child.call("start", modules=modules, recipe=recipe.to_json())
        for case in cases:
            for path in sorted(case.folder.glob("saved.*")):
                train = path.name in case.continued
                try:
                    fields, weights = child.call(
                        "load", path=str(path), kind=case.kind.name, train=train
                    )
                except ChildError as error:
                    done = "trained on" if train else "loaded"
                    case.expect(False, f"{path.name} cannot be {done}: {error}")
                else:
                    assert case.saved is not None
                    same = fields["config"] == case.saved[0]
                    case.expect(same, f"{path.name} loads another config")
                    (_compare_trained if train else _compare_loaded)(case, path.name, weights)


def _compare_trained(case: Case, form: str, weights: list[np.ndarray]) -> None:
    """Training on from a file came to what training on here came to."""
    if not case.kind.dropout:  # Keras saves no state of random numbers: it loads and trains
        _compare(case, f"{form}: training goes on", case.continued[form], weights, 1e-6)


def _compare_loaded(case: Case, form: str, loaded: list[np.ndarray]) -> None:
    """A file holds the model in the state in which it was saved: it answers as it did."""
    assert case.saved is not None
    # Layers loaded from `.h5` are put in order by their first call: hence the outputs first.
    outputs, *weights = loaded
    _compare(case, f"{form} answers", [case.expected], [outputs], 1e-6)
    _compare(case, f"{form} is loaded", case.saved[1], weights, 0.0)


def _compare(
    case: Case, what: str, expected: list[np.ndarray], found: list[np.ndarray], most: float
) -> None:
    if [each.shape for each in expected] != [each.shape for each in found]:
        case.expect(False, f"{what} with {len(found)} arrays, not those {len(expected)}")
        return
    pairs = zip(expected, found, strict=True)
    worst = max(float(np.abs(a.astype("float64") - b).max()) for a, b in pairs)
    case.expect(worst <= most, f"{what} differently by {worst:.2g}")


def check_exported(case: Case) -> None:
    """Export the stripped model of a case: the file agrees, and what was promised is in it."""
    from litesmith.evaluation import predict
    from litesmith.export import convert
    from litesmith.export import export as export_model

    x, _ = case.kind.data()
    float_model = convert(case.stripped)
    artifact = export_model(float_model, case.folder / "model.tflite")
    expected = case.stripped.predict(x, batch_size=SAMPLES, verbose=0)
    (found,) = predict(artifact, x)
    worst = float(np.abs(expected - found).max())
    case.expect(worst <= 1e-5, f"the .tflite differs by {worst:.2g}")
    if _simulates(case.recipe):
        _check_simulated(case, float_model)
    content = artifact.path.read_bytes()
    for broken in promises.broken_in_file(case.prepared, case.recipe, float_model, content):
        case.expect(False, broken)


def _simulates(recipe: Recipe) -> bool:
    return any(technique.simulates for technique in recipe)


def _check_simulated(case: Case, float_model: Any) -> None:
    """The integer file gives what the prepared model gives."""
    from litesmith.evaluation import predict
    from litesmith.export import export as export_model

    x, _ = case.kind.data()
    preset = "int16x8" if float_model.trained.activations == 16 else "int8"
    artifact = export_model(float_model, case.folder / "integers.tflite", quantize=preset)
    expected = case.expected
    (found,) = predict(artifact, x)
    noise = float(np.square(expected - found).mean())
    ratio = 10 * np.log10(float(np.var(expected)) / max(noise, 1e-12))
    apart = f"the integer .tflite is {ratio:.0f} dB from its simulation"
    case.expect(ratio >= _LEAST_RATIO, apart)
    content = artifact.path.read_bytes()
    for broken in promises.broken_in_file(case.prepared, case.recipe, float_model, content):
        case.expect(False, f"integers: {broken}")
