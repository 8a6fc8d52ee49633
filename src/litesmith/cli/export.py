"""`litesmith export`: a Keras model as a `.tflite`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from litesmith.cli.common import (
    Debug,
    ImageSize,
    Json,
    kilobytes,
    split_of,
    stdout_console,
    working,
    write_json,
)
from litesmith.errors import PresetError


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .keras or .h5 file, a SavedModel folder, or module:function.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.tflite")],
    quantize: Annotated[
        str,
        typer.Option(
            "--quantize",
            metavar="PRESET",
            help="float32, float16, dynamic_int8, int8, int8_float_io, int16x8, weight_int8, "
            "weight_int4 or dynamic_int4.",
        ),
    ] = "float32",
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DATA",
            help="Where the samples for int8 come from; the training split is used.",
        ),
    ] = None,
    calibration_samples: Annotated[int, typer.Option("--calibration-samples", min=1)] = 200,
    image_size: ImageSize = None,
    io_dtype: Annotated[
        str, typer.Option("--io-dtype", help="int8 or uint8: inputs and outputs of int8 models.")
    ] = "int8",
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse",
            help="Leave the zeros of pruned weights out of the file; it then loads more slowly.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where operators stay float in an int8 model.")
    ] = False,
    select_tf_ops: Annotated[
        bool, typer.Option("--select-tf-ops", help="Allow operators that need TensorFlow's own.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Write a model as a .tflite, quantized or not, with a manifest beside it."""
    from litesmith import files
    from litesmith.export import export as write
    from litesmith.export import presets

    if output.suffix != ".tflite":
        raise PresetError(
            "-o",
            expected="a path that ends in .tflite",
            received=str(output),
            fix="name it so",
        )
    files.check_writable(output)
    source: Any = model
    if presets.check_preset(quantize) in presets.CALIBRATED and calibration is None:
        source = _with_ranges(model)
        if source is None:
            raise PresetError(
                f"--quantize {quantize}",
                expected="calibration data",
                received="none",
                fix="add --calibration DATA, the data the model was trained on",
            )
    presets.check_io(quantize, io_dtype)
    samples = None
    if calibration is not None:
        with working(f"loading {calibration}"):
            train = split_of(calibration, "train", image_size)
            samples = train.take(min(calibration_samples, len(train))).x
    with working(f"exporting {model} as {quantize}"):
        artifact = write(
            source,
            output,
            quantize=quantize,
            calibration=samples,
            calibration_samples=calibration_samples,
            io_dtype=io_dtype,
            sparse=sparse,
            strict=strict,
            allow_select_tf_ops=select_tf_ops,
        )
    if as_json:
        write_json({"path": str(output), **artifact.manifest.model_dump(by_alias=True)})
        return 0
    size = kilobytes(output.stat().st_size)
    if artifact.manifest.sparse is not None:
        size += f" ({kilobytes(artifact.manifest.sparse.dense_size.file)} dense)"
    stdout_console().print(f"{output}: {quantize}, {size}", markup=False, highlight=False)
    return 0


def _with_ranges(path: str) -> Any:
    """The model in a Keras file, if it was trained with the ranges that calibration would give."""
    from litesmith import models
    from litesmith.export.exporting import carries

    if Path(path).suffix not in (".keras", ".h5", ".hdf5"):
        return None
    model = models.load(path)
    return model if carries(model) else None
