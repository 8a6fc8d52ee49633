"""Any data a Keras user has, as batches of numpy arrays.

Export calibrates on it, evaluation scores on it. Tensors of TensorFlow, JAX and torch are known
by what they can do, so that none of the three is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from litesmith.errors import DataError

Inputs = np.ndarray | dict[str, np.ndarray] | list[np.ndarray]
Batch = tuple[Inputs, Inputs | None]

_KINDS = (
    "an array, (x, y), a dict or list of arrays (one an input), a Split, a tf.data.Dataset, "
    "a keras PyDataset, a torch DataLoader or an iterable of batches"
)


def batches(data: Any, batch_size: int = 32, *, limit: int | None = None) -> Iterator[Batch]:
    """Go through data in batches.

    Args:
        data: what holds the samples, along the first axis everywhere:

            - an array or tensor ``x``; ``(x, y)`` or ``(x, y, sample_weight)`` (the weights are
              left out), where ``y`` may be None;
            - several inputs: a dict of arrays by input name, or a list in the model's order;
            - a `litesmith.data.Split`;
            - batches as Keras' `fit` takes them: a `tf.data.Dataset`, a `keras.utils.PyDataset`,
              a torch `DataLoader`, a generator, any iterable, or a function that returns one.
              A batch is ``x`` or a tuple or list of one to three: ``x, y, sample_weight``. These
              keep their own batch size.
        batch_size: samples a batch, for arrays.
        limit: stop after this many samples; None takes all.

    Yields:
        Inputs (an array, or a dict or list of arrays) and labels, or None where there are none.

    Raises:
        DataError: data of another kind, none at all, endless without a `limit`, not numeric, or
            with unequal numbers of samples.
    """
    _check_count("batch_size", batch_size)
    if limit is not None:
        _check_count("limit", limit)
    return _limited(_source(data, batch_size, limit is not None), limit)


def to_numpy(value: Any, what: str = "data") -> np.ndarray:
    """An array or tensor of any backend, as a numeric numpy array.

    Args:
        value: the array, tensor, or nested list of numbers.
        what: its name in an error.

    Raises:
        DataError: it is ragged, or of text or objects.
    """
    try:
        if hasattr(value, "detach"):  # torch: off the graph and off the device first
            value = value.detach().cpu()
            if "bfloat16" in str(value.dtype):  # numpy has no such type
                value = value.float()
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            what, expected="an array of numbers", received=_describe(value), fix=_one_line(error)
        ) from error
    if array.dtype.kind not in "biufV" or array.dtype.fields:
        raise DataError(
            what,
            expected="an array of numbers",
            received=f"one of {array.dtype}",
            fix="convert it to float32 or integers, of the same shape for every sample",
        )
    if array.dtype.kind == "V":  # ml_dtypes (bfloat16, float8) come without a numpy kind
        array = array.astype(np.float32)
    return array


def _source(data: Any, batch_size: int, limited: bool) -> Iterator[Batch]:
    """Which kind of data it is: decided at once, so that a wrong one fails before any work."""
    if data is None or isinstance(data, str | bytes | bool | int | float):
        raise _wrong_kind(data)
    if hasattr(data, "as_numpy_iterator"):  # tf.data
        if not limited and int(data.cardinality()) == -1:
            raise _endless("the tf.data.Dataset repeats for ever")
        return _from_iterable(data.as_numpy_iterator)
    if hasattr(data, "num_batches") and hasattr(data, "__getitem__"):  # keras.utils.PyDataset
        count = data.num_batches
        if count is None and not limited:
            raise _endless("the PyDataset has no number of batches")
        return _from_iterable(lambda: _indexed(data, count))
    if hasattr(data, "x") and hasattr(data, "y"):  # Split
        return _from_arrays(data.x, data.y, batch_size)
    if hasattr(data, "train") and hasattr(data, "test"):
        raise DataError(
            "data",
            expected="one split of the dataset",
            received="the whole Dataset",
            fix="pass its .train, .validation or .test",
        )
    if isinstance(data, tuple):
        if len(data) not in (1, 2, 3):
            raise DataError(
                "data",
                expected="a tuple (x, y)",
                received=f"a tuple of {len(data)} items",
                fix="give (x, y)",
            )
        return _from_arrays(data[0], data[1] if len(data) > 1 else None, batch_size)
    if isinstance(data, list) and data and isinstance(data[0], tuple | dict):
        return _from_iterable(lambda: data)
    if isinstance(data, dict | list) or hasattr(data, "__array__") or _sliceable(data):
        return _from_arrays(data, None, batch_size)
    if callable(data):
        return _from_iterable(data)
    if isinstance(data, Iterable):
        return _from_iterable(lambda: data)
    raise _wrong_kind(data)


def _from_arrays(x: Any, y: Any, batch_size: int) -> Iterator[Batch]:
    inputs, labels = _columns(x, "inputs"), None if y is None else _columns(y, "labels")
    count = _length(inputs, "inputs")
    if count == 0:
        raise _empty()
    if labels is not None and _length(labels, "labels") != count:
        raise DataError(
            "data",
            expected=f"as many labels as inputs ({count})",
            received=f"{_length(labels, 'labels')} labels",
            fix="give one label a sample",
        )

    def work() -> Iterator[Batch]:
        for start in range(0, count, batch_size):
            part = slice(start, min(start + batch_size, count))
            yield _cut(inputs, part), None if labels is None else _cut(labels, part)

    return work()


def _from_iterable(make: Callable[[], Any]) -> Iterator[Batch]:
    def work() -> Iterator[Batch]:
        produced = make()
        if not isinstance(produced, Iterable):
            raise DataError(
                "data",
                expected="a function that returns batches",
                received=_describe(produced),
                fix="return an iterator of batches",
            )
        some = False
        for item in produced:
            batch = _unpack(item)
            if _length(batch[0], "inputs"):
                some = True
                yield batch
        if not some:
            raise _empty()

    return work()


def _indexed(data: Any, count: int | None) -> Iterator[Any]:
    index = 0
    while count is None or index < count:
        yield data[index]
        index += 1


def _unpack(item: Any) -> Batch:
    """One batch of an iterable: Keras reads a list like a tuple, and so does torch's collate."""
    if isinstance(item, tuple | list):
        if not 1 <= len(item) <= 3:
            raise DataError(
                "a batch",
                expected="x, or a tuple (x, y)",
                received=f"{len(item)} items",
                fix="yield ((input_1, input_2, …), y) for a model of several inputs",
            )
        x, y = item[0], item[1] if len(item) > 1 else None
    else:
        x, y = item, None
    inputs = _cut(_columns(x, "inputs"), slice(None))
    labels = None if y is None else _cut(_columns(y, "labels"), slice(None))
    count = _length(inputs, "inputs")
    if labels is not None and _length(labels, "labels") != count:
        raise DataError(
            "a batch",
            expected=f"as many labels as inputs ({count})",
            received=f"{_length(labels, 'labels')} labels",
            fix="give one label a sample",
        )
    return inputs, labels


def _columns(value: Any, what: str) -> Any:
    """Arrays by name, in a list, or one array; not converted yet where it can be sliced."""
    if isinstance(value, dict):
        return {str(key): _column(item, f"{what}[{key!r}]") for key, item in value.items()}
    if isinstance(value, tuple) or (
        isinstance(value, list) and any(hasattr(item, "shape") and item.shape for item in value)
    ):
        return [_column(item, f"{what}[{index}]") for index, item in enumerate(value)]
    return _column(value, what)


def _column(value: Any, what: str) -> Any:
    if value is None or isinstance(value, str | bytes | int | float):
        raise DataError(
            what,
            expected="an array of samples",
            received=_describe(value),
            fix="give arrays, or (x, y)",
        )
    array = value if _sliceable(value) else to_numpy(value, what)
    if len(array.shape) == 0:
        raise DataError(
            what,
            expected="an array whose first axis is the samples",
            received="a single number",
            fix="add an axis in front: x[None]",
        )
    return array


def _cut(columns: Any, part: slice) -> Inputs:
    if isinstance(columns, dict):
        return {key: to_numpy(item[part], key) for key, item in columns.items()}
    if isinstance(columns, list):
        return [to_numpy(item[part]) for item in columns]
    return to_numpy(columns[part])


def _length(columns: Any, what: str) -> int:
    if isinstance(columns, dict):
        items = list(columns.values())
    else:
        items = columns if isinstance(columns, list) else [columns]
    counts = {int(item.shape[0]) for item in items}
    if len(counts) > 1:
        raise DataError(
            what,
            expected="the same number of samples in every array",
            received=" and ".join(str(count) for count in sorted(counts)),
            fix="give each input the same samples",
        )
    if not counts:
        raise DataError(what, expected="at least one array", received="none", fix="give some data")
    return counts.pop()


def _limited(source: Iterator[Batch], limit: int | None) -> Iterator[Batch]:
    if limit is None:
        yield from source
        return
    left = limit
    for inputs, labels in source:
        count = _length(inputs, "inputs")
        if count > left:
            part = slice(0, left)
            inputs, labels = _cut(inputs, part), None if labels is None else _cut(labels, part)
        yield inputs, labels
        left -= count
        if left <= 0:
            return


def _sliceable(value: Any) -> bool:
    return (
        hasattr(value, "shape")
        and hasattr(value, "dtype")
        and hasattr(value, "__getitem__")
        and not hasattr(value, "iloc")  # pandas: [a:b] means rows there, but the rest does not
    )


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise DataError(
            name, expected="a whole number from 1", received=value, fix="give a number of samples"
        )


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{kind} of shape {tuple(shape)}" if shape is not None else kind


def _one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["it cannot be converted"])[0][:120]


def _wrong_kind(data: Any) -> DataError:
    shown = repr(data) if isinstance(data, str | int | float | type(None)) else _describe(data)
    fix = "load a source by its name with litesmith.data.load" if isinstance(data, str) else None
    return DataError("data", expected=_KINDS, received=shown[:80], fix=fix)


def _empty() -> DataError:
    return DataError("data", expected="at least one sample", received="none", fix="give some data")


def _endless(why: str) -> DataError:
    return DataError(
        "data", expected="data that ends", received=why, fix="take a part of it, or set a limit"
    )
