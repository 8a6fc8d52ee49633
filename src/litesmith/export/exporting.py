"""`export`: a model, a preset, a path; a `.tflite` and its manifest."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litesmith import files
from litesmith.children import kept
from litesmith.errors import ChildError, ExportError, PresetError
from litesmith.export import by_technique
from litesmith.export.calibration import Calibration, calibrate
from litesmith.export.float_model import FloatModel, convert
from litesmith.export.manifest import Manifest, describe
from litesmith.export.post_training import quantize as derive
from litesmith.export.presets import Rules, check_io, rules_of
from litesmith.export.sparse import Sparse, store_sparse
from litesmith.export.trained import derive as derive_trained


@dataclass(frozen=True, eq=False)
class Artifact(os.PathLike[str]):
    """A written `.tflite`; stands for its path wherever a path is taken.

    Attributes:
        path: the `.tflite`.
        manifest: what is in it; also beside it, as ``<path>.json``.
    """

    path: Path
    manifest: Manifest

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)

    @property
    def sha256(self) -> str:
        """SHA-256 of the `.tflite`, in hexadecimal."""
        return self.manifest.sha256


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    quantize: Any = "float32",
    calibration: Any = None,
    calibration_samples: int = 200,
    io_dtype: str = "int8",
    sparse: bool = False,
    strict: bool = False,
    allow_select_tf_ops: bool = False,
) -> Artifact:
    """Write a model as `.tflite`, and its manifest beside it.

    The file appears only after LiteRT has opened it and run it once.

    Args:
        model: what `convert` takes, or the `FloatModel` it gave (converted once, used often).
        path: where to write; ends in ``.tflite``.
        quantize: a name of `PRESETS`, `Rules`, or a list of rules; or `Quantize` or several of
            them, the settings of quantization-aware training, which are then applied without any
            training (the manifest has the recipe).
        calibration: data to calibrate on, or the `Calibration` that `calibrate` gave; needed by
            ``"int8"``, ``"int8_float_io"`` and ``"int16x8"``.
        calibration_samples: how many samples to take of the data.
        io_dtype: ``"int8"`` or ``"uint8"``: type of the inputs and outputs of ``"int8"``.
        sparse: leave the zeros of the weights out of the file, where that makes it smaller and
            changes no bit of what it gives. It loads more slowly, and zips to a little more.
        strict: make operators that stay float in an integer model an error.
        allow_select_tf_ops: fall back to TensorFlow's own kernels for operators LiteRT lacks.

    Returns:
        The path and the manifest.

    Raises:
        PresetError: an unknown preset, a rule that matches nothing, no calibration data.
        OutputError: the file cannot be written: forbidden, a folder, a full disk.
        DataError: calibration data that do not fit; nothing is written.
        ModelError: the model cannot be read.
        ExportError: conversion or quantization failed, or LiteRT cannot run the file; nothing is
            written.
    """
    target = Path(path)
    if target.suffix != ".tflite":
        raise PresetError(
            "export",
            expected="a path that ends in .tflite",
            received=os.fspath(path),
            fix="name it so",
        )
    files.check_writable(target)
    if by_technique.is_recipe(quantize):
        model, quantize = by_technique.prepared(
            model, quantize, calibration, calibration_samples, strict=strict
        )
        calibration = None
    rules = rules_of(quantize)
    check_io(rules.default, io_dtype)
    if rules.needs_calibration and calibration is None and _is_keras_file(model):
        from litesmith import models

        model = models.load(os.fspath(model))  # it may have been trained with its ranges
    known = carries(model)
    if rules.needs_calibration and calibration is None and not known:
        raise PresetError(
            f"quantize={rules.default!r}",
            expected="calibration data",
            received="none",
            fix="pass calibration= (some 200 samples of the training data); a model trained with "
            "Quantize needs none, unless it is trained on after it was stripped",
        )
    source = convert(model, allow_select_tf_ops=allow_select_tf_ops)
    ranges: Calibration | None = None
    if source.trained is not None:
        source.trained.check(rules)
    elif rules.needs_calibration:
        ranges = (
            calibration
            if isinstance(calibration, Calibration)
            else calibrate(source, calibration, calibration_samples)
        )
    if source.trained is not None:
        content, notes = quantized(source, rules, io_dtype=io_dtype)
    else:
        content, notes = derive(source, rules, ranges, io_dtype=io_dtype), ()
    stored: Sparse | None = None
    if sparse:
        content, stored = _without_zeros(content, source, rules)
    told = None if ranges is None else {"samples": ranges.samples, "rule": ranges.rule}
    tried: tuple[str, ...] = ("not tried: it needs a runtime with TensorFlow's operators",)
    with ThreadPoolExecutor(1) as beside_it:  # one process tries it out while this one counts
        trial = None if source.select_tf_ops else beside_it.submit(_try_out, content, rules)
        manifest = describe(content, source, rules, calibration=told, sparse=stored)
        if trial is not None:
            tried = trial.result()
    manifest.notes += notes + tried
    if strict and manifest.float_operators:
        names = ", ".join(f"{n} × {name}" for name, n in manifest.float_operators.items())
        raise ExportError(
            f"quantize={rules.default!r} leaves operators in float: {names}",
            fix="leave strict out to accept that, or replace the layers they come from",
        )
    beside = target.with_name(f"{target.name}.json")
    # The last one is moved into place first: a model is never without its manifest for long.
    files.write_together({beside: manifest.to_json().encode(), target: content})
    return Artifact(target, manifest)


def _is_keras_file(model: Any) -> bool:
    named = isinstance(model, (str, os.PathLike)) and not isinstance(model, Artifact)
    return named and Path(model).suffix in (".keras", ".h5", ".hdf5")


def carries(model: Any) -> bool:
    """Whether a model was trained with the ranges and grids that its file needs."""
    if isinstance(model, FloatModel):
        return model.trained is not None
    if isinstance(model, (str, os.PathLike)):
        return False
    from litesmith.parametrize import is_parametrized, outermost_layers
    from litesmith.recipe import origin

    known = origin(model)
    if known is None:
        return False
    if known.grids is not None:
        return True
    quantized = any(entry.technique == "quantize" for entry in known.report.done)
    return quantized and any(is_parametrized(layer) for _, layer in outermost_layers(model))


def quantized(
    source: FloatModel, quantize: str | Rules, *, io_dtype: str = "int8"
) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of the file that a training with `Quantize` simulated, and notes; not tried out.

    Args:
        source: the conversion of a model that was trained so.
        quantize: a preset that fits it.
        io_dtype: see `export`.

    Raises:
        PresetError: a preset that contradicts the training.
    """
    rules, known, notes = rules_of(quantize), source.trained, []
    known.check(rules)
    content = derive_trained(source, known, rules, io_dtype=io_dtype)
    if known.unmapped and rules.needs_calibration:
        which = f"{len(known.unmapped)} tensors, such as {min(known.unmapped)!r}"
        notes.append(f"computed in float: {which}, whose ranges training could not follow")
    lower = sorted({(g.bits, g.stored) for g in known.grids.values() if g.bits < g.stored})
    if rules.default not in ("float32", "float16"):
        notes += [f"weights trained in {b} bits are stored in {s}" for b, s in lower]
    return content, tuple(notes)


def _without_zeros(content: bytes, source: FloatModel, rules: Rules) -> tuple[bytes, Sparse]:
    """Store the weights sparse, checked against the dense file."""
    if source.select_tf_ops:
        raise ExportError(
            "sparse=True needs the file to be run, to see that nothing changed, and this one needs "
            "a runtime with TensorFlow's operators",
            fix="leave sparse out, or replace the layers those operators come from",
        )
    _try_out(content, rules)
    return store_sparse(content)


def _try_out(content: bytes, rules: Rules) -> tuple[str, ...]:
    """Open and run the file once, in a child process: a wrong one can kill it.

    Returns:
        What is to be noted of its outputs.
    """
    with kept("litesmith.export.litert_child", timeout=120) as child:
        try:
            fields, _ = child.call("try_out", [np.frombuffer(content, np.uint8)])
        except (ChildError, ExportError) as error:
            fix = "leave that operator in float by Rule(op=…, preset='float32')"
            if "int16x8" in rules.presets:
                fix = "int16x8 lacks many operators; use 'int8', or " + fix
            raise ExportError(
                f"the {rules.default} file cannot be run: {error}",
                fix=None if rules.presets == ("float32",) else fix,
            ) from error
    return tuple(fields["notes"])
