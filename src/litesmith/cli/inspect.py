"""`litesmith inspect`: a model's layers and sizes, and what could be done to them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litesmith.cli.common import (
    Debug,
    ImageSize,
    Json,
    kilobytes,
    parse_size,
    stdout_console,
    working,
    write_json,
)
from litesmith.errors import InputError, ModelError

if TYPE_CHECKING:
    from litesmith.advice import Situation


def inspect(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A .keras, .h5 or .tflite file, or module:function."),
    ],
    advise: Annotated[
        bool, typer.Option("--advise", help="Say what to try first with this model, and why.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="DEVICE",
            help="Advice for a cpu, gpu or microcontroller. [default: cpu]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="Advice for this data; none: there is no data at all."
        ),
    ] = None,
    no_training: Annotated[
        bool, typer.Option("--no-training", help="Advice for who has no time to train.")
    ] = False,
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop", metavar="DROP", help="Accuracy that may be lost: 0.01 is one point."
        ),
    ] = None,
    image_size: ImageSize = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Show a model's layers and sizes, and what each technique could do to each kernel."""
    from litesmith.cli import describe

    situation = None
    if advise or target or data or max_drop or no_training:  # each of these asks for advice
        situation = _situation(target, data, not no_training, max_drop, image_size)
    path = Path(model)
    if path.is_dir():
        raise ModelError(
            "inspect",
            expected="a .keras, .h5 or .tflite file",
            received=f"the folder {model}",
            fix="export it to a .tflite first",
        )
    if path.suffix == ".tflite" and situation is not None:
        raise ModelError(
            "inspect --advise",
            expected="a Keras model, .keras or .h5",
            received=model,
            fix="name the model that it was made from",
        )
    if path.suffix == ".tflite":
        with working(f"reading {model}"):
            found = describe.tflite(model)
    else:
        with working(f"loading {model}"):
            found = describe.keras_model(model)
    if situation is not None:
        found["advice"] = _advice(situation, found)
    if as_json:
        write_json(found)
    elif found["kind"] == "keras":
        _show_keras(found)
        if situation is not None:
            _show_advice(found)
    else:
        _show_tflite(found)
    return 0


def _situation(
    target: str | None,
    data: str | None,
    training: bool,
    max_drop: str | None,
    image_size: str | None,
) -> Situation:
    """What the options say."""
    from litesmith.advice import Situation

    drop = None
    if max_drop is not None:
        name, equals, value = max_drop.rpartition("=")
        try:
            drop = float(value)
        except ValueError:
            drop = -1.0
        if not 0 <= drop <= 1 or (equals and name != "accuracy"):
            raise InputError(
                "--max-drop",
                expected="accuracy that may be lost, from 0 to 1",
                received=repr(max_drop),
                fix="0.01 is one point",
            )
    made = Situation(target or "cpu", "training" if training else "samples", drop)  # type: ignore[arg-type]
    if data is None:
        return made
    if data == "none":
        return dataclasses.replace(made, needs="nothing")
    from litesmith import data as sources

    with working(f"loading {data}"):
        size = parse_size(image_size) if image_size else None
        found = sources.load(data, image_size=size, root=Path.cwd())
    if found.train.y is None:  # enough to calibrate with
        return dataclasses.replace(made, needs="samples")
    return made


def _advice(situation: Situation, found: dict[str, Any]) -> dict[str, Any]:
    from litesmith.advice import advise

    steps = [one.to_dict() for one in advise(situation, found)]
    return {**dataclasses.asdict(situation), "steps": steps}


def _show_advice(found: dict[str, Any]) -> None:
    from litesmith.advice import HAVE, points, written

    told = found["advice"]
    drop = told["max_drop"]
    kept = "" if drop is None else f", at most {points(drop)} of accuracy lost"
    lines = [f"\nWhat to try, for a {told['target']}, with {HAVE[told['needs']]}{kept}:"]
    number = 0
    for step in told["steps"]:
        if step["try"]:
            number += 1
            size = kilobytes(step["weight_bytes"])
            lines.append(f"{number}. {step['name']}: weights of about {size}")
            lines.append(f"   {written(step['recipe'], step['quantize'])}")
            lines += [f"   {text}" for text in (step["why"], *step["remarks"])]
    if not number:
        lines.append("nothing, as it is")
    lines += [
        f"not: {step['name']}: {step['against']}" for step in told["steps"] if not step["try"]
    ]
    lines.append("Try them in this order, as variants of a study (docs/study.md), and measure.")
    for line in lines:
        stdout_console().print(line, markup=False, highlight=False)


def _show_keras(found: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    columns: list[str] = []
    for layer in found["layers"]:
        for kernel in layer["kernels"]:
            columns += [name for name in kernel["techniques"] if name not in columns]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("layer", overflow="fold")
    table.add_column("type")
    for heading in ("output", "weights", "kB", "share"):
        table.add_column(heading, justify="right")
    for name in columns:
        table.add_column(name)
    reasons: list[str] = []
    for layer in found["layers"]:
        cells = [_cell(layer, name, reasons) for name in columns]
        table.add_row(
            layer["path"],
            layer["type"],
            _shape(layer["output_shape"]),
            f"{layer['parameters']:,}",
            f"{layer['bytes'] / 1000:,.1f}",
            f"{layer['share']:.1%}",
            *cells,
        )
    console = stdout_console()
    console.print(table)
    for number, reason in enumerate(reasons, 1):
        console.print(f"[{number}] {reason}", markup=False, highlight=False)
    file = f", file {kilobytes(found['file_bytes'])}" if found["file_bytes"] else ""
    console.print(
        f"{found['name']}: {found['parameters']:,} weights, "
        f"{kilobytes(found['weight_bytes'])}{file}",
        markup=False,
        highlight=False,
    )


def _cell(layer: dict[str, Any], technique: str, reasons: list[str]) -> str:
    """What a technique can do to a layer's kernels; reasons become numbered notes."""
    cells: list[str] = []
    for kernel in layer["kernels"]:
        verdict = kernel["techniques"].get(technique)
        if verdict is None:
            continue
        text = verdict["can"]
        if verdict["reason"]:
            if verdict["reason"] not in reasons:
                reasons.append(verdict["reason"])
            text += f" ({reasons.index(verdict['reason']) + 1})"
        if text not in cells:
            cells.append(text)
    return ", ".join(cells) or "–"


def _show_tflite(found: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("tensor", overflow="fold")
    table.add_column("type")
    for heading in ("shape", "kB", "share", "zeros", "distinct"):
        table.add_column(heading, justify="right")
    for tensor in found["tensors"]:
        zeros = tensor["zeros"]
        table.add_row(
            tensor["name"],
            tensor["dtype"] + (" (sparse)" if tensor["sparse"] else ""),
            _shape(tensor["shape"]),
            f"{tensor['bytes'] / 1000:,.1f}",
            f"{tensor['share']:.1%}",
            "–" if zeros is None else f"{zeros / max(1, tensor['parameters']):.1%}",
            "–" if tensor["unique"] is None else f"{tensor['unique']:,}",
        )
    console = stdout_console()
    console.print(table)
    operators = ", ".join(f"{count} {name}" for name, count in found["operators"].items())
    console.print(f"operators: {operators}", markup=False, highlight=False)
    for kind in ("inputs", "outputs"):
        ports = ", ".join(f"{p['dtype']} {_shape(p['shape'])}" for p in found[kind])
        console.print(f"{kind}: {ports}", markup=False, highlight=False)
    console.print(
        f"{found['parameters']:,} weights, {kilobytes(found['weight_bytes'])} "
        f"of {kilobytes(found['file_bytes'])}",
        markup=False,
        highlight=False,
    )


def _shape(shape: Any) -> str:
    if not shape:
        return "–"
    if isinstance(shape[0], list):
        return " ".join(map(_shape, shape))
    return "×".join("?" if length in (None, -1) else str(length) for length in shape)
