"""`litesmith compare`: models side by side, on the same data and machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litesmith.cli.common import (
    Data,
    Debug,
    ImageSize,
    Json,
    Metrics,
    Split,
    classes_and_split,
    complain,
    stdout_console,
    working,
    write_json,
)
from litesmith.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from litesmith import data as sources
    from litesmith.comparison import Comparison

_REPORTS = (".html", ".md", ".json")


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="The first one is the baseline.")
    ],
    data: Data,
    metric: Metrics = None,
    split: Split = "test",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A report: .html, .md or .json."),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop",
            metavar="METRIC=DROP",
            help="Exit with 1 where a model loses more than this against the first.",
        ),
    ] = None,
    image_size: ImageSize = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Evaluate and measure several models and compare them."""
    from litesmith import comparison, evaluation, files
    from litesmith.benchmarking import benchmark
    from litesmith.study.replay import Recorder

    drops = dict(_parse_drop(text) for text in max_drop or [])
    if output is not None and output.suffix not in _REPORTS:
        raise InputError(
            "-o",
            expected=f"a path that ends in {', '.join(_REPORTS)}",
            received=str(output),
            fix="name it so",
        )
    if output is not None:
        files.check_writable(output)
    metrics = [*(metric or ["accuracy"])]
    metrics += [name for name in drops if name not in metrics]
    with working(f"loading {data}"):
        classes, samples = classes_and_split(data, split, image_size)
    results, names, answers = [], _names(models), []
    for name, model in zip(names, models, strict=True):
        with working(f"evaluating and measuring {model}"):
            with evaluation.runner(model) as opened:
                recorder = Recorder(opened)
                evaluated = evaluation.evaluate(recorder, samples, metrics)
            measured = benchmark(model)
        results.append((name, evaluated, measured))
        answers.append(recorder.answers)
    compared = comparison.compare(
        [part for _, *parts in results for part in parts],
        names=[name for name, *parts in results for _ in parts],
        max_drop=drops or None,
    )
    _note_changed(compared, answers, samples, classes)
    if output is not None:
        compared.save(output)
    if as_json:
        write_json(compared.to_dict())
    else:
        console = stdout_console()
        for sentence in compared.verdict:
            console.print(sentence, markup=False, highlight=False)
        console.print(compared.table())
        if output is not None:
            console.print(f"report: {output}", markup=False, highlight=False)
    for missed in compared.missed:
        complain(f"missed: {missed}")
    return 1 if compared.missed else 0


def _note_changed(
    compared: Comparison,
    answers: Sequence[np.ndarray | None],
    samples: sources.Split,
    classes: Sequence[str] | None,
) -> None:
    """Give each variant the samples that it answers otherwise than the first."""
    from litesmith.study import changed

    kind = changed.kind_of(answers[0], samples.y)
    found = [changed.answers(each, kind) for each in answers]
    for variant, after in zip(compared.variants[1:], found[1:], strict=True):
        if found[0] is not None and after is not None:
            variant.changed = changed.compare(found[0], after, samples, classes)


def _parse_drop(text: str) -> tuple[str, float]:
    """`accuracy=0.01` as a metric and how much of it may be lost."""
    name, equals, value = text.partition("=")
    try:
        drop = float(value)
    except ValueError:
        drop = -1.0
    if not (name and equals and 0 <= drop < float("inf")):
        raise InputError(
            "--max-drop",
            expected="METRIC=DROP, as in accuracy=0.01",
            received=repr(text),
            fix="0.01 is one point of accuracy",
        )
    return name, drop


def _names(models: list[str]) -> list[str]:
    """The files' names without folders and endings, as far as that tells them apart.

    Only the first may be called `baseline`: a comparison takes the one of that name for it.
    """
    for name in (lambda path: path.stem, lambda path: path.name, str, os.path.abspath):
        names = [name(Path(model)) for model in models]
        if len(set(names)) == len(names) and "baseline" not in names[1:]:
            return names
    twice = next(model for model, name in zip(models, names, strict=True) if names.count(name) > 1)
    raise InputError(
        "models", expected="different models", received=f"{twice} twice", fix="name each once"
    )
