"""The fresh process one repeat of a benchmark runs in.

It imports numpy and LiteRT and nothing else of size: what memory it has then is what an empty
process has, and what it needs beyond that at its peak is the model's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from litesmith.benchmarking.delegate import taken
from litesmith.children import serve
from litesmith.errors import BenchmarkError, ModelError
from litesmith.export import trial


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _measure(
    fields: dict[str, Any], arrays: list[np.ndarray]
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Load, run and time a model once.

    Fields: ``path``, ``threads``, ``batch``, ``sizes`` (to try for open dimensions), ``warmup``,
    ``runs``, ``seed``. Returns ``input_shape``, ``load_ms``, ``first_ms``, ``peak_rss`` and
    ``delegate``, and the runs' times in ms as an array.
    """
    empty = _forget_peak()
    sizes = fields["sizes"]
    interpreter, load, first = trial.first_that_runs(sizes, lambda size: _open(fields, size))
    times = np.empty(fields["warmup"] + fields["runs"])
    for i in range(len(times)):
        times[i] = _invoke(interpreter)
    peak = _peak()
    shapes = {d["name"]: d["shape"].tolist() for d in interpreter.get_input_details()}
    answer = {
        "input_shape": shapes,
        "load_ms": load / 1e6,
        "first_ms": first / 1e6,
        "peak_rss": None if peak is None or empty is None else max(0, peak - empty),
        "delegate": taken(interpreter._get_ops_details()),
    }
    return answer, [times[fields["warmup"] :] / 1e6]


def _open(fields: dict[str, Any], size: int) -> tuple[Interpreter, int, int]:
    """An interpreter that ran once, and the nanoseconds to load it and of that first run."""
    began = time.perf_counter_ns()
    try:
        interpreter = Interpreter(model_path=fields["path"], num_threads=fields["threads"])
        trial.resize(interpreter, size, fields["batch"])
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"LiteRT cannot open the model: {_one_line(error)}") from error
    load = time.perf_counter_ns() - began
    trial.fill(interpreter, np.random.default_rng(fields["seed"]))
    return interpreter, load, _invoke(interpreter)


def _invoke(interpreter: Interpreter) -> int:
    began = time.perf_counter_ns()
    try:
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise BenchmarkError(f"LiteRT failed: {_one_line(error)}") from error
    return time.perf_counter_ns() - began


def _forget_peak() -> int | None:
    """Start counting the peak of memory afresh; returns the memory in use now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak of the imports stays in, and is in the empty process too
    return _peak()


def _peak() -> int | None:
    """Largest resident memory so far, in bytes; None where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    serve({"measure": _measure}, bounded=True)
