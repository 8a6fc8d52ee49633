"""Ranges of a float model's tensors over sample data, in batches.

litert-quantizer's own calibration runs one sample at a time in Python. Ours resizes the inputs to
a batch, lets LiteRT keep every tensor, and reduces each to one minimum and maximum a sample, from
which both of its rules follow exactly:

- ``"moving_average"`` (the quantizer's default): ``r ← 0.95 r + 0.05 r_sample``, in order;
- ``"min_max"`` (ours): the extremes over all samples.

LiteRT runs in a child process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litesmith.children import kept
from litesmith.errors import ChildError, DataError, ExportError, PresetError, did_you_mean
from litesmith.export.flatbuffer import Flatbuffer
from litesmith.export.float_model import FloatModel
from litesmith.export.specs import TensorSpec

RULES = ("min_max", "moving_average")
_BATCH = 16
# A batch that takes this long is taken for a hang.
_TIMEOUT = 600.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranges by tensor name, made once and shared by presets.

    Attributes:
        ranges: smallest and largest value of each float tensor.
        samples: how many samples were seen.
        rule: how they were combined.
        model: SHA-256 of the float `.tflite` they belong to.
    """

    ranges: Mapping[str, tuple[float, float]] = field(repr=False)
    samples: int
    rule: str
    model: str

    def check(self, model: FloatModel) -> None:
        """Raise a DataError if the ranges are another model's."""
        if self.model != hashlib.sha256(model.content).hexdigest():
            raise DataError(
                "calibration",
                expected="one made for this conversion",
                received="one of another model",
                fix="call calibrate(float_model, data) again",
            )

    def for_quantizer(self, file: Flatbuffer) -> dict[str, dict[str, np.ndarray]]:
        """The ranges as litert-quantizer takes them: arrays of the tensor's rank."""
        ranks = {tensor.name: len(tensor.shape) for tensor in file.subgraphs[0].tensors}
        return {
            name: {
                "min": np.full((1,) * ranks.get(name, 0), low, np.float32),
                "max": np.full((1,) * ranks.get(name, 0), high, np.float32),
            }
            for name, (low, high) in self.ranges.items()
        }


def calibrate(
    model: FloatModel,
    data: Any,
    samples: int = 200,
    *,
    rule: str = "min_max",
    batch_size: int = _BATCH,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Run samples through a float model and keep the range of every tensor.

    Args:
        model: the float conversion.
        data: an array; a dict or list of arrays, one an input; a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a torch `DataLoader`, or a generator of batches. Labels are
            left out.
        samples: how many to take at most.
        rule: ``"min_max"`` or ``"moving_average"``.
        batch_size: samples LiteRT runs at once.
        progress: called with the number of samples done.

    Returns:
        The ranges.

    Raises:
        DataError: no samples, a wrong shape or name, NaN or infinity.
        ExportError: LiteRT cannot run the model.
    """
    if rule not in RULES:
        raise PresetError(
            "calibration rule", expected="a rule", received=rule, fix=did_you_mean(rule, RULES)
        )
    from litesmith.data import batches

    done = 0
    content = np.frombuffer(model.content, np.uint8)
    with kept("litesmith.export.litert_child", timeout=_TIMEOUT) as child:
        try:
            child.call("open_for_calibration", [content])
            for arrays in _checked(batches(data, batch_size, limit=samples), model.inputs):
                for start in range(0, len(arrays[0]), batch_size):
                    part = [array[start : start + batch_size] for array in arrays]
                    child.call("feed", part)
                    done += len(part[0])
                    if progress is not None:
                        progress(done)
            if not done:
                raise DataError(
                    "calibration",
                    expected="some samples",
                    received="none",
                    fix="give some of the training data",
                )
            fields, (low, high) = child.call("ranges", rule=rule)
        except ChildError as error:
            raise ExportError(f"LiteRT cannot run the float model: {error}") from error
    ranges = {
        name: (float(a), float(b)) for name, a, b in zip(fields["names"], low, high, strict=True)
    }
    return Calibration(ranges, done, rule, hashlib.sha256(model.content).hexdigest())


def _checked(
    source: Iterator[tuple[Any, Any]], inputs: tuple[TensorSpec, ...]
) -> Iterator[list[np.ndarray]]:
    for values, _ in source:
        yield ordered(values, inputs)


def ordered(values: Any, inputs: tuple[TensorSpec, ...]) -> list[np.ndarray]:
    """One array for each input of the model, in order, of its type; checked.

    Args:
        values: an array, or a dict or list of arrays.
        inputs: what the model takes.

    Raises:
        DataError: a missing or unknown input, a wrong shape, NaN or infinity.
    """
    names = [spec.name for spec in inputs]
    if isinstance(values, Mapping):
        for name in values:
            if name not in names:
                raise DataError(
                    "calibration",
                    expected=f"arrays for the inputs {', '.join(map(repr, names))}",
                    received=name,
                    fix=did_you_mean(name, names),
                )
        missing = [name for name in names if name not in values]
        if missing:
            raise DataError(
                "calibration",
                expected=f"an array for input {missing[0]!r}",
                received="none",
                fix="give one for each input",
            )
        arrays = [values[name] for name in names]
    else:
        arrays = list(values) if isinstance(values, (list, tuple)) else [values]
        if len(arrays) != len(names):
            raise DataError(
                "calibration",
                expected=f"{len(names)} inputs ({', '.join(map(repr, names))})",
                received=f"{len(arrays)}",
                fix="give one array an input",
            )
    return [_fitting(np.asarray(a), spec) for a, spec in zip(arrays, inputs, strict=True)]


def _fitting(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    wanted = spec.shape
    fits = array.ndim == len(wanted) and all(
        size in (-1, got) for size, got in zip(wanted[1:], array.shape[1:], strict=True)
    )
    if not fits:
        shown = ", ".join("any" if size < 0 else str(size) for size in wanted[1:])
        fix = "give data as the model was trained on"
        if array.ndim == len(wanted) - 1 and wanted[-1] == 1 and array.shape[1:] == wanted[1:-1]:
            fix = "add the channel axis: x[..., None]"
        elif array.ndim == len(wanted) - 1:
            fix = "add the batch axis: x[None]"
        raise DataError(
            f"calibration: input {spec.name!r}",
            expected=f"samples of shape ({shown})",
            received=f"an array of shape {tuple(array.shape)}",
            fix=fix,
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"calibration: input {spec.name!r}",
            expected="finite numbers",
            received="NaN or infinity",
            fix="clean the data, as for training",
        )
    if len(array) == 0:
        raise DataError(
            "calibration",
            expected="some samples",
            received="none",
            fix="give some of the training data",
        )
    return np.ascontiguousarray(array, np.dtype(spec.dtype))
