"""A study's events on standard error: bars on a terminal, a line each elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from litesmith.cli.common import complain, stderr_console
from litesmith.study.progress import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_MARKS = {"done": "done", "reused": "already done", "failed": "FAILED"}


class Lines:
    """One plain line an event: for files, pipes and continuous integration."""

    def __init__(self) -> None:
        self._place = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if event.kind == "variant":
            self._place = f"[{event.number}/{event.total}] "
            return
        name = f"{self._place}{event.name}: " if event.name else ""
        if event.kind == "epoch":
            complain(f"{name}epoch {event.number}/{event.total}  {event.text}")
        elif event.kind in _MARKS:
            complain(f"{name}{_MARKS[event.kind]}  {event.text}")
        elif event.text:
            complain(f"{name}{event.text}")


class Bars:
    """Two moving lines, the study's and the variant's; what is finished scrolls away above."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self.bars: Progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=stderr_console(),
            transient=True,
        )
        self._study: TaskID | None = None
        self._step: TaskID | None = None

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        from rich.markup import escape

        bars = self.bars
        if event.kind == "study":
            self._study = bars.add_task("study", total=None)
        elif event.kind == "variant" and self._study is not None:
            bars.update(
                self._study,
                total=event.total,
                completed=event.number - 1,
                description=escape(event.name),
            )
        elif event.kind in ("phase", "epoch"):
            if self._step is None:
                self._step = bars.add_task("", total=None)
            if event.kind == "phase":
                bars.reset(self._step, total=None, description=f"  {escape(event.text)}")
            else:
                bars.update(self._step, total=event.total, completed=event.number)
        elif event.kind in _MARKS:
            color = "red" if event.kind == "failed" else "green"
            bars.console.print(
                f"[{color}]{_MARKS[event.kind]:>12}[/]  [bold]{escape(event.name)}[/]  "
                f"{escape(event.text)}",
                highlight=False,
            )


def shown() -> Lines | Bars:
    """What fits standard error; a context manager and a study's `progress`."""
    return Bars() if sys.stderr.isatty() else Lines()
