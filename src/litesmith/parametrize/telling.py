"""What the layers of a model tell each other within one pass through it: scales, gains.

A tensor of one pass means nothing in another, and is not even alive there: what was told is
forgotten when the next pass begins.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from litesmith.parametrize import internals


class _Pass(threading.local):
    """What earlier layers of the same pass through a model tell later ones, by key."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.calls: dict[int, int] = {}
        self.run: Callable[[], Any] = lambda: None


present = _Pass()


def open_pass() -> None:
    """Forget what was told, if the layer that is called now is not in the same pass any more."""
    current = internals.current_pass()
    if current is None or present.run() is not current:
        present.values, present.calls = {}, {}
        present.run = (lambda: None) if current is None else weakref.ref(current)


def tell(key: str, value: Any) -> None:
    """Leave a tensor, or several, for later layers of the same pass."""
    present.values[key] = value


def told(key: str | None) -> Any:
    """What was left under a key, or None."""
    return present.values.get(key or "")
