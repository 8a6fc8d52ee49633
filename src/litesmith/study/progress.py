"""What a study tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["study", "variant", "phase", "epoch", "reused", "done", "failed", "report"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a study.

    Attributes:
        kind: `study` begins it, `variant` begins one, `phase` and `epoch` are steps within it,
            `reused`, `done` and `failed` end it, `report` ends the study.
        name: the variant, or "" for what belongs to the study.
        text: one line for people.
        number: which variant (from 1), or which epoch.
        total: of how many.
    """

    kind: Kind
    name: str = ""
    text: str = ""
    number: int = 0
    total: int = 0


Progress = Callable[[Event], None]
