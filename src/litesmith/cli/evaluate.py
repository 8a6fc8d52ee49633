"""`litesmith evaluate`: a model's metrics on data."""

from __future__ import annotations

from typing import Annotated

import typer

from litesmith.cli.common import (
    Data,
    Debug,
    ImageSize,
    Json,
    Metrics,
    Split,
    Threads,
    split_of,
    stdout_console,
    working,
    write_json,
)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .keras, .h5 or .tflite file, a SavedModel folder, or module:function.",
        ),
    ],
    data: Data,
    metric: Metrics = None,
    split: Split = "test",
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="MODEL", help="Also tell how often both give the same class."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1)] = None,
    threads: Threads = None,
    image_size: ImageSize = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Score a Keras model or a .tflite, with the same metrics for both."""
    from litesmith import evaluation

    with working(f"loading {data}"):
        samples = split_of(data, split, image_size)
    with working(f"evaluating {model} on {len(samples):,} samples") as tell:
        result = evaluation.evaluate(
            model,
            samples,
            metric or ["accuracy"],
            batch_size=batch_size,
            num_threads=threads,
            reference=reference,
            progress=tell,
        )
    if as_json:
        write_json(
            {
                "model": model,
                "data": data,
                "split": split,
                "samples": result.samples,
                "metrics": dict(result.metrics),
                "agreement": result.agreement,
                "seconds": result.seconds,
            }
        )
        return 0
    console = stdout_console()
    rows = {**result.metrics}
    if result.agreement is not None:
        rows["agreement"] = result.agreement
    width = max(map(len, rows))
    for name, value in rows.items():
        console.print(f"{name:<{width}}  {value:.4f}", markup=False, highlight=False)
    return 0
