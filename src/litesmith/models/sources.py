"""A model by its name, the same way in Python, in a study file and on the command line."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from litesmith.errors import ModelError, did_you_mean

KINDS = ("builtin", "applications")
_FORMS = "a .keras or .h5 file, builtin:NAME, applications:NAME or module:function"
_SUFFIXES = (".keras", ".h5", ".hdf5", ".tflite")


def load(
    source: str | os.PathLike[str],
    arguments: Mapping[str, Any] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
) -> keras.Model:
    """Load or build a Keras model by name.

    Args:
        source: one of

            - the path of a `.keras` or `.h5` file (Keras 2 files too), loaded in safe mode;
            - `builtin:digits`, `builtin:reference`;
            - `applications:NAME`: one of `keras.applications`, with random weights unless
              `arguments` says otherwise (`{"weights": "imagenet"}` is downloaded by Keras); with
              `{"transfer": True}` a new head for the data's classes on ImageNet's weights, where
              they can be had, for images 0…1 (`models/transfer.py`);
            - `module:function` or `path/to/file.py:function`, which returns a model.
        arguments: keyword arguments for the last three.
        root: folder that paths and modules are relative to; a file that is not there is looked
            for in the working directory too.
        input_shape: of one sample, as the data has it: fills in that argument where the model's
            function has it and `arguments` does not set it.
        classes: number of classes of the data, used likewise.

    Returns:
        The model, built, not compiled, its weights finite.

    Raises:
        ModelError: an unknown source, a file that cannot be used, arguments that do not fit, a
            NaN or infinite weight.
    """
    text = os.fspath(source)
    given = dict(arguments or {})
    kind, separator, rest = text.partition(":")
    if text.endswith(_SUFFIXES) or isinstance(source, os.PathLike) or not separator:
        from litesmith.models.files import load_file

        path = _path(text, root)
        if not separator and not path.exists() and not path.suffix:
            raise ModelError(
                f"model source {text!r}", expected=_FORMS, received="no such file", fix=_near(text)
            )
        if given:
            raise ModelError(
                "model arguments",
                expected="none: they are for applications: and module:function",
                received=", ".join(given),
                fix="leave the arguments out",
            )
        model = load_file(path)
    elif kind == "builtin":
        model = _builtin(rest, given, input_shape, classes)
    elif kind == "applications":
        model = _application(rest, given, input_shape, classes)
    else:
        model = _function(text, given, root, input_shape, classes)
    return check(model, text)


def check(model: Any, name: str = "model") -> keras.Model:
    """Return the model when it can be worked on.

    Args:
        model: what should be a built Keras model.
        name: how an error calls it.

    Raises:
        ModelError: no Keras model, one without weights yet, or a weight that is NaN or infinite.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(
            name,
            expected="a Keras model",
            received=type(model).__name__,
            fix="return one, or pass one",
        )
    if not model.built or not model.weights:
        raise ModelError(
            name,
            expected="a model that is built",
            received="one without weights",
            fix="call it once on data, or give it a keras.Input",
        )
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if values.dtype.kind in "biu":
            continue
        wrong = int(values.size - np.isfinite(values.astype(np.float32)).sum())
        if wrong:
            raise ModelError(
                f"{name}: weight {weight.path!r}",
                expected="finite numbers",
                received=f"{wrong} of {values.size} NaN or infinite",
                fix="train it again with a lower learning rate",
            )
    return model


def _path(text: str, root: str | os.PathLike[str] | None) -> Path:
    given = Path(text).expanduser()
    base = Path(root) if root is not None else Path.cwd()
    return given if not (base / given).exists() and given.exists() else base / given


def _builtin(name: str, given: dict[str, Any], input_shape: Any, classes: Any) -> keras.Model:
    from litesmith.models.networks import BUILTINS

    if name not in BUILTINS:
        raise ModelError(
            f"builtin:{name}",
            expected="a built-in model",
            received=name,
            fix=did_you_mean(name, sorted(BUILTINS)),
        )
    function = BUILTINS[name]
    _fill(function, given, input_shape, classes, only_required=False)
    return _called(f"builtin:{name}", function, given)


def _application(name: str, given: dict[str, Any], input_shape: Any, classes: Any) -> keras.Model:
    known = {
        key: value
        for key, value in vars(keras.applications).items()
        if key[0].isupper() and callable(value)
    }
    if name not in known:
        raise ModelError(
            f"applications:{name}",
            expected="a model of keras.applications",
            received=name,
            fix=did_you_mean(name, sorted(known)),
        )
    transfer = given.pop("transfer", False)
    if not isinstance(transfer, bool):
        raise ModelError(
            f"applications:{name}, argument 'transfer'",
            expected="true or false",
            received=transfer,
        )
    if transfer:
        return _transferred(f"applications:{name}", known[name], given, input_shape, classes)
    given.setdefault("weights", None)
    if given["weights"] is not None or not given.get("include_top", True):
        classes = None  # the weights' own, or no top to have classes at all
    _fill(known[name], given, input_shape, classes, only_required=False)
    return _called(f"applications:{name}", known[name], given)


def _function(
    source: str, given: dict[str, Any], root: Any, input_shape: Any, classes: Any
) -> keras.Model:
    from litesmith.data.functions import call, resolve

    base = Path(root) if root is not None else None
    try:
        function = resolve(source, base, ModelError)
    except ModelError as error:
        near = did_you_mean(source.partition(":")[0], KINDS)
        if near.startswith("did you mean") and (
            "no module named" in str(error) or "expected module:function" in str(error)
        ):
            raise ModelError(
                "model source", expected=_FORMS, received=repr(source), fix=near
            ) from error
        raise
    _fill(function, given, input_shape, classes, only_required=True)
    return call(source, given, base, ModelError)


def _fill(
    function: Any, given: dict[str, Any], input_shape: Any, classes: Any, *, only_required: bool
) -> None:
    """Add what the data says to the arguments, where the function asks for it by name."""
    parameters = inspect.signature(function).parameters
    known = {"input_shape": tuple(input_shape) if input_shape is not None else None}
    known["classes"] = classes
    for name, value in known.items():
        parameter = parameters.get(name)
        if value is None or parameter is None or name in given:
            continue
        if not only_required or parameter.default is inspect.Parameter.empty:
            given[name] = value


def _transferred(
    source: str, function: Any, given: dict[str, Any], input_shape: Any, classes: Any
) -> keras.Model:
    from litesmith.models import transfer

    _check_arguments(source, function, {k: v for k, v in given.items() if k != "dropout"})
    try:
        return transfer.build(source, function, given, input_shape, classes)
    except ModelError:
        raise
    except Exception as error:
        raise _cannot_build(source, error) from error


def _called(source: str, function: Any, given: dict[str, Any]) -> keras.Model:
    _check_arguments(source, function, given)
    if isinstance(given.get("input_shape"), list):  # TOML has no tuples
        given["input_shape"] = tuple(given["input_shape"])
    try:
        return function(**given)
    except Exception as error:
        raise _cannot_build(source, error) from error


def _check_arguments(source: str, function: Any, given: Mapping[str, Any]) -> None:
    names = inspect.signature(function).parameters
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in names.values())
    for name in given:
        if name not in names and not open_ended:
            raise ModelError(
                f"{source}, argument {name!r}",
                expected="an argument it has",
                received=name,
                fix=did_you_mean(name, names),
            )


def _cannot_build(source: str, error: Exception) -> ModelError:
    text = " ".join((str(error).strip() or "no message").split())
    return ModelError(
        source,
        expected="arguments it can be built with",
        received=text[:240],
        fix="see the function's own arguments",
    )


def _near(text: str) -> str:
    from litesmith.models.networks import BUILTINS

    near = did_you_mean(f"builtin:{text}", [f"builtin:{name}" for name in BUILTINS])
    return near if near.startswith("did you mean") else "see that the path is right"
