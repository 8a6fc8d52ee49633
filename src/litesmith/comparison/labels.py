"""Labels beside the points of a scatter chart, none over another."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle; x to the right, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Area the two have in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width * height if width > 0 and height > 0 else 0.0

    def outside(self, frame: Box) -> float:
        """Area of this one that is not in `frame`."""
        area = (self.right - self.left) * (self.top - self.bottom)
        return area - self.overlap(frame)


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    *,
    obstacles: Sequence[Box] = (),
    marker: float = 5.0,
    gap: float = 2.0,
) -> list[Box]:
    """Where each label goes.

    Labels try places on rings around their point, near ones first, and take the first that is
    free of markers, labels and the frame's edge, or else the least bad. The points in the densest
    places choose first. (The greedy half of Christensen, Marks and Shieber, "An empirical study
    of algorithms for point-feature label placement", 1995; enough for some dozens of points.)

    Args:
        points: markers' centres, in the same unit as all else (a chart's pixels or points).
        sizes: width and height of each label.
        frame: where labels may be.
        obstacles: what else labels keep off where they can, such as lines.
        marker: radius to keep free around every point.
        gap: distance between a marker and its label.

    Returns:
        A box for each label, of its size.
    """
    markers = [Box(x - marker, y - marker, x + marker, y + marker) for x, y in points]
    crowding = [sum(1 / (1 + math.dist(one, other)) for other in points) for one in points]
    boxes: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda one: -crowding[one]):
        best: tuple[float, Box] | None = None
        for box in _candidates(points[index], sizes[index], marker + gap):
            cost = 4 * box.outside(frame)
            cost += sum(box.overlap(other) for other in markers)
            cost += 0.5 * sum(box.overlap(other) for other in obstacles)
            cost += 2 * sum(box.overlap(other) for other in boxes.values())
            if best is None or cost < best[0] - 1e-9:
                best = (cost, box)
            if cost <= 1e-9:
                break
        assert best is not None
        boxes[index] = best[1]
    return [boxes[index] for index in range(len(points))]


def _candidates(
    point: tuple[float, float], size: tuple[float, float], distance: float
) -> Iterator[Box]:
    (x, y), (width, height) = point, size
    for ring, (right, up) in itertools.product(
        (0, 1, 2, 3, 4, 6),
        ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, -1), (-1, 0)),
    ):
        reach = distance + ring * 0.8 * height
        if ring and right and not up:
            continue  # straight aside, further out only looks lost
        left = x + right * reach if right > 0 else x - width / 2 if not right else x - reach - width
        middle = y + up * (reach if not right or ring else 0.6 * height + distance / 2)
        bottom = middle - height / 2 + up * (height / 2 if not right else 0)
        yield Box(left, bottom, left + width, bottom + height)
