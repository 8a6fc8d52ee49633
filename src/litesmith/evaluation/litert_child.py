"""The child process in which LiteRT runs a `.tflite` for `evaluate`.

A batch is cut into chunks, and several single-threaded interpreters, one a core, take them in
turn: `invoke` releases Python's lock. On two cores that beat one interpreter of two threads on
float models and did as well on int8 ones; `benchmarks/evaluation.py` measures it.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from litesmith.children import serve
from litesmith.errors import EvaluationError, ModelError
from litesmith.evaluation.shared import SharedBuffer

# Samples whose result alone is compared with their result in a chunk.
_CHECKED = 4
# Seconds of one `invoke` below which two threads wait for Python's lock more than they gain.
_WORTH_A_THREAD = 5e-4


class _Engine:
    """One interpreter, and the number of samples it is laid out for."""

    def __init__(self, source: str | bytes, threads: int, layout: _Layout):
        kind = "model_path" if isinstance(source, str) else "model_content"
        self.interpreter = Interpreter(**{kind: source}, num_threads=threads)
        self.layout = layout
        self.shapes: list[tuple[int, ...]] | None = None

    def run(
        self, stored: Sequence[np.ndarray], starts: Sequence[int], size: int
    ) -> list[list[np.ndarray]]:
        """Run chunks of `size` samples; raw outputs, one list an output.

        The loop is kept bare: what it does beside `invoke` is most of a small model's time.
        """
        self._lay_out([(size, *array.shape[1:]) for array in stored])
        interpreter, stateful = self.interpreter, self.layout.stateful
        inputs = list(zip(self.layout.inputs, stored, strict=True))
        indices = self.layout.outputs
        results: list[list[np.ndarray]] = [[] for _ in indices]
        outputs = list(zip(indices, results, strict=True))
        for start in starts:
            if stateful:
                # An LSTM's state would go on into the next, unrelated samples.
                interpreter.reset_all_variables()
            for index, array in inputs:
                interpreter.set_tensor(index, array[start : start + size])
            interpreter.invoke()
            for index, result in outputs:
                result.append(interpreter.get_tensor(index))
        return results

    def _lay_out(self, shapes: list[tuple[int, ...]]) -> None:
        if shapes == self.shapes:
            return
        self.shapes = None  # until the new layout is allocated, none holds
        for index, shape in zip(self.layout.inputs, shapes, strict=True):
            self.interpreter.resize_tensor_input(index, shape)
        self.interpreter.allocate_tensors()
        self.shapes = shapes


class _Layout:
    """Which tensors are the inputs and outputs, and how their integers are to be read."""

    def __init__(self, fields: dict[str, Any]):
        self.inputs: list[int] = fields["inputs"]
        self.outputs: list[int] = fields["outputs"]
        self.input_specs: list[dict[str, Any]] = fields["input_specs"]
        self.output_specs: list[dict[str, Any]] = fields["output_specs"]
        self.stateful: bool = fields["stateful"]
        self.unit: int = fields["unit"]

    def stored(self, array: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
        """The caller's numbers as the model stores them."""
        dtype = np.dtype(spec["dtype"])
        if spec["scale"] is None:
            return np.ascontiguousarray(array, dtype)
        limits = np.iinfo(dtype)
        values = array.astype(np.float32)
        values /= np.float32(spec["scale"])
        np.rint(values, out=values)
        values += np.float32(spec["zero_point"])
        np.clip(values, limits.min, limits.max, out=values)
        return values.astype(dtype)

    def real(self, array: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
        """The model's output as numbers: ``scale · (stored − zero point)``."""
        if spec["scale"] is None:
            return array if array.dtype.kind in "iub" else array.astype(np.float32, copy=False)
        return (array.astype(np.float32) - np.float32(spec["zero_point"])) * np.float32(
            spec["scale"]
        )


class _Model:
    """A model open for prediction: interpreters, and what is known of its batches."""

    def __init__(self, fields: dict[str, Any], source: str | bytes):
        self.layout = _Layout(fields)
        self.source = source
        self.chunk: int = fields["chunk"]
        self.batches: bool | None = None if fields["batches"] else False
        self.alone = 1.0  # seconds of one `invoke`, once it has been timed
        self.pool = ThreadPoolExecutor(fields["workers"])
        self.workers: int = fields["workers"]
        self.threads: int = fields["threads"]
        self.engines: queue.SimpleQueue[_Engine] = queue.SimpleQueue()
        first = self._engine()
        try:
            first.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(_refusal(error), fix=_remedy(error)) from error
        self.engines.put(first)
        self.made = 1
        shared = fields["shared"]
        self.shared = None if shared is None else SharedBuffer(shared[1], shared[0])

    def _engine(self) -> _Engine:
        try:
            return _Engine(self.source, self.threads, self.layout)
        except (RuntimeError, ValueError) as error:
            raise ModelError(_refusal(error), fix=_remedy(error)) from error

    def predict(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        count = len(arrays[0])
        if self.batches is None:
            self.batches = self._takes_batches(arrays)
        size = self._size(count)
        starts = list(range(0, count - size, size)) + [max(count - size, 0)]
        workers = min(self.workers, len(starts))
        if not self.batches and self.alone < _WORTH_A_THREAD:
            workers = 1
        while self.made < workers:
            self.engines.put(self._engine())
            self.made += 1

        def work(some: Sequence[int]) -> list[np.ndarray]:
            # Numbers are turned into the model's all at once: one by one costs more than a
            # small model's `invoke`.
            begin, end = some[0], some[-1] + size
            stored = self._stored([array[begin:end] for array in arrays])
            engine = self.engines.get()
            try:
                return self._run(engine, stored, [start - begin for start in some], size)
            finally:
                self.engines.put(engine)

        if workers == 1:
            results = [work(starts)]
        else:
            # A few tasks a worker: less to hand out, and none waits long for the other's last.
            step = -(-len(starts) // (4 * workers))
            tasks = [starts[i : i + step] for i in range(0, len(starts), step)]
            results = list(self.pool.map(work, tasks))
        return [
            self._joined([result[i] for result in results], spec, starts[-1], size)[:count]
            for i, spec in enumerate(self.layout.output_specs)
        ]

    def _joined(
        self, parts: list[np.ndarray], spec: dict[str, Any], last: int, size: int
    ) -> np.ndarray:
        if len({part.shape[1:] for part in parts}) > 1:
            raise _uneven(spec)
        whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
        # The last chunk ends where the data end, so it may repeat some of the one before.
        repeated = len(whole) - (last + size)
        if repeated:
            whole = np.concatenate([whole[:last], whole[-size:]])
        return self.layout.real(whole, spec)

    def _stored(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        specs = self.layout.input_specs
        return [self.layout.stored(a, spec) for a, spec in zip(arrays, specs, strict=True)]

    def _size(self, count: int) -> int:
        """Samples a chunk: all alike, none larger than `chunk`, each worker as many."""
        if not self.batches:
            return self.layout.unit
        rounds = -(-count // (self.chunk * self.workers))
        return -(-count // min(count, rounds * self.workers))

    def _run(
        self, engine: _Engine, stored: list[np.ndarray], starts: Sequence[int], size: int
    ) -> list[np.ndarray]:
        """Raw outputs of some chunks, one array an output, checked to hold a result a sample."""
        missing = starts[-1] + size - len(stored[0])
        if missing > 0:  # a model with a fixed batch: fill up with the last sample
            stored = [np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for a in stored]
        try:
            results = engine.run(stored, starts, size)
        except (RuntimeError, ValueError) as error:
            raise EvaluationError(f"LiteRT failed: {_one_line(error)}") from error
        outputs = []
        for chunks, spec in zip(results, self.layout.output_specs, strict=True):
            shape = chunks[0].shape
            if not shape or shape[0] != size:
                raise EvaluationError(
                    f"output {spec['name']!r}",
                    expected=f"a result for each of {size} samples",
                    received=f"shape {list(shape)}",
                )
            if any(chunk.shape != shape for chunk in chunks):
                raise _uneven(spec)
            outputs.append(np.concatenate(chunks))
        return outputs

    def _takes_batches(self, arrays: Sequence[np.ndarray]) -> bool | None:
        """Whether a chunk gives what its samples give alone; None while there is no telling."""
        unit, count = self.layout.unit, len(arrays[0])
        size = min(self.chunk, count)
        if size <= unit:
            return None if self.chunk > unit else False
        chosen = sorted({round(i * (size - unit) / (_CHECKED - 1)) for i in range(_CHECKED)})
        stored = self._stored([array[:size] for array in arrays])
        engine = self.engines.get()
        try:
            alone = []
            for i in chosen:
                began = time.perf_counter()
                alone.append(self._run(engine, stored, [i], unit))
                self.alone = time.perf_counter() - began
            together = self._run(engine, stored, [0], size)
        except EvaluationError:
            # An interpreter that failed half-way through a new layout is of no more use.
            engine = self._engine()
            return False
        finally:
            self.engines.put(engine)
        for position, spec in enumerate(self.layout.output_specs):
            whole = self.layout.real(together[position], spec)
            tolerance = 1e-3 * float(np.abs(whole).max(initial=0)) + 1e-6
            if spec["scale"] is not None:
                tolerance = max(tolerance, 1.5 * spec["scale"])
            for i, single in zip(chosen, alone, strict=True):
                part = whole[i : i + unit]
                own = self.layout.real(single[position], spec)
                if part.shape != own.shape:
                    return False
                if not np.allclose(part, own, rtol=0, atol=tolerance, equal_nan=True):
                    return False
        return True


def _uneven(spec: dict[str, Any]) -> EvaluationError:
    return EvaluationError(
        f"output {spec['name']!r}",
        expected="the same shape for every sample",
        received="several",
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _refusal(error: BaseException) -> str:
    return f"LiteRT cannot open the model: {_one_line(error)}"


def _remedy(error: BaseException) -> str:
    text = str(error)
    if "Select TensorFlow" in text or "Flex" in text:
        return "export it without allow_select_tf_ops: LiteRT has no TensorFlow operators"
    if "custom op" in text:
        return "LiteRT's Python interpreter has the builtin operators only"
    return "export it again"


_open: list[_Model] = []


def _handle_open(fields: dict[str, Any], arrays: list[np.ndarray]) -> tuple[dict[str, Any], list]:
    _open[:] = [_Model(fields, arrays[0].tobytes() if arrays else fields["path"])]
    return {}, []


def _handle_ready(
    fields: dict[str, Any], arrays: list[np.ndarray]
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Everything is imported."""
    return {}, []


def _handle_predict(
    fields: dict[str, Any], arrays: list[np.ndarray]
) -> tuple[dict[str, Any], list[np.ndarray]]:
    places, shared = fields["places"], _open[0].shared
    if places is not None and shared is not None:
        arrays = shared.read(places)
    outputs = _open[0].predict(arrays)
    return {"batches": _open[0].batches}, outputs


if __name__ == "__main__":
    serve({"ready": _handle_ready, "open": _handle_open, "predict": _handle_predict}, bounded=True)
