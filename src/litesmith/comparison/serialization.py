"""JSON any parser takes: NaN and infinity, which are no JSON, become null."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any) -> str:
    """Indented JSON of nested dicts, lists, strings and numbers (numpy's too)."""
    return json.dumps(_clean(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _clean(value.tolist())
    return str(value)
