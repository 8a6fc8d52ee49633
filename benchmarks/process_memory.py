"""Peak memory of a process and everything it starts, from Linux's `/proc`.

Two figures: `tree`, the largest sum of resident memory (VmRSS) of the process and its descendants
at one moment, sampled every 50 ms (pages they share count once in each, so it is no less than the
truth); and `process`, the process's own high-water mark (VmHWM), which misses nothing in between.
"""

from __future__ import annotations

import subprocess
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

INTERVAL = 0.05


class Watch:
    """Watches a process that is running; a context manager.

    Attributes:
        peak: bytes so far, `tree` and `process`.
        phase: what the process is at, as the caller says.
        phases: the largest `tree` in each phase.
    """

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self.peak = {"tree": 0, "process": 0}
        self.phase = "start"
        self.phases: dict[str, int] = defaultdict(int)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            rss = {pid: _field(pid, "VmRSS") for pid in descendants(self.process.pid)}
            total = sum(rss.values())
            self.peak["tree"] = max(self.peak["tree"], total)
            self.phases[self.phase] = max(self.phases[self.phase], total)
            own = _field(self.process.pid, "VmHWM")
            self.peak["process"] = max(self.peak["process"], own)


def run(command: list[str], **options: Any) -> tuple[int, dict[str, int]]:
    """Run a command to its end.

    Returns:
        Its exit code, and its peak memory in bytes: `tree` and `process`.
    """
    with subprocess.Popen(command, **options) as process, Watch(process) as watch:
        code = process.wait()
    return code, watch.peak


def descendants(pid: int) -> list[int]:
    """A process and everything below it, by the table of parents of this moment."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold blanks; the parent is the second field behind it.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        children[parent].append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += children[each]
    return found


def _field(pid: int, name: str) -> int:
    """A figure of `/proc/PID/status` in bytes; 0 for a process that is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ProcessLookupError):
        pass
    return 0
