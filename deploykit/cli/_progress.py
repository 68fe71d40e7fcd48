"""A progress bar on stderr, for people; programs and pipes get nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from deploykit.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


_shown: list[_Bar] = []  # the bar that is on the screen, if any: there is one screen


def listen(quiet: bool) -> Progress:
    """A bar if stderr is a terminal that can draw one and `quiet` is not set, else silence."""
    end()
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return SILENT
    bar = _Bar()
    _shown.append(bar)
    return bar


def end() -> None:
    """Erase the bar, if there is one. Call it before anything else is printed, or that shares a line with the bar."""
    while _shown:
        _shown.pop().end()


class _Bar:
    """One line that shows the current task; the next task replaces it, and `end` erases it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None

    def end(self) -> None:
        """Erase the line and give the terminal its cursor back."""
        self._bar.stop()

    def start(self, task: str, total: int | None = None) -> None:
        """See `Progress.start`."""
        if self._task is None:
            self._bar.start()
        else:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(task, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """See `Progress.advance`."""
        if self._task is not None:
            self._bar.update(self._task, advance=steps, note=note)

    def say(self, line: str) -> None:
        """See `Progress.say`."""
        self._bar.console.print(line, markup=False, highlight=False)
