"""What a model takes and gives, and data put into that form.

Shapes here are per batch: the first dimension is the batch's, and None stands for a dimension
the model leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from litesmith.errors import DataError, did_you_mean


@dataclass(frozen=True)
class TensorSpec:
    """An input or an output of a model.

    Attributes:
        name: what the model calls it; a dict of inputs is matched by it.
        shape: with the batch dimension, which is None; None as well where the size is free.
            None altogether where the model does not tell (a subclassed Keras model).
        dtype: numpy name of the element type the model stores; ``"int8"`` for an integer-only one.
        scale: quantization scale, where the integers stand for real numbers.
        zero_point: the integer that stands for 0.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    scale: float | None = None
    zero_point: int = 0

    @property
    def sample_bytes(self) -> int:
        """Bytes of one float32 sample, free dimensions counted as one."""
        return 4 * math.prod(size or 1 for size in (self.shape or (1,))[1:])


def arrange(inputs: Any, specs: Sequence[TensorSpec]) -> list[np.ndarray]:
    """Put one batch into the model's order and check it.

    Args:
        inputs: an array for a model of one input; a dict by name; a list or tuple in order.
            Each array of shape `(batch, …)`.
        specs: the model's inputs, in its own order.

    Returns:
        The arrays in the model's order, not copied.

    Raises:
        DataError: a wrong number of inputs, an unknown name, a wrong shape, unequal lengths, or
            numbers that are not finite.
    """
    if isinstance(inputs, Mapping):
        arrays = _by_name(inputs, specs)
    elif isinstance(inputs, (list, tuple)):
        arrays = list(inputs)
    else:
        arrays = [inputs]
    if len(arrays) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise DataError(
            "inputs",
            expected=f"{len(specs)} ({names})",
            received=f"{len(arrays)}",
            fix="give one array an input",
        )
    arrays = [as_array(array) for array in arrays]
    for array, spec in zip(arrays, specs, strict=True):
        _check(array, spec, alone=len(specs) == 1)
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise DataError(
            "inputs",
            expected="the same number of samples in each",
            received=", ".join(f"{s.name}: {len(a)}" for s, a in zip(specs, arrays, strict=True)),
            fix="give each input the same samples",
        )
    return arrays


def as_array(value: Any) -> np.ndarray:
    """A numpy view of an array or a tensor of any backend, copied only where it has to be."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):  # a torch tensor, perhaps on another device or with gradients
        value = value.detach().cpu()
    return np.asarray(value)


def _by_name(inputs: Mapping[str, Any], specs: Sequence[TensorSpec]) -> list[Any]:
    names = [spec.name for spec in specs]
    for key in inputs:
        if key not in names:
            raise DataError(f"input {key!r} is unknown to the model", fix=did_you_mean(key, names))
    missing = [name for name in names if name not in inputs]
    if missing:
        raise DataError(
            "inputs",
            expected=", ".join(names),
            received=", ".join(map(str, inputs)) or "none",
            fix="give an array for each",
        )
    return [inputs[name] for name in names]


def _check(array: np.ndarray, spec: TensorSpec, *, alone: bool) -> None:
    what = "data" if alone else f"input {spec.name!r}"
    if array.dtype.kind not in "fiub":
        raise DataError(
            what,
            expected="numbers",
            received=f"dtype {array.dtype}",
            fix="turn them into numbers first",
        )
    if spec.shape is not None:
        wanted, got = spec.shape[1:], array.shape[1:]
        fits = array.ndim == len(spec.shape) and all(
            size in (None, there) for size, there in zip(wanted, got, strict=True)
        )
        if not fits:
            raise DataError(
                f"{what}: shape of a sample",
                expected=shown(wanted),
                received=shown(got) if array.ndim else "a single number",
                fix=_shape_hint(wanted, got),
            )
    check_finite(array, what)


def shown(shape: Sequence[int | None]) -> str:
    """A shape as text: ``(28, 28, 1)``, with ``any`` for a free dimension."""
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def _shape_hint(wanted: Sequence[int | None], got: Sequence[int]) -> str:
    if len(got) == len(wanted) - 1 and wanted[-1] == 1 and tuple(wanted[:-1]) == tuple(got):
        return "add the channel dimension: x[..., None]"
    sizes = [size for size in wanted if size is not None]
    if len(sizes) == len(wanted) and math.prod(sizes) == math.prod(got):
        return f"reshape each sample to {shown(wanted)}"
    return "check that data and model belong together"


def check_finite(array: np.ndarray, what: str) -> None:
    """Raise a `DataError` that names the first sample holding NaN or infinity."""
    # The sum is one pass without a temporary; only an unusual one is looked at closely.
    if array.dtype.kind != "f" or not array.size or np.isfinite(_quiet_sum(array)):
        return
    bad = first_not_finite(array)
    if bad is not None:
        sample, kind = bad
        raise DataError(
            what,
            expected="finite numbers",
            received=f"{kind} in sample {sample} of the batch",
            fix="clean the data first",
        )


def first_not_finite(array: np.ndarray) -> tuple[int, str] | None:
    """The first sample that holds NaN or infinity, and which of the two; None where all is well."""
    rows = array.reshape(len(array), -1)
    bad = ~np.isfinite(rows).all(axis=1)
    if not bad.any():
        return None
    sample = int(bad.argmax())
    return sample, "NaN" if np.isnan(rows[sample]).any() else "infinity"


def _quiet_sum(array: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(array.sum(dtype=np.float64 if array.dtype.itemsize < 4 else None))
