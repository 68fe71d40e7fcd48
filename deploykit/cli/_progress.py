"""A progress bar on stderr, for people; programs and pipes get nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deploykit.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


def listen(quiet: bool) -> Progress:
    """A bar if stderr is a terminal and `quiet` is not set, else silence."""
    if quiet or not sys.stderr.isatty():
        return SILENT
    return _Bar()


class _Bar:
    """One line that shows the current task; it vanishes when the next one starts or the process ends."""

    def __init__(self) -> None:
        import atexit

        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None
        atexit.register(self._bar.stop)

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
