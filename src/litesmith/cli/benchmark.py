"""`litesmith benchmark`: latency, load time, memory and sizes of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from litesmith.cli.common import Debug, Json, kilobytes, stdout_console, working, write_json


def benchmark(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A .tflite; a .keras, .h5, SavedModel or module:function is converted first.",
        ),
    ],
    runs: Annotated[int, typer.Option("--runs", min=1, help="Timed runs a repeat.")] = 50,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Untimed runs first.")] = 5,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Fresh processes.")] = 3,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Measure a model in fresh processes on this machine."""
    from litesmith.benchmarking import benchmark as measure

    with working(f"measuring {model}"):
        result = measure(model, runs=runs, warmup=warmup, repeats=repeats, threads=threads)
    if as_json:
        write_json(result.to_dict())
        return 0
    console = stdout_console()
    latency, memory, size = result.latency_ms, result.memory, result.size
    for name, text in (
        ("latency", f"p50 {latency['p50']:.3f} ms, p95 {latency['p95']:.3f} ms"),
        ("load", f"{result.load_ms:.1f} ms"),
        ("memory", f"peak {kilobytes(memory['peak_rss'])}, arena {kilobytes(memory['arena'])}"),
        (
            "size",
            f"file {kilobytes(size['file'])}, zip {kilobytes(size['zip'])}, "
            f"entropy {kilobytes(size['entropy'])}",
        ),
        ("threads", f"{result.threads}"),
    ):
        console.print(f"{name:<8}  {text}", markup=False, highlight=False)
    return 0
