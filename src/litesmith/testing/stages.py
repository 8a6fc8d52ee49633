"""Whether what each technique promised holds when they come one after the other.

    from litesmith.testing import check_stages

    check_stages(Prune(sparsity=0.5), Cluster(clusters=4), Quantize())

prepares, trains, and prepares again with the next technique, in two ways: the prepared model
itself, and the stripped one. Between stages zeros may not move; after the last one all promises are
looked for in the `.tflite`, its integers too.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from litesmith import parametrize
from litesmith.errors import LitesmithWarning
from litesmith.recipe import Recipe, origin, prepare, strip
from litesmith.technique import Technique
from litesmith.testing import contract, promises
from litesmith.testing.kinds import KINDS

Way = Literal["prepared", "stripped"]
WAYS: tuple[Way, ...] = ("prepared", "stripped")


def check_stages(
    *techniques: Technique,
    kinds: Iterable[str] = ("sequential",),
    ways: Iterable[Way] = WAYS,
) -> None:
    """Check that techniques keep, stage by stage, what those before them promised.

    Args:
        *techniques: in order, one a stage. A schedule should end within 12 steps.
        kinds: names of `litesmith.testing.KINDS`.
        ways: "prepared" prepares the prepared model again, "stripped" the stripped one.

    Raises:
        AssertionError: one line for each thing that does not hold.
    """
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", LitesmithWarning)
        for kind in kinds:
            for way in ways:
                folder = Path(name) / f"{len(problems)}{kind}{way}"
                folder.mkdir()
                case = contract.Case(KINDS[kind], Recipe(*techniques), folder, [])
                _check(case, way)
                problems += [f"{way}, {problem}" for problem in case.problems]
    assert not problems, f"{len(problems)} broken:\n" + "\n".join(problems)


def _check(case: contract.Case, way: Way) -> None:
    kind, recipe = case.kind, case.recipe
    x, _ = kind.data()
    model: Any = kind.make()
    for number, technique in enumerate(recipe):
        prepared = prepare(model, technique)
        known = origin(prepared)
        assert known is not None and known.recipe is not None
        case.expect(known.recipe == Recipe(*recipe.techniques[: number + 1]), "a stage is missing")
        if number:
            _same_zeros(case, model, prepared)
        contract.compile_for_test(prepared)
        contract.fit_for_test(prepared, kind, contract.EPOCHS)
        for broken in promises.broken_in_model(prepared, known.recipe, finished=True):
            case.expect(False, f"after {technique.name}, {broken}")
        last = number == len(recipe) - 1
        model = prepared if way == "prepared" or last else strip(prepared)
    case.prepared = model
    contract.check_strip(case)
    contract.check_exported(case)


def _same_zeros(case: contract.Case, before: Any, after: Any) -> None:
    """Before the next training step, what was zero is, and nothing else."""
    for (path, had), (_, has) in zip(_used(before), _used(after), strict=True):
        moved = int(((had == 0) != (has == 0)).sum())
        case.expect(moved == 0, f"{moved} zeros of {path} move from one stage to the next")


def _used(model: Any) -> list[tuple[str, np.ndarray]]:
    """Each kernel's path, and the values that its layer uses."""
    found = []
    for kernel in parametrize.find_kernels(model):
        values = kernel.value()
        if parametrize.is_parametrized(kernel.layer):
            for variable, used in parametrize.used_weights(kernel.layer, folded=True):
                if variable is kernel.variable:
                    values = keras.ops.convert_to_numpy(used)
        found.append((kernel.variable.path, values))
    return found
