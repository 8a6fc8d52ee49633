"""The command line. Everything heavy is imported inside the commands."""

from __future__ import annotations

from litesmith.cli.app import main, run

__all__ = ["main", "run"]
