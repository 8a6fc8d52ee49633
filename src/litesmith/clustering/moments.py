"""Second moments of what a kernel multiplies, gathered over some samples.

The output of a layer is W'x; where W changes by D, the outputs change by D'x, in squared mean
D'E[xx']D for each output. Means are left out, x being centered: a bias or a BatchNorm takes them
up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import Kernel, Scale, factors, hear_inputs

layers = keras.layers

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
# Inputs that are seen together; beyond, those of other input channels count as unrelated.
_BLOCK = 1024
# Rows of inputs (positions of a convolution) looked at, for each input of a block, and at least.
_ROWS, _LEAST_ROWS = 4, 4096


@dataclasses.dataclass(frozen=True)
class Form:
    """How a kernel is laid out as a matrix [taps · inputs, outputs].

    Attributes:
        shape: the kernel's.
        taps: positions of a convolution's window; 1 for a dense layer.
        inputs: channels that each output sees.
        apart: whether each input channel has outputs of its own (depthwise).
    """

    shape: tuple[int, ...]
    taps: int
    inputs: int
    apart: bool

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        """The kernel, or anything of its shape, as [rows, outputs]."""
        return kernel.reshape(self.taps * (1 if self.apart else self.inputs), -1)

    def blocks(self) -> list[np.ndarray]:
        """Rows of the matrix that are seen together: all taps of some input channels."""
        if self.apart:
            return [np.arange(self.taps)]
        channels = max(1, _BLOCK // self.taps)
        rows = np.arange(self.taps * self.inputs).reshape(self.taps, self.inputs)
        return [rows[:, i : i + channels].ravel() for i in range(0, self.inputs, channels)]


def form_of(layer: keras.layers.Layer, shape: Sequence[int]) -> Form | None:
    """The form of a layer's kernel; None where its inputs are not followed."""
    shape = tuple(shape)
    if type(layer) is layers.Dense:
        return Form(shape, 1, shape[0], False)
    plain = getattr(layer, "data_format", "channels_last") == "channels_last"
    if isinstance(layer, _DEPTHWISE) and plain:
        return Form(shape, math.prod(shape[:-2]), shape[-2], True)
    if isinstance(layer, _CONVOLUTIONS) and plain and layer.groups == 1:
        return Form(shape, math.prod(shape[:-2]), shape[-2], False)
    return None


def gather(
    model: keras.Model, kernels: Mapping[int, Kernel], samples: Sequence[Any]
) -> dict[int, Moments]:
    """Moments of what kernels multiply while a model runs.

    Args:
        model: a built model, prepared or not.
        kernels: of it, by any key.
        samples: batches of inputs, numpy.

    Returns:
        By the same keys; kernels whose inputs are not followed are left out.
    """
    found: dict[int, Moments] = {}
    by_layer: dict[int, list[Moments]] = {}
    for key, kernel in kernels.items():
        owner = kernel.owners[-1][1]
        form = form_of(owner, kernel.shape)
        if form is not None and getattr(owner, "kernel", None) is kernel.variable:
            before = kernel.scale is not None and kernel.scale.before
            found[key] = Moments(owner, form, kernel.scale if before else None)
            by_layer.setdefault(id(owner), []).append(found[key])

    def heard(layer: keras.layers.Layer, inputs: np.ndarray) -> None:
        for each in by_layer[id(layer)]:
            each.add(inputs)

    layers_of = [each.layer for each in found.values()]
    total = sum(len(keras.tree.flatten(batch)[0]) for batch in samples)
    for each in found.values():
        each.expect(total)
    for batch in samples:
        hear_inputs(model, batch, layers_of, heard)
    return {key: each for key, each in found.items() if each.count}


class Moments:
    """Sums of x and xx' over the inputs of one kernel, block by block."""

    def __init__(self, layer: Any, form: Form, scale: Scale | None = None):
        self.layer, self.form, self.scale = layer, form, scale
        self.blocks = form.blocks()
        self._per_sample = 1
        copies = form.inputs if form.apart else 1
        self._squares = [np.zeros((copies, len(b), len(b)), np.float64) for b in self.blocks]
        self._sums = [np.zeros((copies, len(b)), np.float64) for b in self.blocks]
        self.count = 0
        self._rng = np.random.default_rng(0)

    def expect(self, samples: int) -> None:
        """Be told how many samples there are: so many windows are looked at in each."""
        rows = max(_LEAST_ROWS, _ROWS * len(self.blocks[0]))
        self._per_sample = max(1, math.ceil(rows / max(1, samples)))

    def add(self, inputs: np.ndarray) -> None:
        """Look at a batch of the layer's inputs, float32."""
        rows = self._windows(inputs)  # [positions, taps, channels]
        if self.form.apart:
            apart = np.moveaxis(rows, 2, 0).astype(np.float64)  # [channels, positions, taps]
            self._squares[0] += np.swapaxes(apart, 1, 2) @ apart
            self._sums[0] += apart.sum(axis=1)
        else:
            flat = rows.reshape(len(rows), -1)
            for block, squares, sums in zip(self.blocks, self._squares, self._sums, strict=True):
                part = flat[:, block]
                squares[0] += part.T @ part
                sums[0] += part.sum(axis=0)
        self.count += len(rows)

    def covariances(self) -> list[np.ndarray]:
        """Each block's E[xx'] of centered x, float32 [1 or outputs, rows, rows].

        Where a scale of the inputs is folded into the kernel, x is what the folded kernel takes.
        """
        found = []
        for squares, sums in zip(self._squares, self._sums, strict=True):
            mean = sums / max(1, self.count)
            found.append(squares / max(1, self.count) - mean[:, :, None] * mean[:, None, :])
        if self.scale is not None:
            factor = keras.ops.convert_to_numpy(factors(self.scale.layer)).astype(np.float64)
            if self.form.apart:
                found[0] /= np.square(factor)[:, None, None]
            else:
                whole = np.tile(factor, self.form.taps)
                for place, rows in enumerate(self.blocks):
                    found[place] /= np.outer(whole[rows], whole[rows])
        if self.form.apart:  # as many outputs of each channel as the multiplier says
            found[0] = np.repeat(found[0], self.form.shape[-1], axis=0)
        return [each.astype(np.float32) for each in found]

    def _windows(self, inputs: np.ndarray) -> np.ndarray:
        """Some of the windows that the kernel multiplies, drawn at random."""
        if self.form.taps == 1 and not hasattr(self.layer, "kernel_size"):
            rows = inputs.reshape(-1, inputs.shape[-1])
            wanted = self._per_sample * len(inputs)
            if len(rows) > wanted:
                rows = rows[self._rng.choice(len(rows), wanted, replace=False)]
            return rows[:, None, :]
        layer, axes = self.layer, range(1, inputs.ndim - 1)
        size, step = layer.kernel_size, layer.strides
        reach = [(k - 1) * d + 1 for k, d in zip(size, layer.dilation_rate, strict=True)]
        inputs = np.pad(inputs, [(0, 0), *self._padding(inputs.shape, reach, step), (0, 0)])
        counts = [(inputs.shape[a] - r) // s + 1 for a, r, s in zip(axes, reach, step, strict=True)]
        wanted = min(self._per_sample, math.prod(counts))
        chosen = [
            np.unravel_index(self._rng.choice(math.prod(counts), wanted, replace=False), counts)
            for _ in range(len(inputs))
        ]
        corners = np.concatenate([np.stack(each, 1) for each in chosen]) * np.array(step)
        sample = np.repeat(np.arange(len(inputs)), wanted)
        offsets = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
        offsets = offsets.reshape(-1, len(size)) * np.array(layer.dilation_rate)
        places = corners[:, None, :] + offsets[None, :, :]  # [positions, taps, axes]
        return inputs[(sample[:, None], *np.moveaxis(places, 2, 0))]

    def _padding(
        self, shape: Sequence[int], reach: Sequence[int], step: Sequence[int]
    ) -> list[tuple[int, int]]:
        kind = self.layer.padding
        if kind == "valid":
            return [(0, 0)] * len(reach)
        if kind == "causal":
            return [(reach[0] - 1, 0)]
        found = []
        for length, r, s in zip(shape[1:-1], reach, step, strict=True):
            total = max((math.ceil(length / s) - 1) * s + r - length, 0)
            found.append((total // 2, total - total // 2))
        return found
