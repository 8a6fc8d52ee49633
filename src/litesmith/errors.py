"""Every error litesmith raises on purpose, and how it is worded.

    LitesmithError
    ├── InputError            what was given is wrong; the command line exits with 2
    │   ├── RecipeError       a recipe, a technique's field, a schedule, `where`
    │   ├── ModelError        a model file, its layers or its weights
    │   ├── DataError         a data source, a shape, labels, calibration samples
    │   ├── PresetError       an export preset or its options
    │   ├── StudyError        a study file or its output folder
    │   └── OutputError       a file or folder that cannot be written: forbidden, a full disk
    ├── ExportError           conversion or quantization failed
    ├── EvaluationError       a model could not be run on the data
    ├── BenchmarkError        a model could not be measured
    └── ChildError            a child process died, hung or answered nonsense

An error says what was expected, what came, and what to do:

    >>> raise RecipeError("sparsity", expected="a number from 0 up to 1", received=1.5,
    ...                   fix="write 0.8 for 80 %")
    RecipeError: sparsity: expected a number from 0 up to 1, received 1.5; write 0.8 for 80 %
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class LitesmithError(Exception):
    """Base of all errors raised by litesmith.

    Args:
        problem: where or what went wrong, a few words.
        expected: what would have been right.
        received: what came instead; shown with `repr` unless it is already a string.
        fix: what to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        received: Any = None,
        fix: str | None = None,
    ):
        self.problem, self.expected, self.received, self.fix = problem, expected, received, fix
        text = problem
        parts = []
        if expected is not None:
            parts.append(f"expected {expected}")
        if received is not None:
            shown = received if isinstance(received, str) else repr(received)
            parts.append(f"received {shown}")
        if parts:
            text += ": " + ", ".join(parts)
        if fix:
            text += "; " + fix
        super().__init__(text)


class InputError(LitesmithError, ValueError):
    """What was given is wrong: nothing was run, nothing was written."""


class RecipeError(InputError):
    """A recipe, a technique, a schedule, a granularity or a `where` is wrong."""


class ModelError(InputError):
    """A model, its file or its weights cannot be used."""


class DataError(InputError):
    """A data source or the data in it cannot be used."""


class PresetError(InputError):
    """An export preset, or an option that goes with it, is wrong."""


class StudyError(InputError):
    """A study file or its output folder is wrong."""


class OutputError(InputError, OSError):
    """A file or folder cannot be written; nothing half-written is left."""


class ExportError(LitesmithError, RuntimeError):
    """A model could not be converted or quantized."""


class EvaluationError(LitesmithError, RuntimeError):
    """A model could not be run on the data."""


class BenchmarkError(LitesmithError, RuntimeError):
    """A model could not be measured."""


class ChildError(LitesmithError, RuntimeError):
    """A child process died, hung, or answered nonsense."""


class LitesmithWarning(UserWarning):
    """Something that is allowed but is probably not what was meant."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The end of an error's sentence: the nearest real name, or all of them.

    Args:
        name: what was written.
        choices: what could have been written.

    Returns:
        ``"did you mean 'prune'?"`` or ``"choose one of 'prune', 'quantize'"``.
    """
    choices = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if not choices:
        return "there is nothing to choose from"
    shown = ", ".join(repr(choice) for choice in choices[:12])
    return f"choose one of {shown}" + (", …" if len(choices) > 12 else "")
