"""Latency, load time, memory and size of a model, each repeat in a fresh process."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from litesmith.benchmarking.arena import arena_bytes
from litesmith.benchmarking.machine import machine
from litesmith.children import Child
from litesmith.errors import BenchmarkError, ChildError, InputError, ModelError
from litesmith.export.finite import check_finite
from litesmith.export.flatbuffer import read
from litesmith.export.sizes import sizes
from litesmith.export.trial import REALISTIC_SIZES, sizes_to_try

# A single inference that takes this long is taken for a hang.
_TIMEOUT = 600.0


@dataclass(frozen=True)
class Benchmark:
    """What `benchmark` measured.

    Attributes:
        name: the model's name.
        source: the file.
        latency_ms: milliseconds of one inference: ``p50`` (median over the repeats of each
            repeat's median), ``p95``, ``mean``, ``min``, ``max`` over all runs of all repeats, and
            ``spread``: lowest and highest of the repeats' medians.
        load_ms: from the file to an interpreter ready to run; median over the repeats.
        first_ms: the first inference, which warms caches; median over the repeats.
        memory: bytes: ``peak_rss``, most resident memory above an empty process (median over the
            repeats, None where the system does not tell), and ``arena``, see `arena.py`.
        size: bytes: ``file``, ``zip``, ``entropy``.
        delegate: ``name``, ``operators``, ``delegated``, ``left`` (count by operator).
        machine: where it was measured.
        runs: inferences timed in each repeat.
        warmup: inferences before them that were not.
        repeats: fresh processes.
        threads: processor cores LiteRT could use.
        batch_size: samples an inference.
        input_shape: shape of each input as it was measured, by the tensor's name; open dimensions
            (an image of any size) are measured at 224, or else 32, or else 1.
    """

    name: str
    source: str
    latency_ms: dict[str, Any]
    load_ms: float
    first_ms: float
    memory: dict[str, int | None]
    size: dict[str, int]
    delegate: dict[str, Any]
    machine: dict[str, Any] = field(repr=False)
    runs: int = 50
    warmup: int = 5
    repeats: int = 3
    threads: int = 1
    batch_size: int = 1
    input_shape: dict[str, list[int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def benchmark(
    model: Any,
    *,
    runs: int = 50,
    warmup: int = 5,
    repeats: int = 3,
    threads: int = 1,
    batch_size: int = 1,
    name: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Benchmark:
    """Measure a model as LiteRT runs it, on random input.

    Args:
        model: the path of a `.tflite`, or an `Artifact`. A `keras.Model`, a `.keras` or `.h5` file
            or a SavedModel folder is converted to a float `.tflite` first.
        runs: inferences timed in each repeat.
        warmup: inferences before them; the very first is reported apart.
        repeats: fresh processes, for an honest spread.
        threads: processor cores LiteRT may use.
        batch_size: samples an inference.
        name: what to call the model in the result; default the file's.
        progress: called after each repeat with the repeats done and their total.

    Returns:
        Milliseconds, bytes, and what the delegate takes: see `Benchmark`.

    Raises:
        InputError: a count that is none.
        ModelError: the model cannot be opened.
        BenchmarkError: the model cannot be run.
    """
    for what, value, least in (
        ("runs", runs, 1),
        ("warmup", warmup, 0),
        ("repeats", repeats, 1),
        ("threads", threads, 1),
        ("batch_size", batch_size, 1),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(what, expected=f"a whole number from {least}", received=value)
    with _as_tflite(model) as (path, source, given):
        view = read(path, source)
        check_finite(view, source)
        sizes_tried = sizes_to_try(view, REALISTIC_SIZES)
        answers, times = [], []
        for repeat in range(repeats):
            fields = {
                "threads": threads,
                "batch": batch_size,
                "sizes": sizes_tried,
                "warmup": warmup,
                "runs": runs,
            }
            answer, measured = _repeat(path, source, fields)
            answers.append(answer)
            times.append(measured)
            if progress is not None:
                progress(repeat + 1, repeats)
        peaks = [each["peak_rss"] for each in answers if each["peak_rss"] is not None]
        return Benchmark(
            name=name or given,
            source=source,
            latency_ms=_latency(times),
            load_ms=_rounded(np.median([each["load_ms"] for each in answers])),
            first_ms=_rounded(np.median([each["first_ms"] for each in answers])),
            memory={
                "peak_rss": int(np.median(peaks)) if peaks else None,
                # Planned for the file's own shapes, where an open dimension is 1.
                "arena": arena_bytes(view) if len(sizes_tried) == 1 else None,
            },
            size=sizes(path),
            delegate=answers[0]["delegate"],
            machine=machine(),
            runs=runs,
            warmup=warmup,
            repeats=repeats,
            threads=threads,
            batch_size=batch_size,
            input_shape=answers[0]["input_shape"],
        )


def _repeat(path: Path, source: str, fields: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    with Child("litesmith.benchmarking.child", timeout=_TIMEOUT) as child:
        try:
            answer, arrays = child.call("measure", path=str(path), seed=0, **fields)
        except ModelError as error:
            if fields["batch"] != 1:
                raise BenchmarkError(
                    f"{source} does not take batches of {fields['batch']}: {error}",
                    fix="use batch_size=1",
                ) from error
            raise ModelError(f"{source}: {error}") from error
        except ChildError as error:
            raise BenchmarkError(f"{source} could not be measured: {error}") from error
        except BenchmarkError as error:
            raise BenchmarkError(f"{source}: {error}") from error
    return answer, arrays[0]


def _latency(times: list[np.ndarray]) -> dict[str, Any]:
    medians = [float(np.median(each)) for each in times]
    together = np.concatenate(times)
    return {
        "p50": _rounded(np.median(medians)),
        "p95": _rounded(np.percentile(together, 95)),
        "mean": _rounded(together.mean()),
        "min": _rounded(together.min()),
        "max": _rounded(together.max()),
        "spread": [_rounded(min(medians)), _rounded(max(medians))],
    }


def _rounded(milliseconds: Any) -> float:
    # The clock is read in whole nanoseconds, but reading it takes about 100 of them.
    return round(float(milliseconds), 4)


@contextlib.contextmanager
def _as_tflite(model: Any) -> Iterator[tuple[Path, str, str]]:
    """The model as a `.tflite` file: its path, where it came from, its name."""
    keras = sys.modules.get("keras")
    is_keras = keras is not None and isinstance(model, keras.Model)
    content = getattr(model, "content", None)
    if isinstance(model, (str, os.PathLike)) and Path(model).suffix == ".tflite":
        path = Path(model)
        yield path, str(path), path.stem
        return
    if isinstance(model, (str, os.PathLike)):
        source, given = str(Path(model)), Path(model).stem
    elif is_keras:
        source = given = model.name
    elif isinstance(content, bytes):
        source = given = "model"
    else:
        raise ModelError(
            "model",
            expected="the path of a model, an Artifact or a Keras model",
            received=type(model).__name__,
        )
    if not isinstance(content, bytes):
        from litesmith.export import convert

        content = convert(model).content
    with tempfile.TemporaryDirectory(prefix="litesmith-") as folder:
        path = Path(folder) / f"{given}.tflite"
        path.write_bytes(content)
        yield path, source, given
