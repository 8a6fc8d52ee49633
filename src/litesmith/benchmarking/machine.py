"""The machine a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from litesmith.evaluation.litert_runner import available_cores


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system and versions, for reports.

    Returns:
        ``cpu`` (model name), ``architecture``, ``cores`` (that this process may use), ``memory``
        (bytes, or None), ``os``, ``python``, ``litert`` (version).
    """
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": available_cores(),
        "memory": _memory(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "litert": _version("ai-edge-litert"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for key in ("model name", "Model", "Hardware"):  # x86; then what ARM kernels write
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
