"""Models by name: files, built-in ones, keras.applications, functions of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litesmith.models.networks import BUILTINS as BUILTINS
    from litesmith.models.networks import builtin as builtin
    from litesmith.models.sources import check as check
    from litesmith.models.sources import load as load

__all__ = ["BUILTINS", "builtin", "check", "load"]


def __getattr__(name: str) -> Any:
    """Import Keras only when a name that needs it is asked for."""
    if name in ("check", "load"):
        from litesmith.models import sources

        return getattr(sources, name)
    if name in ("BUILTINS", "builtin"):
        from litesmith.models import networks

        return getattr(networks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
