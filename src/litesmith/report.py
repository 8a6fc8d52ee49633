"""What was done to each weight of a model, what was not, and why."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Entry:
    """One technique on one weight.

    Attributes:
        layer: the layer's path in the model.
        layer_type: its class.
        variable: the weight's path, as Keras has it; "" where the layer has none to take.
        technique: the technique's name.
        status: "done" or "skipped".
        reason: why it was skipped; "" where it was done.
        detail: the technique's figures for this weight, JSON-able.
        position: the technique's place in the recipe, from 0.
    """

    layer: str
    layer_type: str
    variable: str
    technique: str
    status: Literal["done", "skipped"]
    reason: str = ""
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)
    position: int = 0


@dataclasses.dataclass(frozen=True)
class Report:
    """What `prepare` did. Printing it gives a table.

    Attributes:
        entries: one for each weight and technique, in the model's order.
        notes: what is about the whole model, such as a schedule that ends after training does.
    """

    entries: tuple[Entry, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def done(self) -> tuple[Entry, ...]:
        """What was done."""
        return tuple(entry for entry in self.entries if entry.status == "done")

    @property
    def skipped(self) -> tuple[Entry, ...]:
        """What was skipped, and why."""
        return tuple(entry for entry in self.entries if entry.status == "skipped")

    def variables(self, technique: str) -> tuple[str, ...]:
        """Paths of the weights that a technique took."""
        return tuple(entry.variable for entry in self.done if entry.technique == technique)

    def kernels(self, technique: str) -> frozenset[tuple[str, str]]:
        """Layer and variable of the weights that a technique took.

        Two encoders of one model may each have a `dense/kernel`: a variable's path is not unique.
        """
        return frozenset(
            (entry.layer, entry.variable) for entry in self.done if entry.technique == technique
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "entries": [dataclasses.asdict(entry) for entry in self.entries],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """What `to_dict` wrote."""
        return cls(tuple(Entry(**entry) for entry in data["entries"]), tuple(data["notes"]))

    def __str__(self) -> str:
        rows = [("layer", "type", "technique", "result")]
        for entry in self.entries:
            result = entry.reason and f"skipped: {entry.reason}"
            if entry.status == "done":
                shown = (f"{key} {_short(value)}" for key, value in entry.detail.items())
                result = ", ".join(shown) or "done"
            rows.append((entry.layer, entry.layer_type, entry.technique, result))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in [*lines, *self.notes])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
