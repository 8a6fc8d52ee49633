"""Inputs to run a `.tflite` on when nobody has any: the finished file's trial, and benchmarks.

It is imported in child processes: numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from litesmith.export.flatbuffer import Flatbuffer

S = TypeVar("S")
T = TypeVar("T")

# What an open dimension (other than the batch) is tried at: an image's side or a sequence's
# length. Size 1 is last: few convolutions and poolings have anything to do with it.
TRIAL_SIZES = (32, 224, 1)
REALISTIC_SIZES = (224, 32, 1)


def sizes_to_try(model: Flatbuffer, sizes: Sequence[int]) -> list[int]:
    """All of `sizes` where an input has an open dimension besides its batch; else just one."""
    graph = model.subgraphs[0]
    shapes = [graph.tensors[index].shape_signature for index in graph.inputs]
    return list(sizes if any(-1 in shape[1:] for shape in shapes) else sizes[:1])


def first_that_runs(sizes: Sequence[S], run: Callable[[S], T]) -> T:
    """What `run` gives at the first size that LiteRT takes; the first error where it takes none."""
    problem: Exception | None = None
    for size in sizes:
        try:
            return run(size)
        except (RuntimeError, ValueError) as error:  # litesmith's own are among these
            problem = problem or error
    assert problem is not None
    raise problem


def resize(interpreter: Any, size: int, batch: int = 1) -> None:
    """Give each open dimension of the inputs a size, and the first one that of the batch."""
    for detail in interpreter.get_input_details():
        before = [int(each) for each in detail["shape"]]
        shape = [size if each == -1 else int(each) for each in detail["shape_signature"]]
        if shape and (batch != 1 or detail["shape_signature"][0] == -1):
            shape[0] = batch
        if shape != before:
            interpreter.resize_tensor_input(detail["index"], shape)


def fill(interpreter: Any, rng: np.random.Generator) -> None:
    """Set random inputs on an allocated interpreter."""
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _noise(detail, rng))


def _noise(detail: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """An input to run on: what the numbers are does not change a dense model's latency.

    Integers without a scale are token ids, as a rule: 0 is one in every vocabulary.
    """
    shape, dtype = detail["shape"], np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return rng.random(shape, dtype=np.float32).astype(dtype)
    if dtype.kind in "iu" and detail["quantization_parameters"]["scales"].size:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)
