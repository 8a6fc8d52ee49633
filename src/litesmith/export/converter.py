"""Keras on TensorFlow → float `.tflite`: the only module that imports TensorFlow.

The model is traced by us, once, with one named argument per Keras input, and converted without
any of the converter's own quantization. What the converter cannot take as it stands is worked
around in order: as it is; recurrent layers unrolled (keeps the batch dynamic); batch fixed to 1.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from litesmith.errors import ExportError, ModelError
from litesmith.export import edit
from litesmith.export.interface import Interface
from litesmith.export.layers import as_float32, sublayers

# Unrolling repeats a cell's dozen operators for each time step; beyond this a loop is smaller.
MAX_UNROLLED_STEPS = 64

# What TensorFlow takes as the name of a scope; Keras takes anything without a slash.
_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


@dataclass(frozen=True)
class Converted:
    """A float `.tflite` and the names its signature carries.

    Attributes:
        content: the file's bytes.
        notes: what had to be worked around, in words for the user.
    """

    content: bytes
    notes: tuple[str, ...] = ()


def convert_keras(model: keras.Model, *, allow_select_tf_ops: bool = False) -> Converted:
    """Convert a built Keras model; Keras must be running on TensorFlow.

    The model is traced in inference mode and in float32, whatever its dtype policy. It is the
    same afterwards, names and policies included.

    Args:
        model: sequential, functional or subclassed (then called or built once).
        allow_select_tf_ops: fall back to TensorFlow's own kernels for operators LiteRT lacks.

    Returns:
        The `.tflite`; its signature ``serving_default`` carries Keras' input and output names.

    Raises:
        ModelError: the model has not been built.
        ExportError: tracing or conversion failed.
    """
    interface = Interface.of(model)
    attempts: list[tuple[str | None, bool, int | None]] = [(None, False, None)]
    recurrent = [layer for layer in sublayers(model) if isinstance(layer, keras.layers.RNN)]
    unrollable = [layer for layer in recurrent if _can_unroll(layer)]
    if unrollable:
        attempts.append(("recurrent layers were unrolled", True, None))
    attempts.append(("the batch is fixed to 1: the converter could not keep it open", False, 1))

    problem: ExportError | None = None
    for note, unroll, batch in attempts:
        if note and problem is not None and _names_operators(problem):
            break  # other shapes will not give LiteRT an operator it lacks
        with as_float32(model), _plain_names(model), _unrolled(unrollable if unroll else ()):
            function = _trace(model, interface, batch)
            try:
                content = _convert_function(function)
            except ExportError as error:
                problem = problem or error
                continue
        content = edit.name_signature(content, interface.input_names, interface.output_names)
        return Converted(content, (note,) if note else ())
    assert problem is not None
    if not allow_select_tf_ops:
        raise problem
    with as_float32(model), _plain_names(model):
        content = _convert_function(_trace(model, interface, None), select=True)
    content = edit.name_signature(content, interface.input_names, interface.output_names)
    return Converted(content, ("some operators run in TensorFlow (SELECT_TF_OPS)",))


def convert_saved_model(
    folder: str | os.PathLike[str], *, allow_select_tf_ops: bool = False
) -> Converted:
    """Convert a SavedModel folder; its own signature keeps its names.

    Run it in a child process: TensorFlow's reader is native, and the folder is the user's.

    Raises:
        ModelError: TensorFlow cannot read the folder.
        ExportError: conversion failed.
    """
    tf = _tensorflow()
    folder = str(Path(folder))

    def make() -> Any:
        with _silenced():
            try:
                return tf.lite.TFLiteConverter.from_saved_model(folder)
            except Exception as error:
                raise ModelError(
                    folder,
                    expected="a SavedModel with a serving signature",
                    received=first_line(error),
                    fix="save it with model.export(folder)",
                ) from error

    try:
        return Converted(_run(make(), select=False))
    except ExportError:
        if not allow_select_tf_ops:
            raise
    return Converted(
        _run(make(), select=True), ("some operators run in TensorFlow (SELECT_TF_OPS)",)
    )


# --- tracing and converting ---------------------------------------------------------------------


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow
    except ImportError as error:
        raise ExportError(
            "exporting needs TensorFlow's converter, which is not installed",
            fix="pip install 'litesmith[tensorflow]'",
        ) from error
    return tensorflow


def _trace(model: keras.Model, interface: Interface, batch: int | None) -> Any:
    tf = _tensorflow()

    def call(*arguments: Any) -> list[Any]:
        inputs = keras.tree.pack_sequence_as(interface.structure, list(arguments))
        outputs = model(inputs, training=False)
        flat = keras.tree.flatten(outputs)
        return [tf.identity(tf.convert_to_tensor(tensor)) for tensor in flat]

    specs = [
        tf.TensorSpec((batch, *shape[1:]), dtype, name=f"ls_input_{i}")
        for i, (shape, dtype) in enumerate(zip(interface.shapes, interface.dtypes, strict=True))
    ]
    try:
        with _silenced():
            return tf.function(call, autograph=False).get_concrete_function(*specs)
    except Exception as error:
        raise ExportError(
            f"model {model.name!r} cannot be traced on TensorFlow: {first_line(error)}",
            fix="write its call() with keras.ops",
        ) from error


def _convert_function(function: Any, *, select: bool = False) -> bytes:
    tf = _tensorflow()
    with _silenced():
        # The module stands for the trackable object: without one TensorFlow warns, with the
        # model it leaves the variables unfrozen.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    return _run(converter, select=select)


def _run(converter: Any, *, select: bool) -> bytes:
    tf = _tensorflow()
    if select:
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
    with _silenced() as heard:
        try:
            return bytes(converter.convert())
        except Exception as error:
            text = f"{error}\n{heard()}"
    operators = _operators(text)
    if operators:
        way = "pass allow_select_tf_ops=True (a larger runtime), or "
        raise ExportError(
            f"LiteRT has no operator for {', '.join(operators)}",
            fix=("" if select else way) + "replace what needs it",
        )
    raise ExportError(f"the converter failed: {_reason(text)}")


def _operators(text: str) -> list[str]:
    """TensorFlow operators that an error of the converter names as unsupported."""
    found = re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text)
    for line in re.findall(r"(?:Flex|Select|Custom) ops: ([^\n]*)", text):
        found += re.findall(r"\b(?:Flex)?([A-Z]\w+)", line)
    return sorted(set(found))


def _names_operators(error: ExportError) -> bool:
    return "LiteRT has no operator" in error.problem


def _reason(text: str) -> str:
    for line in text.splitlines():
        match = re.search(r"error: (.+)", line)
        if match:
            return match.group(1).strip()[:300]
    return first_line(text)


def first_line(error: object) -> str:
    """The first line of an error that says something, cut to a readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


# --- the model for the moment of tracing ---------------------------------------------------------


@contextlib.contextmanager
def _plain_names(model: keras.Model) -> Iterator[None]:
    """Layers whose names TensorFlow refuses as scopes have other names meanwhile."""
    changed: list[tuple[keras.Layer, str]] = []
    try:
        for index, layer in enumerate(sublayers(model)):
            if not _SCOPE.fullmatch(layer.name):
                changed.append((layer, layer.name))
                layer.name = f"layer_{index}_" + re.sub(r"[^A-Za-z0-9_]", "_", layer.name)
        yield
    finally:
        for layer, name in changed:
            layer.name = name


def _can_unroll(layer: keras.layers.RNN) -> bool:
    shape = (layer.get_build_config() or {}).get("input_shape")
    if not shape or layer.unroll or getattr(layer, "stateful", False):
        return False
    if not isinstance(shape[0], (int, type(None))):
        shape = shape[0]
    return len(shape) > 1 and shape[1] is not None and shape[1] <= MAX_UNROLLED_STEPS


@contextlib.contextmanager
def _unrolled(layers: Sequence[keras.layers.RNN]) -> Iterator[None]:
    try:
        for layer in layers:
            layer.unroll = True
        yield
    finally:
        for layer in layers:
            layer.unroll = False


@contextlib.contextmanager
def _silenced() -> Iterator[Any]:
    """Keep what TensorFlow writes to standard output and error, native code included.

    Yields:
        A function that gives the text written so far.
    """
    import logging

    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
        levels = [logger.level for logger in loggers]
        saved = [os.dup(1), os.dup(2)]

        def heard() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR + 1)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield heard
        finally:
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
