"""`litesmith study`: a model, many variants, one report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from litesmith.cli.common import (
    Debug,
    Json,
    complain,
    standard_output_kept,
    stdout_console,
    write_json,
)


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
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Train, prune, quantize, export and measure many variants of one model; then report.

    Exits with 1 where a variant failed. A study that was stopped goes on with --resume.
    """
    from litesmith.cli import progress
    from litesmith.comparison import compare
    from litesmith.study import run

    try:
        with standard_output_kept(), progress.shown() as shown:
            result = run(file or "builtin:digits", output, resume=resume, progress=shown)
    except KeyboardInterrupt:
        again = f"litesmith study {file or ''} -o {output} --resume".replace("  ", " ")
        complain(f"interrupted; go on with: {again}")
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
    for variant in failed:
        complain(f"error: variant {variant.name!r} failed: {variant.error}")
    return 1 if failed else 0
