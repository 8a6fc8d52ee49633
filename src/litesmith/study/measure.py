"""What a variant's files say: the columns of study.json that are counted, not timed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from litesmith.comparison.results import Layer, VariantResult
from litesmith.report import Report


def layers(kernels: Sequence[Any], report: Report | None) -> list[Layer]:
    """One row for each kernel of the `.tflite`.

    Args:
        kernels: of the manifest.
        report: what `prepare` did; None where nothing was prepared.
    """
    pruned = report.kernels("prune") if report is not None else frozenset()
    return [
        Layer(
            layer=kernel.layer,
            variable=kernel.variable,
            tensor=kernel.tensor,
            dtype=kernel.dtype,
            size=kernel.size,
            zeros=kernel.zeros,
            unique=kernel.unique,
            bytes=kernel.bytes,
            pruned=(kernel.layer, kernel.variable) in pruned,
        )
        for kernel in kernels
    ]


def sparsity(rows: Sequence[Layer]) -> float | None:
    """Share of zeros, 0…1, among the kernels pruning took; among all where it took none."""
    counted = [row for row in rows if row.pruned] or list(rows)
    size = sum(row.size for row in counted)
    return sum(row.zeros for row in counted) / size if size else None


def unique_weights(rows: Sequence[Layer], report: Report | None) -> int | None:
    """Most distinct values in one tensor among the kernels clustering took; all where none."""
    clustered = report.kernels("cluster") if report is not None else frozenset()
    counted = [row for row in rows if (row.layer, row.variable) in clustered] or list(rows)
    return max((row.unique for row in counted), default=None)


def weights_hash(model: Any) -> str:
    """SHA-256 of a Keras model's weights in their order; names do not count."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        array = np.ascontiguousarray(weight)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def summary(result: VariantResult) -> str:
    """A variant's main figures in one line."""
    parts = [f"{name} {value:.4f}" for name, value in result.metrics.items()]
    if result.size is not None:
        parts.append(f"{result.size.file / 1000:,.1f} kB")
    if result.latency_ms is not None:
        parts.append(f"{result.latency_ms.p50:.3f} ms")
    return ", ".join(parts)


def export_notes(manifest: Any) -> list[str]:
    """What the manifest says that a reader of the report should know."""
    notes = list(manifest.notes)
    if manifest.sparse is not None:
        notes.extend(manifest.sparse.notes(manifest.size))
    if manifest.float_operators:
        left = ", ".join(f"{count} {name}" for name, count in manifest.float_operators.items())
        notes.append(f"operators left in float: {left}")
    if manifest.unmapped:
        notes.append(f"kernels not found in the .tflite: {', '.join(manifest.unmapped)}")
    return notes
