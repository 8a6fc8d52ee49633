"""Runs a `.tflite` on data: the parent's side of `litert_child`."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from litesmith.children import Child
from litesmith.errors import ChildError, DataError, EvaluationError, InputError, ModelError
from litesmith.evaluation.shared import SharedBuffer
from litesmith.evaluation.specs import TensorSpec, arrange
from litesmith.export.finite import check_finite
from litesmith.export.flatbuffer import Flatbuffer, Signature, Tensor, read

_INPUT_DTYPES = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "FLOAT64": "float64",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "UINT16": "uint16",
    "INT32": "int32",
    "UINT32": "uint32",
    "INT64": "int64",
    "UINT64": "uint64",
    "BOOL": "bool",
}
# A chunk's input is kept about this large, so that its activations stay in the caches.
_CHUNK_BYTES = 2_000_000
_MESSAGE_BYTES = 4_000_000
# Memory shared with the child; more goes through the pipe.
_MOST_SHARED = 1 << 28
# A native hang must not block for ever: seconds to wait for an answer, and one more a sample.
_PATIENCE = 600.0
# Opening packs the weights, which takes seconds at most; a damaged file can keep it busy for ever.
_OPENING = 120.0
# Each interpreter holds its own packed copy of the weights.
_MOST_WORKERS = 8


class LitertRunner:
    """A `.tflite` in a child process of its own; a context manager.

    Real numbers go in and come out: a quantized input is fed ``round(x / scale) + zero point``
    and a quantized output is handed on as ``scale · (q − zero point)``, whatever the integer
    type. An integer input without a scale (token ids) takes integers as they are.

    Samples are run in batches where the model takes them: the first batch is compared with its
    samples run alone, and a model that cannot be resized, or gives something else then, is run
    one sample per `invoke` from there on.

    Args:
        source: path of the file, or its bytes.
        num_threads: processor cores to use; default all that the process may use.
        name: what to call the model in errors; default the file's name.

    Raises:
        ModelError: the file is missing, no `.tflite`, corrupt, or not to be run by LiteRT.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        num_threads: int | None = None,
        name: str | None = None,
    ):
        self.name = name or ("model" if isinstance(source, bytes) else Path(source).stem)
        self.source = self.name if isinstance(source, bytes) else str(Path(source))
        view = read(source, self.source)
        check_finite(view, self.source)
        self._layout = _layout(view, self.source)
        self.inputs: tuple[TensorSpec, ...] = self._layout["inputs"]
        self.outputs: tuple[TensorSpec, ...] = self._layout["outputs"]
        self._content = source if isinstance(source, bytes) else None
        self._path = None if isinstance(source, bytes) else str(Path(source).absolute())
        cores = available_cores() if num_threads is None else num_threads
        if cores < 1:
            raise InputError(
                "num_threads",
                expected="1 or more",
                received=cores,
                fix="leave it out for all cores",
            )
        self._workers = min(cores, _MOST_WORKERS)
        self._threads = max(1, cores // self._workers)
        sample = max(1, sum(spec.sample_bytes for spec in self.inputs))
        self._chunk = int(np.clip(2 ** round(np.log2(_CHUNK_BYTES / sample)), 8, 64))
        step = self._chunk * self._workers
        self.batch_size = int(np.clip(_MESSAGE_BYTES // sample // step, 1, 4096 // step)) * step
        self.batched: bool | None = None
        self._room = self.batch_size * sample + 4096
        self._shared: SharedBuffer | None = None
        self._child = self._start(batches=True)

    def __enter__(self) -> LitertRunner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child process; it may be called twice."""
        self._child.close()

    def predict(self, inputs: Any) -> list[np.ndarray]:
        """Run a batch.

        Args:
            inputs: one array `(batch, …)`, a dict by input name, or a list in the model's order.

        Returns:
            All outputs in the model's order, each `(batch, …)`, float32 unless the model's output
            is an integer that stands for itself.

        Raises:
            DataError: the data do not fit the model's inputs.
            EvaluationError: LiteRT failed to run them, or did not answer.
        """
        arrays = [
            _compatible(array, spec)
            for array, spec in zip(arrange(inputs, self.inputs), self.inputs, strict=True)
        ]
        if not len(arrays[0]):
            raise DataError(
                "data", expected="at least one sample", received="none", fix="give some data"
            )
        parts = [
            self._run([array[start : start + self.batch_size] for array in arrays])
            for start in range(0, len(arrays[0]), self.batch_size)
        ]
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        )

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        began, self._child.timeout = time.monotonic(), _PATIENCE + len(arrays[0])
        try:
            answer, outputs = self._call(arrays)
        except ChildError as error:
            hung = time.monotonic() - began >= self._child.timeout
            if self.batched or hung or self._child.alive:
                raise EvaluationError(f"{self.source} could not be run: {error}") from error
            # It may be the batch that LiteRT did not survive: once more, a sample at a time.
            self._child.close()
            self._child = self._start(batches=False)
            self._child.timeout = _PATIENCE + len(arrays[0])
            try:
                answer, outputs = self._call(arrays)
            except ChildError as again:
                raise EvaluationError(f"{self.source} could not be run: {again}") from again
        except EvaluationError as error:
            raise EvaluationError(f"{self.source}: {error}") from error
        self.batched = answer["batches"]
        return outputs

    def _call(self, arrays: list[np.ndarray]) -> tuple[dict[str, Any], list[np.ndarray]]:
        places = None if self._shared is None else self._shared.write(arrays)
        if places is None:
            return self._child.call("predict", arrays, places=None)
        return self._child.call("predict", places=places)

    def _start(self, *, batches: bool) -> Child:
        self._shared = None
        child = Child("litesmith.evaluation.litert_child", timeout=_OPENING)
        content = [] if self._content is None else [np.frombuffer(self._content, np.uint8)]
        try:
            child.call("ready")
            if self._room <= _MOST_SHARED:
                with contextlib.suppress(OSError):  # else everything goes through the pipe
                    self._shared = SharedBuffer(self._room)
            child.call(
                "open",
                content,
                path=self._path,
                inputs=self._layout["input_indices"],
                outputs=self._layout["output_indices"],
                input_specs=[vars(spec) for spec in self.inputs],
                output_specs=[vars(spec) for spec in self.outputs],
                stateful=self._layout["stateful"],
                unit=self._layout["unit"],
                workers=self._workers,
                threads=self._threads,
                chunk=self._chunk,
                batches=batches,
                shared=None if self._shared is None else [self._shared.path, self._shared.size],
            )
        except ChildError as error:
            child.close()
            raise ModelError(
                self.source,
                expected="a whole .tflite",
                received=f"a damaged one: LiteRT did not survive opening it ({error})",
                fix="export or copy it again",
            ) from error
        except ModelError as error:
            child.close()
            raise ModelError(f"{self.source}: {error}") from error
        finally:
            # Both sides have it open: without a name it goes with them, also when they are killed.
            if self._shared is not None:
                self._shared.unlink()
        return child


def available_cores() -> int:
    """Processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _layout(view: Flatbuffer, source: str) -> dict[str, Any]:
    graph = view.subgraphs[0]
    signature = next((s for s in view.signatures if s.subgraph == 0), None)
    if not graph.inputs or not graph.outputs:
        raise ModelError(
            source,
            expected="a model with inputs and outputs",
            received="one without",
            fix="export it again",
        )
    names = _input_names(graph.tensors, graph.inputs, signature)
    outputs = _ordered_outputs(graph.tensors, graph.outputs, signature)
    inputs = [_spec(graph.tensors[i], n, source) for i, n in zip(graph.inputs, names, strict=True)]
    return {
        "inputs": tuple(inputs),
        "outputs": tuple(_spec(graph.tensors[i], name, source) for name, i in outputs),
        "input_indices": list(graph.inputs),
        "output_indices": [index for _, index in outputs],
        "stateful": any(tensor.variable for g in view.subgraphs for tensor in g.tensors),
        # A fixed batch of the model's own; 1 where it is free.
        "unit": max(graph.tensors[graph.inputs[0]].shape[0], 1),
    }


def _input_names(
    tensors: Sequence[Tensor], indices: Sequence[int], signature: Signature | None
) -> list[str]:
    known = {} if signature is None else {i: name for name, i in signature.inputs.items()}
    return [known.get(index) or _plain(tensors[index].name) for index in indices]


def _ordered_outputs(
    tensors: Sequence[Tensor], indices: Sequence[int], signature: Signature | None
) -> list[tuple[str, int]]:
    """Outputs in the Keras model's order, with their names.

    The signature's order is it, as litesmith writes it; the graph's may be another. TensorFlow's
    own converter numbers a list's outputs and sorts them as text (output_0, output_1, output_10,
    output_2, …): those are put in order by their number.
    """
    if signature is None or set(signature.outputs.values()) != set(indices):
        return [(_plain(tensors[index].name), index) for index in indices]
    named = list(signature.outputs.items())
    # litesmith names the tensors as the signature does; numbers are a user's own names, then.
    ours = any(tensors[index].name.startswith(name) for name, index in named)
    if not ours and all(re.fullmatch(r"output_\d+", name) for name, _ in named):
        named.sort(key=lambda item: int(item[0].removeprefix("output_")))
    return named


def _plain(name: str) -> str:
    return name.removeprefix("serving_default_").split(":")[0]


def _spec(tensor: Tensor, name: str, source: str) -> TensorSpec:
    dtype = _INPUT_DTYPES.get(tensor.type)
    if dtype is None:
        raise ModelError(
            f"{source}: {name!r}",
            expected="numbers",
            received=f"type {tensor.type.lower()}",
            fix="export it again with number inputs and outputs",
        )
    if not tensor.shape:
        raise ModelError(
            f"{source}: {name!r}",
            expected="a batch dimension",
            received="a single number",
            fix="export it again with a batch dimension",
        )
    shape = tuple(None if size == -1 else size for size in tensor.shape_signature)
    quantized = tensor.scale is not None and dtype in ("int8", "uint8", "int16")
    return TensorSpec(
        name,
        (None, *shape[1:]),
        dtype,
        float(tensor.scale[0]) if quantized and tensor.scale is not None else None,
        int(tensor.zero_point[0]) if quantized and tensor.zero_point is not None else 0,
    )


def _compatible(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The data in a type that the child turns into the model's without loss of meaning."""
    if spec.scale is not None or np.dtype(spec.dtype).kind == "f":
        return array if array.dtype.kind != "f" else array.astype(np.float32, copy=False)
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise DataError(
            f"input {spec.name!r}",
            expected=f"whole numbers ({spec.dtype})",
            received=f"{array.dtype} with fractions",
            fix="round them, or check that data and model belong together",
        )
    if np.dtype(spec.dtype).kind in "iu" and array.size:
        limits = np.iinfo(spec.dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise DataError(
                f"input {spec.name!r}",
                expected=f"numbers from {limits.min} to {limits.max}",
                received=f"{array.min()} to {array.max()}",
                fix="check that data and model belong together",
            )
    return array
