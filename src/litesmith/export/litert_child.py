"""The child process in which export runs LiteRT: calibration, and one last trial of a file."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from litesmith.children import serve
from litesmith.errors import ExportError
from litesmith.export import flatbuffer, trial

# As litert-quantizer has it: masks made of the lowest float are no range to learn from.
_LARGEST = 3e38
_SMOOTHING = 0.95
# Bytes of tensors that are kept at once: more leaves the processor's caches and is slower.
_AT_ONCE = 40 << 20


class _Observer:
    """Runs batches and keeps each float tensor's extremes, by both rules."""

    def __init__(self, content: bytes):
        self.content = content
        self.graph = flatbuffer.read(content).subgraphs[0]
        self.watched = [
            tensor
            for tensor in self.graph.tensors
            if tensor.name and not tensor.constant and tensor.type == "FLOAT32"
        ]
        count = len(self.watched)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)
        self.mean_low, self.mean_high = np.zeros(count), np.zeros(count)
        self.seen = np.zeros(count, bool)
        self.shapes: list[tuple[int, ...]] | None = None
        self.single = False  # whether the model takes one sample at a time only
        self._open()

    def _open(self) -> None:
        self.interpreter = Interpreter(
            model_content=self.content, experimental_preserve_all_tensors=True, num_threads=2
        )
        self.shapes = None

    @cached_property
    def most(self) -> int:
        """Samples to run at once, which is known after the first."""
        sample = sum(self._value(tensor).nbytes for tensor in self.watched)
        return max(1, _AT_ONCE // max(1, sample))

    def feed(self, arrays: list[np.ndarray]) -> None:
        """Run a batch, as many samples at once as serves speed."""
        if self.shapes is None:
            self._feed([array[:1] for array in arrays])
            arrays = [array[1:] for array in arrays]
        for start in range(0, len(arrays[0]), self.most):
            self._feed([array[start : start + self.most] for array in arrays])

    def _feed(self, arrays: list[np.ndarray]) -> None:
        fixed = self.graph.tensors[self.graph.inputs[0]].shape_signature[:1] == (1,)
        if len(arrays[0]) > 1 and not self.single and not fixed:
            try:
                self._invoke(arrays)
                self._observe(len(arrays[0]))
                return
            except (RuntimeError, ValueError):
                self.single = True
                self._open()
        for i in range(len(arrays[0])):
            self._invoke([array[i : i + 1] for array in arrays])
            self._observe(1)

    def _invoke(self, arrays: list[np.ndarray]) -> None:
        interpreter = self.interpreter
        shapes = [array.shape for array in arrays]
        if shapes != self.shapes:
            for index, shape in zip(self.graph.inputs, shapes, strict=True):
                interpreter.resize_tensor_input(index, shape)
            interpreter.allocate_tensors()
            self.shapes = shapes
        for index, array in zip(self.graph.inputs, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()

    def _observe(self, samples: int) -> None:
        low = np.full((samples, len(self.watched)), np.nan)  # NaN where a tensor says nothing
        high = low.copy()
        for place, tensor in enumerate(self.watched):
            table = self._rows(tensor, samples)
            if table.size:
                rows = len(table)
                low[:rows, place], high[:rows, place] = table.min(axis=1), table.max(axis=1)
        # An infinity or a mask's lowest float, or what is NaN: rare, so looked for all at once.
        with np.errstate(invalid="ignore"):
            odd = ~(np.abs(low) < _LARGEST) | ~(np.abs(high) < _LARGEST)
        for place in map(int, np.flatnonzero(odd.any(axis=0))):
            table = self._rows(self.watched[place], samples)
            if table.size:
                low[: len(table), place], high[: len(table), place] = _bounded(table)
        self.low = np.fmin(self.low, np.fmin.reduce(low))
        self.high = np.fmax(self.high, np.fmax.reduce(high))
        for a, b in zip(low, high, strict=True):
            known = ~np.isnan(a)
            share = np.where(self.seen, 1 - _SMOOTHING, 1.0)[known]
            self.mean_low[known] += share * (a[known] - self.mean_low[known])
            self.mean_high[known] += share * (b[known] - self.mean_high[known])
            self.seen |= known

    def _rows(self, tensor: flatbuffer.Tensor, samples: int) -> np.ndarray:
        """A tensor's values, a row for each sample; empty where it has none."""
        value = self._value(tensor)
        if not value.size or value.dtype != np.float32:
            return np.empty((0, 0), np.float32)
        # A leading axis that is no multiple of the batch mixes samples: one row for all.
        apart = value.ndim and value.shape[0] % samples == 0
        return value.reshape(samples if apart else 1, -1)

    def _value(self, tensor: flatbuffer.Tensor) -> np.ndarray:
        """A view, which nobody may hold when the interpreter goes on."""
        try:
            return self.interpreter.tensor(tensor.index)()
        except ValueError:  # a tensor no delegate has computed
            return np.empty(0, np.float32)


def _bounded(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's extremes among the values that can be a range; NaN where there are none."""
    usable = np.isfinite(table) & (np.abs(table) < _LARGEST)
    rows = usable.any(axis=1)
    low = np.where(usable, table, np.inf).min(axis=1)
    high = np.where(usable, table, -np.inf).max(axis=1)
    return np.where(rows, low, np.nan), np.where(rows, high, np.nan)


_observer: _Observer | None = None


def open_for_calibration(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """Open a float model."""
    global _observer
    try:
        _observer = _Observer(arrays[0].tobytes())
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"LiteRT cannot open the float model: {_line(error)}") from error
    return {}, []


def feed(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """Run one batch."""
    assert _observer is not None
    try:
        _observer.feed(arrays)
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"LiteRT cannot run the float model: {_line(error)}") from error
    return {}, []


def ranges(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """The ranges, by one of the rules; the model is closed."""
    global _observer
    assert _observer is not None
    done, _observer = _observer, None
    seen = done.seen
    names = [tensor.name for tensor, known in zip(done.watched, seen, strict=True) if known]
    if fields["rule"] == "min_max":
        low, high = done.low, done.high
    else:
        low, high = done.mean_low, done.mean_high
    return {"names": names}, [low[seen], high[seen]]


def values(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """What the named tensors of a file are for some inputs: the file, then the inputs in order.

    Tensors that the interpreter does not keep are left out; ``names`` tells those that came. With
    ``delegated`` they are what the default delegate computes, which rounds some operators otherwise
    than LiteRT's own kernels.
    """
    content, inputs = arrays[0].tobytes(), arrays[1:]
    graph = flatbuffer.read(content).subgraphs[0]
    wanted = set(fields["names"])
    delegated = bool(fields.get("delegated"))
    if delegated:
        from litesmith.export import edit  # the whole schema

        content = edit.with_outputs(content, wanted)
    interpreter = Interpreter(
        model_content=content, experimental_preserve_all_tensors=not delegated, num_threads=1
    )
    try:
        for index, array in zip(graph.inputs, inputs, strict=True):
            interpreter.resize_tensor_input(index, array.shape)
        interpreter.allocate_tensors()
        for index, array in zip(graph.inputs, inputs, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"LiteRT cannot run the model: {_line(error)}") from error
    names, found = [], []
    for tensor in graph.tensors:
        if tensor.name in wanted and not tensor.constant:
            try:
                found.append(interpreter.get_tensor(tensor.index))
            except ValueError:  # a tensor no delegate has computed
                continue
            names.append(tensor.name)
    return {"names": names}, found


def try_out(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """Open a finished file and run it once; returns notes on what it gave."""
    content = arrays[0].tobytes()

    def run(size: int) -> Interpreter:
        interpreter = Interpreter(model_content=content, num_threads=1)
        trial.resize(interpreter, size)
        interpreter.allocate_tensors()
        trial.fill(interpreter, np.random.default_rng(0))
        interpreter.invoke()
        return interpreter

    try:
        sizes = trial.sizes_to_try(flatbuffer.read(content), trial.TRIAL_SIZES)
        interpreter = trial.first_that_runs(sizes, run)
        details = interpreter.get_output_details()
        outputs = {each["name"]: interpreter.get_tensor(each["index"]) for each in details}
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"LiteRT cannot run it: {_line(error)}") from error
    nan = [name for name, v in outputs.items() if v.dtype.kind == "f" and np.isnan(v).any()]
    return {"notes": [f"output {name!r} was NaN on random input" for name in nan]}, []


def compare(fields: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """Whether a file gives what another gives, bit for bit, from the same constants.

    Both run with XNNPACK, as by default, and with LiteRT's own kernels, on one sample, on three
    and on one again. Raises where the first does not run; ``difference`` tells what is wrong with
    the second, and is None where nothing is.
    """
    first, second = (array.tobytes() for array in arrays)
    before, after = flatbuffer.read(first), flatbuffer.read(second)
    # A constant of the first, and what it is unfolded to in the second.
    pairs = [
        (operator.inputs[0], operator.outputs[0])
        for operator in after.subgraphs[0].operators
        if operator.name == "DENSIFY"
    ]
    difference = _other_constants(before, after)
    for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        if difference is not None:
            break
        plain = kernels != OpResolverType.AUTO
        look = pairs if plain else []  # a delegate keeps what it unfolds to itself
        try:
            plan, run = _runnable(before, first, kernels)
        except (RuntimeError, ValueError) as error:
            if plain:  # an operator that only the delegate has in this form
                continue
            raise ExportError(f"LiteRT cannot run it: {_line(error)}") from error
        place = "without XNNPACK" if plain else "with XNNPACK"
        try:
            other = _Run(second, kernels, *plan)
            unfolded = [(run.tensor(a), other.tensor(b)) for a, b in look]
        except (RuntimeError, ValueError) as error:
            difference = f"it does not run {place} ({_line(error)})"
            continue
        if not all(_equal(a, b) for a, b in unfolded):
            difference = f"LiteRT unfolds a weight to something else {place}"
        elif run.bits() != other.bits():
            difference = f"other outputs {place}"
    return {"difference": difference}, []


def _other_constants(before: flatbuffer.Flatbuffer, after: flatbuffer.Flatbuffer) -> str | None:
    """What is wrong where a constant of one file is another in the other."""
    for one, other in zip(before.subgraphs, after.subgraphs, strict=True):
        for tensor in one.tensors:
            if tensor.constant and not _equal(tensor.data, other.tensors[tensor.index].data):
                return f"tensor {tensor.name!r} does not unfold to what it was"
    return None


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Equal numbers; −0 is 0."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


class _Run:
    """A file that has been run: two random inputs for each size of batch."""

    def __init__(
        self, content: bytes, kernels: OpResolverType, size: int, batches: tuple[int, ...]
    ):
        self.interpreter = Interpreter(
            model_content=content, num_threads=1, experimental_op_resolver_type=kernels
        )
        self.outputs: list[np.ndarray] = []
        for batch in batches:
            trial.resize(self.interpreter, size, batch)
            self.interpreter.allocate_tensors()
            for seed in range(2):
                trial.fill(self.interpreter, np.random.default_rng(seed))
                self.interpreter.invoke()
                details = self.interpreter.get_output_details()
                self.outputs += [self.tensor(each["index"]) for each in details]

    def tensor(self, index: int) -> np.ndarray:
        return self.interpreter.get_tensor(index)

    def bits(self) -> list[tuple[tuple[int, ...], bytes]]:
        return [(output.shape, output.tobytes()) for output in self.outputs]


def _runnable(
    view: flatbuffer.Flatbuffer, content: bytes, kernels: OpResolverType
) -> tuple[tuple[int, tuple[int, ...]], _Run]:
    """The first size and batches that a file runs with, and that run."""
    sizes = trial.sizes_to_try(view, trial.TRIAL_SIZES)
    plans = [(size, batches) for batches in ((1, 3, 1), (1,)) for size in sizes]
    return trial.first_that_runs(plans, lambda plan: (plan, _Run(content, kernels, *plan)))


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


if __name__ == "__main__":
    serve(
        {
            "open_for_calibration": open_for_calibration,
            "feed": feed,
            "ranges": ranges,
            "values": values,
            "try_out": try_out,
            "compare": compare,
        },
        bounded=True,
    )
