"""The Pareto front: the variants that no other one beats in both respects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litesmith.comparison.figures import missing
from litesmith.comparison.results import VariantResult
from litesmith.errors import DataError, did_you_mean

Axis = Callable[[VariantResult], float | None]


def zip_size(variant: VariantResult) -> float | None:
    """Bytes after zlib: what is downloaded, and where pruning shows."""
    return None if variant.size is None else float(variant.size.zip)


def file_size(variant: VariantResult) -> float | None:
    """Bytes of the file as it lies on the device."""
    return None if variant.size is None else float(variant.size.file)


def latency(variant: VariantResult) -> float | None:
    """Median milliseconds of one inference."""
    return None if variant.latency_ms is None else variant.latency_ms.p50


def peak_memory(variant: VariantResult) -> float | None:
    """Bytes at the peak, above an empty process."""
    return None if variant.memory is None else variant.memory.peak_rss


AXES: dict[str, Axis] = {
    "size": zip_size,
    "zip": zip_size,
    "file": file_size,
    "latency": latency,
    "memory": peak_memory,
}


def axis(name: str) -> Axis:
    """What a name on the cost axis stands for.

    Raises:
        DataError: an unknown name.
    """
    if name not in AXES:
        raise DataError(
            "pareto",
            expected="a cost to weigh against the metric",
            received=name,
            fix=did_you_mean(name, AXES),
        )
    return AXES[name]


def front(points: list[tuple[Any, float | None, float | None]]) -> list[Any]:
    """The points no other one dominates.

    A point is dominated by one that costs no more, loses no more, and is better in one of the
    two. Points alike in both stay together.

    Args:
        points: (name, cost, loss), both better when lower; a point with a missing one is left out.

    Returns:
        Names, by rising cost.
    """
    known = [
        (name, cost, loss)
        for name, cost, loss in points
        if cost is not None and loss is not None and not missing(cost) and not missing(loss)
    ]
    known.sort(key=lambda point: (point[1], point[2]))
    best: list[tuple[Any, float, float]] = []
    for point in known:
        if not best or point[2] < best[-1][2] or point[1:] == best[-1][1:]:
            best.append(point)
    return [name for name, _, _ in best]
