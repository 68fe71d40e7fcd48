"""How a stage says what it is doing, without knowing who listens.

A stage takes ``progress: Progress = SILENT`` and calls it; the command line passes a bar on a terminal and nothing in a pipe.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a stage may tell: a task began, moved on, ended."""

    def start(self, task: str, total: int | None = None) -> None:
        """A task begins; `total` steps are expected (`None`: unknown). It replaces the task before it."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is a short fact to show beside the bar."""

    def say(self, line: str) -> None:
        """A line worth keeping on the screen after the task is over."""


class Silent:
    """Nobody listens."""

    def start(self, task: str, total: int | None = None) -> None:
        """See `Progress.start`."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """See `Progress.advance`."""

    def say(self, line: str) -> None:
        """See `Progress.say`."""


SILENT = Silent()
