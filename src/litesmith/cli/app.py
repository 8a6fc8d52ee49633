"""The `litesmith` command: its subcommands, its exit codes, its one-line errors.

Exit codes: 0 done; 1 a threshold was missed, or something failed while it ran; 2 the command or
its input was wrong; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from litesmith._version import __version__
from litesmith.cli import benchmark, compare, evaluate, export, inspect, study
from litesmith.cli.common import complain, guarded

app = typer.Typer(
    name="litesmith",
    help="Make a trained Keras 3 model small and fast, and prove what that cost.",
    epilog="Run `litesmith study` to see all of it on a small built-in model.",
    rich_markup_mode=None,  # plain help: rich takes longer to import than all the rest
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _function, _summary in (
    (study.study, "Make and measure many variants of one model; report."),
    (inspect.inspect, "Show layers, sizes, and what could be done to them."),
    (export.export, "Write a model as a .tflite, quantized or not."),
    (evaluate.evaluate, "Score a Keras model or a .tflite on data."),
    (benchmark.benchmark, "Measure latency, load time, memory and sizes."),
    (compare.compare, "Evaluate and measure several models side by side."),
):
    app.command(_function.__name__, short_help=_summary)(guarded(_function))


def _show_version(asked: bool) -> None:
    if asked:
        print(f"litesmith {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Make a trained Keras 3 model small and fast, and prove what that cost."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    try:
        code = app(
            args=None if arguments is None else list(arguments),
            prog_name="litesmith",
            standalone_mode=False,
        )
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except Exception as error:
        # Typer's own errors say how to end; their classes have moved between its versions.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
            print(context.get_help(), file=sys.stderr)
            return 2
        path = context.command_path if context is not None else "litesmith"
        complain(f"error: {message().rstrip('.')}; see {path} --help")
        return int(getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The console script."""
    sys.exit(run())
