"""Which tensor of a `.tflite` holds which Keras kernel, told by value.

Names are no guide: the converter renames and fuses. But a kernel's values arrive either as they
are, transposed and reshaped (HWIO → OHWI, IO → OI), or, where a BatchNorm or a constant factor was
folded in, scaled by one factor per output channel. Both are recognised exactly, zeros included:
folding keeps zeros, so a pruned kernel is known by its pattern of zeros as well.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from litesmith.export.flatbuffer import Flatbuffer, Tensor

# Folding is done in float32: a few roundings.
_TOLERANCE = 2e-5
# An RNN's gates are the most pieces a kernel is cut into.
_MAX_PIECES = 4

# Operators whose second input is a kernel; in a file without a Keras model these are the kernels.
_KERNEL_INPUT = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
    "CONV_3D": 1,
    "CONV_3D_TRANSPOSE": 1,
    "BATCH_MATMUL": 1,
    "EMBEDDING_LOOKUP": 1,
    "GATHER": 0,
}


@dataclass(frozen=True)
class Kernel:
    """A kernel and a tensor that holds it; one kernel may have several (gates, shared layers).

    Attributes:
        layer: path of the outermost layer in the model, names joined by "/".
        variable: path of the Keras variable.
        tensor: name of the tensor in the float `.tflite`.
        shape: the tensor's shape.
        folded: whether a scale per output channel was multiplied in.
    """

    layer: str
    variable: str
    tensor: str
    shape: tuple[int, ...]
    folded: bool = False


@dataclass(frozen=True)
class _Source:
    layer: str
    variable: str
    value: np.ndarray


@dataclass(frozen=True)
class _Candidate:
    tensor: Tensor
    value: np.ndarray
    hints: str  # names around it: its own and those of what its consumers give


def of_model(model: Any, file: Flatbuffer) -> tuple[tuple[Kernel, ...], tuple[str, ...]]:
    """Find every kernel of a Keras model in its float `.tflite`, all subgraphs.

    Args:
        model: the Keras model it was converted from.
        file: the `.tflite`.

    Returns:
        What was found, in the model's order, and the paths of kernels that were not.
    """
    from litesmith.parametrize import find_kernels

    sources = [
        _Source(kernel.path, kernel.variable.path, _float(kernel.value()))
        for kernel in find_kernels(model)
        if not kernel.variable.name.endswith("bias")  # attention's and GRU's have two axes
    ]
    return match(sources, file)


def of_file(file: Flatbuffer) -> tuple[Kernel, ...]:
    """The kernels of a `.tflite` whose Keras model nobody knows.

    These are the float constants that operators like CONV_2D take as their weights; `layer` and
    `variable` are then the tensor's name.

    Args:
        file: a float `.tflite`.
    """
    found: dict[str, Kernel] = {}
    for graph in file.subgraphs:
        for operator in graph.operators:
            place = _KERNEL_INPUT.get(operator.name)
            if place is None or place >= len(operator.inputs) or operator.inputs[place] < 0:
                continue
            tensor = graph.tensors[operator.inputs[place]]
            if tensor.constant and len(tensor.shape) > 1 and tensor.type.startswith("FLOAT"):
                found.setdefault(
                    tensor.name, Kernel(tensor.name, tensor.name, tensor.name, tensor.shape)
                )
    return tuple(found.values())


def match(
    sources: Sequence[_Source], file: Flatbuffer
) -> tuple[tuple[Kernel, ...], tuple[str, ...]]:
    """Assign tensors to kernels by value (see `of_model`)."""
    by_size: dict[int, list[tuple[int, _Source]]] = defaultdict(list)
    for place, source in enumerate(sources):
        by_size[source.value.size].append((place, source))
    taken: dict[int, list[tuple[_Candidate, bool]]] = defaultdict(list)
    candidates = _candidates(file)
    for candidate in candidates:
        best = _best(candidate, by_size, taken)
        if best is not None:
            place, folded = best
            taken[place].append((candidate, folded))
    for place, source in enumerate(sources):
        if place not in taken:  # kernels that are equal share one tensor
            equal = (c for c in candidates if _kind_of_match(source.value, c.value, 1) == "exact")
            taken[place] += [(candidate, False) for candidate in itertools.islice(equal, 1)]
    found, missing = [], []
    for place, source in enumerate(sources):
        if not taken[place]:
            missing.append(source.variable)
        for candidate, folded in taken[place]:
            tensor = candidate.tensor
            found.append(Kernel(source.layer, source.variable, tensor.name, tensor.shape, folded))
    return tuple(found), tuple(missing)


def _candidates(file: Flatbuffer) -> list[_Candidate]:
    """Float constants with two axes or more, once a name, with the names around them."""
    found: dict[str, _Candidate] = {}
    for graph in file.subgraphs:
        around: dict[int, list[str]] = defaultdict(list)
        for operator in graph.operators:
            for index in operator.inputs:
                around[index] += [graph.tensors[output].name for output in operator.outputs]
        for tensor in graph.tensors:
            if not tensor.constant or tensor.type != "FLOAT32" or len(tensor.shape) < 2:
                continue
            value = tensor.data
            if value is not None and value.size > 1 and tensor.name not in found:
                hints = ";".join([tensor.name, *around[tensor.index]])
                found[tensor.name] = _Candidate(tensor, value, hints)
    return list(found.values())


def _best(
    candidate: _Candidate,
    by_size: dict[int, list[tuple[int, _Source]]],
    taken: dict[int, list[tuple[_Candidate, bool]]],
) -> tuple[int, bool] | None:
    """The kernel a tensor holds: exact before folded, then by name, then one not found yet."""
    fits: list[tuple[tuple[int, int, int, int], int, bool]] = []
    size = candidate.value.size
    for pieces in range(1, _MAX_PIECES + 1):
        for place, source in by_size.get(size * pieces, ()):
            kind = _kind_of_match(source.value, candidate.value, pieces)
            if kind is None:
                continue
            if kind == "any" and not _named(source, candidate):
                continue
            rank = (
                ("exact", "folded", "any").index(kind),
                0 if _named(source, candidate) else 1,
                len(taken.get(place, ())),
                place,
            )
            fits.append((rank, place, kind != "exact"))
        if fits:
            break
    if not fits:
        return None
    _, place, folded = min(fits)
    return place, folded


def _kind_of_match(kernel: np.ndarray, tensor: np.ndarray, pieces: int) -> str | None:
    """How a tensor's values come from a kernel's.

    Returns:
        ``"exact"``; ``"folded"`` where each channel is multiplied by a factor; ``"any"`` where
        each channel has a single value, so that any tensor of the shape would do; None.
    """
    if kernel.size != tensor.size * pieces:
        return None
    if pieces > 1:
        return "exact" if _is_piece(kernel, tensor, pieces) else None
    best = None
    for laid_out in _layouts(kernel, tensor.shape):
        if np.array_equal(laid_out, tensor):
            return "exact"
        if best != "folded":
            best = _proportional(laid_out, tensor) or best
    return best


def channel_scales(
    kernel: np.ndarray, scale: np.ndarray, tensor: np.ndarray, axis: int
) -> np.ndarray | None:
    """The scale of each channel of a tensor, from the scale of the kernel it holds.

    A factor that was multiplied into a channel is multiplied into its scale.

    Args:
        kernel: the Keras kernel, on the grid.
        scale: its scale; broadcasts to it.
        tensor: the tensor's values.
        axis: of the tensor, its channels.

    Returns:
        float32 [channels]; None where the tensor is no such kernel, or a channel has two scales.
    """
    whole = np.broadcast_to(np.asarray(scale, np.float64), kernel.shape)
    pairs = zip(_layouts(kernel, tensor.shape), _layouts(whole, tensor.shape), strict=True)
    for laid_out, scales in pairs:
        exact = np.array_equal(laid_out, tensor)
        if not exact and not _proportional(laid_out, tensor):
            continue
        source = np.moveaxis(laid_out, axis, 0).reshape(tensor.shape[axis], -1)
        target = np.moveaxis(tensor, axis, 0).reshape(source.shape)
        rows = np.moveaxis(scales, axis, 0).reshape(source.shape)
        if (rows != rows[:, :1]).any():
            continue
        place = np.abs(source).argmax(axis=1)[:, None]
        top = np.take_along_axis(source.astype(np.float64), place, 1)[:, 0]
        got = np.take_along_axis(target.astype(np.float64), place, 1)[:, 0]
        factor = np.abs(np.divide(got, top, out=np.ones_like(top), where=top != 0))
        return (rows[:, 0] * np.where(factor > 0, factor, 1.0)).astype(np.float32)
    return None


def _layouts(kernel: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The kernel with its axes in every order, reshaped; axes of size 1 do not count."""
    bare = kernel.reshape([size for size in kernel.shape if size > 1] or [1])
    wanted = [size for size in shape if size > 1]
    for order in itertools.permutations(range(bare.ndim)):
        if _groups([bare.shape[axis] for axis in order], wanted):
            yield bare.transpose(order).reshape(shape)


def _groups(sizes: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether the axes, in this order, run together into the wanted ones, or the other way."""
    ends = set(itertools.accumulate(sizes, lambda a, b: a * b))
    others = set(itertools.accumulate(wanted, lambda a, b: a * b))
    return ends <= others or others <= ends


def _proportional(kernel: np.ndarray, tensor: np.ndarray) -> str | None:
    """Whether ``tensor = factor · kernel`` with one factor a channel, the first or last axis."""
    vacuous = False
    for axis in (0, tensor.ndim - 1):
        channels = tensor.shape[axis]
        source = np.moveaxis(kernel, axis, 0).reshape(channels, -1)
        target = np.moveaxis(tensor, axis, 0).reshape(channels, -1)
        if ((source == 0) & (target != 0)).any():
            continue
        # Division in float64; the largest weight of the channel gives the factor.
        largest = np.abs(source).argmax(axis=1)
        rows = np.arange(channels)
        top = source[rows, largest].astype(np.float64)
        factor = np.divide(target[rows, largest], top, out=np.zeros(channels), where=top != 0)
        off = np.abs(target - source * factor[:, None]).max(axis=1)
        if (off <= _TOLERANCE * np.abs(target).max(axis=1) + 1e-12).all():
            if (np.count_nonzero(source, axis=1) > 1).any():
                return "folded"
            vacuous = True
    return "any" if vacuous else None


def _is_piece(kernel: np.ndarray, tensor: np.ndarray, pieces: int) -> bool:
    """Whether the tensor is one of equal parts of the kernel along one axis."""
    for axis, size in enumerate(kernel.shape):
        if size % pieces:
            continue
        for part in np.split(kernel, pieces, axis=axis):
            if any(np.array_equal(laid, tensor) for laid in _layouts(part, tensor.shape)):
                return bool(np.count_nonzero(tensor))
    return False


def _named(source: _Source, candidate: _Candidate) -> bool:
    """Whether the names around a tensor mention the kernel's layer.

    Keras opens a layer's scope twice, so that `dense` may show up as `dense_1`.
    """
    parts = source.variable.split("/")[:-1] or [source.layer.rsplit("/", 1)[-1]]
    segments = set(re.split(r"[/;]", candidate.hints))
    name = parts[-1]
    return name in segments or any(re.fullmatch(re.escape(name) + r"_\d+", s) for s in segments)


def _float(value: np.ndarray) -> np.ndarray:
    return np.asarray(value, np.float32)
