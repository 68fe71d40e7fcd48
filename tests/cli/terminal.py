"""A terminal for tests: a real pseudo-terminal of so many columns, and what a person sees on it in the end."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import contextmanager

_PIECE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|(.)", re.DOTALL)
BAR = "━"


class Screen:
    """Rows of characters, as a terminal makes them of text and of the escape codes that erase and move."""

    def __init__(self, columns: int) -> None:
        self.columns, self.rows, self.row, self.column = columns, [[]], 0, 0

    def feed(self, text: str) -> None:
        for match in _PIECE.finditer(text):
            argument, code, character = match.groups()
            if code is not None:
                self._obey(argument, code)
            elif character == "\r":
                self.column = 0
            elif character == "\n":
                self._next_row()
            else:
                self._put(character)

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.column = 0
            self._next_row()
        row = self.rows[self.row]
        row += " " * (self.column + 1 - len(row))
        row[self.column] = character
        self.column += 1

    def _next_row(self) -> None:
        self.row += 1
        while len(self.rows) <= self.row:
            self.rows.append([])

    def _obey(self, argument: str, code: str) -> None:
        if code == "A":
            self.row = max(0, self.row - int(argument or 1))
        elif code == "K":
            del self.rows[self.row][0 if argument == "2" else self.column :]
        else:
            assert code in "mhl", f"a code that this terminal does not know: {argument}{code}"

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]


class Shown:
    """`status`: the exit status. `raw`: every character that was written. `lines`: what is on the screen in the end."""

    def __init__(self, status: int, raw: str, columns: int) -> None:
        self.status, self.raw = status, raw
        screen = Screen(columns)
        screen.feed(raw)
        self.lines = screen.lines
        self.text = "\n".join(self.lines)


@contextmanager
def pseudo_terminal(columns: int):
    """Gives the end for a program, a file descriptor, and a list that collects what the program writes."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    written: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            written.append(data)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield theirs, written
    finally:
        os.close(theirs)
        listener.join(timeout=30)
        os.close(ours)


def run_inside(monkeypatch, columns: int, *args: object) -> Shown:
    """Run `deploykit ARGS` in this process with stdout and stderr on a terminal of so many columns."""
    from deploykit.cli import cli

    return call_inside(monkeypatch, columns, lambda: cli([str(arg) for arg in args], prog_name="deploykit"))


def call_inside(monkeypatch, columns: int, act: Callable[[], object]) -> Shown:
    """Call it with the stdout and stderr of this process on a terminal of so many columns."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    saved = [(number, os.dup(number)) for number in (1, 2)]
    streams = sys.stdout, sys.stderr
    status = 0
    with pseudo_terminal(columns) as (theirs, written):
        try:
            for number, _ in saved:
                os.dup2(theirs, number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))
            act()
        except SystemExit as error:
            status = error.code or 0
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdout, sys.stderr = streams
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)
    return Shown(status, b"".join(written).decode(), columns)
