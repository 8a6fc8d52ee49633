"""Whether a prepared model, and the `.tflite` made of it, hold what the report says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from litesmith import parametrize
from litesmith.recipe import Recipe
from litesmith.technique import Plan, Technique

# How far the probabilities of a small model may be from those of the stripped one, where the
# prepared model rounds each activation to eight bits, as only the file will.
ROUNDING = 0.5


def plans(prepared: keras.Model, recipe: Recipe) -> list[tuple[Technique, Plan]]:
    """Each technique and what it did to each kernel.

    Args:
        prepared: what `prepare` returned.
        recipe: what it was prepared with.
    """
    kernels = {(k.path, k.variable.path): k for k in parametrize.find_kernels(prepared)}
    return [
        (
            recipe.techniques[entry.position],
            Plan(kernels[entry.layer, entry.variable], detail=entry.detail),
        )
        for entry in prepared.report.done
    ]


def broken_in_model(prepared: keras.Model, recipe: Recipe, *, finished: bool) -> Iterator[str]:
    """What the weights that the prepared model uses break, one line each.

    Args:
        prepared: what `prepare` returned, trained or not.
        recipe: what it was prepared with.
        finished: whether training has gone past the schedule.
    """
    for technique, plan in plans(prepared, recipe):
        broken = technique.broken_promise(_used(prepared, plan), plan, finished=finished)
        if broken:
            yield f"{plan.kernel.variable.path}: {broken}"


def _used(prepared: keras.Model, plan: Plan) -> np.ndarray:
    # Zeros stay zeros in folding; what is promised of values is promised of the folded ones.
    for variable, value in parametrize.used_weights(plan.kernel.layer, folded=True):
        if variable is plan.kernel.variable:
            return keras.ops.convert_to_numpy(value)
    raise AssertionError(f"{plan.kernel.variable.path} is reported as done, but is not")


def broken_in_file(
    prepared: keras.Model, recipe: Recipe, float_model: Any, content: bytes
) -> Iterator[str]:
    """What the kernels of a `.tflite` break, one line each.

    Args:
        prepared: what `prepare` returned, trained past its schedule.
        recipe: what it was prepared with.
        float_model: `litesmith.export.convert(strip(prepared))`; knows which tensor holds what.
        content: the bytes of the `.tflite`: the float one, or one derived from it.
    """
    stored = kernels_in_file(float_model, content)
    for technique, plan in plans(prepared, recipe):
        path = (plan.kernel.path, plan.kernel.variable.path)
        if path not in stored:
            yield f"{path[1]} is not found in the .tflite"
        elif broken := technique.broken_promise(stored[path], plan, finished=True):
            yield f"in the .tflite, {path[1]}: {broken}"


def kernels_in_file(float_model: Any, content: bytes) -> dict[tuple[str, str], np.ndarray]:
    """The values of each kernel in a `.tflite`, flat, by the paths of its layer and variable.

    Args:
        float_model: what `litesmith.export.convert` gave.
        content: the bytes of a `.tflite` derived from it; integers are given as stored.
    """
    from litesmith.export.flatbuffer import read

    tensors = {tensor.name: tensor for graph in read(content).subgraphs for tensor in graph.tensors}
    parts: dict[tuple[str, str], list[np.ndarray]] = {}
    for kernel in float_model.kernels:
        data = tensors[kernel.tensor].data
        assert data is not None
        parts.setdefault((kernel.layer, kernel.variable), []).append(np.asarray(data).ravel())
    return {path: np.concatenate(values) for path, values in parts.items()}
