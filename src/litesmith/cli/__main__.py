"""`python -m litesmith.cli`, where the console script is not installed."""

from __future__ import annotations

from litesmith.cli.app import main

main()
