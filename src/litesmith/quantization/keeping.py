"""Ranges and grids in a plain Keras file.

A stripped model holds no class of ours, and Keras keeps nothing in a `.keras` file but configs and
weights. Yet `export` needs the ranges that training found. They are written into initializers: a
bias that starts from zeros may as well start from numbers below 1e-9, and a layer without a bias
has an initializer that is never called. Both are of Keras's own class, `Constant`, and are saved
and loaded by anybody; a clone of the model starts from where it would have.

Each number holds six bytes, exactly: a whole number of 48 bits times 2⁻⁸⁰, which a float64 and its
decimal form keep.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import (
    Kernel,
    find_kernels,
    find_scales,
    is_norm,
    norm_factors,
    outermost_layers,
)
from litesmith.quantization import core

layers = keras.layers
_MARK = 0x4C53  # of the first number; four bytes of length follow
_BYTES, _SMALL = 6, 2.0**-80
_WITH_BIAS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    layers.Dense,
)


def keep(model: keras.Model, about: Mapping[str, Any]) -> bool:
    """Write what was trained into a stripped model's initializers.

    Args:
        model: the stripped model.
        about: `{"recipe", "activations", "ranges", "kernels", "stored"}`, the last optional; the
            recipe is left out where there is no room for it.

    Returns:
        Whether there was room: a range takes some ten bytes, a kernel and its scales some dozen.
    """
    slots = list(_slots(model))
    about = {"stored": {}, **about}
    pairs = zip(about["stored"].items(), _likely_stored(model, about), strict=True)
    stored = {key: scale for (key, scale), likely in pairs if scale.size == likely.size}
    about = {**about, "stored": stored}
    for recipe in (about.get("recipe"), None):
        numbers = _numbers(_packed(model, {**about, "recipe": recipe}))
        # One that is never called has room for all.
        endless = [slot for slot in slots if slot[2] is None]
        chosen = endless[:1] or slots
        room = math.inf if endless else sum(slot[2] or 0 for slot in slots)
        if len(numbers) <= room:
            _write(chosen, numbers)
            return True
    return False


def kept(model: keras.Model) -> dict[str, Any] | None:
    """What `keep` wrote into a model, also one that was saved and loaded since.

    Returns:
        As it was given; None where there is nothing, or the weights are others by now.
    """
    numbers: list[float] = []
    for layer, name, _ in _slots(model):
        value = getattr(getattr(layer, name), "value", None)
        if isinstance(getattr(layer, name), keras.initializers.Constant) and value is not None:
            if np.ndim(value) == 1:
                numbers += [float(each) for each in np.asarray(value, np.float64)]
    if not numbers or not _is_start(numbers[0]):
        return None
    try:
        return _unpacked(model, _bytes(numbers))
    except (ValueError, KeyError, IndexError, TypeError, zlib.error):
        return None


Slot = tuple[Any, str, int | None]


def _slots(model: keras.Model) -> Iterator[Slot]:
    """Layer, name of an initializer, and how many numbers it has room for; None: any."""
    for _, layer in outermost_layers(model):
        if type(layer) in _WITH_BIAS:
            yield from _slot(layer, "bias_initializer", layer.bias if layer.use_bias else None)
        elif type(layer) is layers.BatchNormalization:
            yield from _slot(layer, "beta_initializer", layer.beta if layer.center else None)
            yield from _slot(layer, "moving_mean_initializer", layer.moving_mean)


def _slot(layer: Any, name: str, variable: Any) -> Iterator[Slot]:
    initializer = getattr(layer, name)
    ours = isinstance(initializer, keras.initializers.Constant)
    if variable is None:
        yield layer, name, None
    elif isinstance(initializer, keras.initializers.Zeros) or ours:
        yield layer, name, int(np.prod(variable.shape))


def _write(slots: list[Slot], numbers: list[float]) -> None:
    for layer, name, room in slots:
        if not numbers:
            return
        count = len(numbers) if room is None else room
        part, numbers = numbers[:count], numbers[count:]
        part += [0.0] * (count - len(part))
        setattr(layer, name, keras.initializers.Constant(part))


def _numbers(content: bytes) -> list[float]:
    head = _MARK.to_bytes(2, "big") + len(content).to_bytes(4, "big")
    whole = head + content
    whole += b"\0" * (-len(whole) % _BYTES)
    return [
        int.from_bytes(whole[start : start + _BYTES], "big") * _SMALL
        for start in range(0, len(whole), _BYTES)
    ]


def _is_start(number: float) -> bool:
    whole = number / _SMALL
    return 0 <= whole < 2**48 and whole == int(whole) and int(whole) >> 32 == _MARK


def _bytes(numbers: list[float]) -> bytes:
    whole = b"".join(int(number / _SMALL).to_bytes(_BYTES, "big") for number in numbers)
    return whole[_BYTES : _BYTES + int.from_bytes(whole[2:_BYTES], "big")]


def _digest(kernels: list[Kernel]) -> str:
    """Of the weights that were trained: others have other grids."""
    found = hashlib.sha256()
    for kernel in kernels:
        found.update(np.ascontiguousarray(kernel.value(), np.float32).tobytes())
    return found.hexdigest()[:12]


def _packed(model: keras.Model, about: Mapping[str, Any]) -> bytes:
    kernels = find_kernels(model)
    numbers = {(k.path, k.variable.path): n for n, k in enumerate(kernels)}
    grids, steps = [], []
    for key, (bits, scale) in about["kernels"].items():
        scale = np.asarray(scale, np.float32)
        grids.append([numbers[key], bits, list(scale.shape)])
        steps.append(_distance(scale, _likely(kernels[numbers[key]], bits, scale.shape)).ravel())
    for key, likely in zip(about["stored"], _likely_stored(model, about), strict=True):
        steps.append(_distance(np.ravel(about["stored"][key]), likely))
    places = list(about["ranges"])
    ends = np.asarray([about["ranges"][place] for place in places], "<f4")
    data = {
        "recipe": about["recipe"],
        "activations": about["activations"],
        "places": places,
        "kernels": grids,
        "stored": [numbers[key] for key in about["stored"]],
        "digest": _digest([kernels[grid[0]] for grid in grids]),
    }
    head = json.dumps(data, separators=(",", ":")).encode()
    tail = np.concatenate(steps).astype("<i4").tobytes() if steps else b""
    return zlib.compress(len(head).to_bytes(4, "big") + head + ends.tobytes() + tail, 9)


def _unpacked(model: keras.Model, content: bytes) -> dict[str, Any] | None:
    whole = zlib.decompress(content)
    start = 4 + int.from_bytes(whole[:4], "big")
    data = json.loads(whole[4:start])
    kernels = find_kernels(model)
    taken = [kernels[grid[0]] for grid in data["kernels"]]
    if _digest(taken) != data["digest"]:
        return None
    after = start + 8 * len(data["places"])
    ends = np.frombuffer(whole[start:after], "<f4").reshape(-1, 2)
    steps = np.frombuffer(whole[after:], "<i4")
    grids, done = {}, 0
    for kernel, (_, bits, shape) in zip(taken, data["kernels"], strict=True):
        size = int(np.prod(shape))
        likely = _likely(kernel, bits, tuple(shape))
        found = likely.view(np.int32) + steps[done : done + size].reshape(shape)
        grids[kernel.path, kernel.variable.path] = (bits, found.view(np.float32))
        done += size
    keys = [(kernels[number].path, kernels[number].variable.path) for number in data["stored"]]
    stored = {}
    likely_ones = _likely_stored(model, {"kernels": grids, "stored": keys})
    for key, likely in zip(keys, likely_ones, strict=True):
        found = likely.view(np.int32) + steps[done : done + likely.size]
        stored[key] = found.view(np.float32)
        done += likely.size
    return {
        "recipe": data["recipe"],
        "activations": data["activations"],
        "ranges": {
            place: (float(low), float(high))
            for place, (low, high) in zip(data["places"], ends, strict=True)
        },
        "kernels": grids,
        "stored": stored,
    }


def _likely_stored(model: keras.Model, about: Mapping[str, Any]) -> list[np.ndarray]:
    """About what each of `stored` is: the grid's own scale times the BatchNorm's factor."""
    by_key = {(each.path, each.variable.path): each for each in find_kernels(model)}
    kernels = [by_key[key] for key in about["stored"]]
    scales = find_scales(model, kernels)
    found = []
    for key, kernel in zip(about["stored"], kernels, strict=True):
        likely = np.ravel(about["kernels"][key][1]).astype(np.float64)
        after = scales.get(id(kernel.variable))
        if after is not None and not after.before and is_norm(after.layer):
            factor = np.abs(keras.ops.convert_to_numpy(norm_factors(after.layer)[0])).ravel()
            if likely.size in (1, factor.size):
                likely = likely * np.where(factor > 0, factor, 1.0)
        found.append(likely.astype(np.float32))
    return found


def _likely(kernel: Kernel, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """The scale that the largest weight tells: most often the very one, or next to it."""
    weight = np.asarray(kernel.value(), np.float64)
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    largest = np.abs(weight).max(axis=axes, keepdims=True) if axes else np.abs(weight)
    return np.ascontiguousarray((largest / core.limit(bits)).reshape(shape), np.float32)


def _distance(scale: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """How many float32 numbers lie between two."""
    return np.ascontiguousarray(scale, np.float32).view(np.int32) - likely.view(np.int32)
