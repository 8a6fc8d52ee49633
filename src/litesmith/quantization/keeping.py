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

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from litesmith.parametrize import Kernel, find_kernels, outermost_layers

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
        about: `{"recipe", "activations", "ranges", "kernels"}`; the recipe is left out where there
            is no room for it.

    Returns:
        Whether there was room: about two bytes for each channel of the model's biases and
        BatchNorms.
    """
    slots = list(_slots(model))
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
    grids = [
        [numbers[key], bits, list(scale.shape), _text(scale)]
        for key, (bits, scale) in about["kernels"].items()
    ]
    places = list(about["ranges"])
    ends = np.asarray([about["ranges"][place] for place in places], np.float32)
    data = {
        "recipe": about["recipe"],
        "activations": about["activations"],
        "places": places,
        "ends": _text(ends),
        "kernels": grids,
        "digest": _digest([kernels[grid[0]] for grid in grids]),
    }
    return zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)


def _unpacked(model: keras.Model, content: bytes) -> dict[str, Any] | None:
    data = json.loads(zlib.decompress(content))
    kernels = find_kernels(model)
    taken = [kernels[grid[0]] for grid in data["kernels"]]
    if _digest(taken) != data["digest"]:
        return None
    ends = _array(data["ends"]).reshape(-1, 2)
    return {
        "recipe": data["recipe"],
        "activations": data["activations"],
        "ranges": {
            place: (float(low), float(high))
            for place, (low, high) in zip(data["places"], ends, strict=True)
        },
        "kernels": {
            (kernel.path, kernel.variable.path): (bits, _array(text).reshape(shape))
            for kernel, (_, bits, shape, text) in zip(taken, data["kernels"], strict=True)
        },
    }


def _text(values: np.ndarray) -> str:
    return base64.b85encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _array(text: str) -> np.ndarray:
    return np.frombuffer(base64.b85decode(text), "<f4").copy()
