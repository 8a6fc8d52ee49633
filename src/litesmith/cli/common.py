"""What all commands share: options, output, errors, silence."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litesmith.errors import InputError, LitesmithError, LitesmithWarning, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

BACKENDS = ("tensorflow", "jax", "torch")

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="digits, idx:DIR, npz:FILE, images:DIR, keras:NAME, tfds:NAME or module:function.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME", help="May be repeated. [default: accuracy]"),
]
ImageSize = Annotated[
    str | None,
    typer.Option("--image-size", metavar="HxW", help="For images: and tfds: data, as in 96x96."),
]
Split = Annotated[str, typer.Option("--split", help="train, validation or test.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to run with.")]


def guarded(function: Callable[..., int]) -> Callable[..., int]:
    """A command that ends in an exit code and one line on standard error, whatever happens.

    Args:
        function: takes `debug` among its options; returns its exit code.
    """

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> int:
        debug = bool(options.get("debug"))
        try:
            with _silence(debug):
                choose_backend()
                return function(*arguments, **options)
        except KeyboardInterrupt:
            complain("interrupted")
            return 130
        except BrokenPipeError:
            # Whoever read our output has gone; Python would complain about it at exit again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 1
        except Exception as error:  # noqa: BLE001  the last line of defence
            if debug:
                traceback.print_exc()
            code, message = _told(error)
            complain(f"error: {' '.join(message.split())}")
            return code

    return command


def _told(error: Exception) -> tuple[int, str]:
    """The exit code and the line for an error."""
    if isinstance(error, LitesmithError):
        return (2 if isinstance(error, InputError) else 1), str(error)
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return 2, str(
            InputError(
                str(error.filename or "the disk"),
                expected="a file or folder that can be used",
                received=said.lower(),
                fix="free some space" if full else "see that the path is right, and who may use it",
            )
        )
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return 1, f"unexpected: {said}; run again with --debug for the traceback"


def complain(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def choose_backend() -> None:
    """Settle which backend Keras will use, before it is imported.

    `KERAS_BACKEND` rules; then Keras's own settings file; where what that names is not installed,
    whichever backend is.

    Raises:
        InputError: no such backend, or none is installed.
    """
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    asked = os.environ.get("KERAS_BACKEND")
    if asked:
        if asked not in BACKENDS:
            raise InputError(
                "KERAS_BACKEND",
                expected=" or ".join(BACKENDS),
                received=repr(asked),
                fix=did_you_mean(asked, BACKENDS),
            )
        if asked not in installed:
            raise InputError(
                f"KERAS_BACKEND names {asked}, which is not installed",
                fix=f"install litesmith[{asked}]",
            )
        return
    if not installed:
        raise InputError(
            "no Keras backend is installed",
            fix="install litesmith[tensorflow], litesmith[jax] or litesmith[torch]",
        )
    if _configured() not in installed:
        os.environ["KERAS_BACKEND"] = installed[0]


def _configured() -> str:
    """What Keras would choose by itself."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    try:
        return str(json.loads(Path(home, "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


@contextlib.contextmanager
def _silence(debug: bool) -> Iterator[None]:
    """Keep libraries' chatter off the terminal, and litesmith's own warnings to a line each.

    TensorFlow and XLA write to file descriptor 2 whatever their log level says, so that goes
    nowhere (but for `--debug`), and Python's standard error to a copy of it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("absl", "tensorflow", "jax", "litert_quantizer", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LitesmithWarning)
        warnings.showwarning = lambda message, *rest, **more: complain(f"warning: {message}")
        if not debug and sys.stderr is sys.__stderr__:
            stack.enter_context(_native_errors_dropped())
        yield


@contextlib.contextmanager
def _native_errors_dropped() -> Iterator[None]:
    sys.stderr.flush()
    kept, python_errors = os.dup(2), sys.stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        sys.stderr.close()
        sys.stderr = python_errors


@contextlib.contextmanager
def standard_output_kept() -> Iterator[None]:
    """Send what is printed meanwhile, by native code too, to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # where native errors are dropped, so is native output
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def working(text: str) -> Iterator[Callable[[int, int | None], None]]:
    """Long work: a moving line on a terminal, a plain one elsewhere; standard output stays clean.

    Args:
        text: what is being done.

    Yields:
        A function to tell how far it is: how many are done, and of how many (None if unknown).
    """
    with standard_output_kept():
        if not sys.stderr.isatty():
            complain(text)
            yield lambda done, total: None
            return
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=stderr_console(), transient=True) as bar:
            task = bar.add_task(escape(text), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def stderr_console() -> Console:
    """A rich console on standard error."""
    from rich.console import Console

    return Console(stderr=True)


def stdout_console() -> Console:
    """A rich console on standard output; wide where it is no terminal: tables stay whole."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True)


def write_json(content: Any) -> None:
    """The one JSON document; numbers that JSON does not know become null."""
    print(json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(by_alias=True))
    if hasattr(value, "tolist"):  # a numpy number or array
        return _plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value


def split_of(source: str, split: str, image_size: str | None) -> Any:
    """One split of a data source, from the current folder; see `classes_and_split`."""
    return classes_and_split(source, split, image_size)[1]


def classes_and_split(source: str, split: str, image_size: str | None) -> tuple[Any, Any]:
    """The names of a data source's classes, or None, and one of its splits.

    Raises:
        InputError: no such split, or the source cannot be loaded.
    """
    from litesmith import data

    names = ("train", "validation", "test")
    if split not in names:
        raise InputError(
            "--split", expected=" or ".join(names), received=split, fix=did_you_mean(split, names)
        )
    size = parse_size(image_size) if image_size is not None else None
    found = data.load(source, image_size=size, root=Path.cwd())
    return found.classes, found.splits[split]


def parse_size(text: str) -> tuple[int, int]:
    """`96x96` as height and width.

    Raises:
        InputError: it is something else.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(
            "--image-size",
            expected="HEIGHTxWIDTH, as in 96x96",
            received=text,
            fix="give both, in pixels",
        )
    return int(parts[0]), int(parts[1])


def kilobytes(count: float | None) -> str:
    """Bytes as a table shows them; 1 kB is 1,000 bytes."""
    return "–" if count is None else f"{count / 1000:,.1f} kB"
