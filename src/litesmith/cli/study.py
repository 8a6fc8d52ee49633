"""`litesmith study`: a model, many variants, one report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litesmith.cli.common import (
    Debug,
    ImageSize,
    Json,
    complain,
    parse_size,
    standard_output_kept,
    stdout_console,
    write_json,
)

if TYPE_CHECKING:
    from litesmith.study import Study


def study(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY.toml]", help="The study file; the built-in study if none."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for all results.")
    ] = Path("litesmith-study"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a study in that folder stopped.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="size, speed, balanced or tour: variants without a recipe being written.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Without a study file: .keras, .h5, builtin:NAME, applications:NAME or "
            "module:function.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Without a study file: digits, idx:DIR, npz:FILE, images:DIR, keras:NAME, "
            "tfds:NAME or module:function.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=0, metavar="N", help="Of training and of each fine-tuning."),
    ] = None,
    image_size: ImageSize = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Train, prune, quantize, export and measure many variants of one model; then report.

    With --model and --data, or --preset alone, no study file is needed: the one that was run is in
    DIR/study.toml. Exits with 1 where a variant failed. A study that was stopped goes on with
    --resume.
    """
    from litesmith.cli import progress
    from litesmith.comparison import compare
    from litesmith.study import run

    asked = _asked(file, preset, model, data, epochs, image_size)
    try:
        with standard_output_kept(), progress.shown() as shown:
            result = run(asked, output, resume=resume, progress=shown)
    except KeyboardInterrupt:
        options = [file] if file else []
        again = ["litesmith", "study", *(options if isinstance(asked, str) else asked.arguments)]
        complain(f"interrupted; go on with: {shlex.join(again)} -o {output} --resume")
        return 130
    failed = [variant for variant in result.variants if variant.status == "failed"]
    if as_json:
        write_json(result)
    else:
        comparison = compare(result)
        console = stdout_console()
        for sentence in comparison.verdict:
            console.print(sentence, markup=False, highlight=False)
        console.print(comparison.table())
        console.print(f"report: {output / 'report.html'}", markup=False, highlight=False)
        if not isinstance(asked, str) and (output / "study.toml").is_file():
            console.print(
                f"again, or otherwise: edit {output / 'study.toml'}, and "
                f"litesmith study {output / 'study.toml'} -o DIR",
                markup=False,
                highlight=False,
            )
    for variant in failed:
        complain(f"error: variant {variant.name!r} failed: {variant.error}")
    return 1 if failed else 0


def _asked(
    file: str | None,
    preset: str | None,
    model: str | None,
    data: str | None,
    epochs: int | None,
    image_size: str | None,
) -> Study | str:
    """The study that the options stand for, or the name of its file."""
    from litesmith.errors import StudyError
    from litesmith.study import Study, presets

    about = {"--model": model, "--data": data, "--epochs": epochs, "--image-size": image_size}
    given = [name for name, value in about.items() if value is not None]
    if file is not None:
        if given:
            raise StudyError(
                "study",
                expected="a study file, or --model and --data",
                received=f"{file} and {given[0]}",
                fix="write it into the file",
            )
        return file if preset is None else Study.load(file).with_preset(preset, file)
    if preset is None and not given:
        return "builtin:digits"
    if (model is None) != (data is None):
        raise StudyError(
            "study",
            expected="--model and --data together",
            received="--model" if data is None else "--data",
            fix="name both; without both the built-in model and its digits are taken",
        )
    return presets.make(
        preset or presets.DEFAULT,
        model=model or "builtin:digits",
        data=data or "digits",
        epochs=epochs,
        image_size=parse_size(image_size) if image_size is not None else None,
    )
