"""Ctrl-C, the traceback that --debug asks for, and where the progress bar is drawn."""

from __future__ import annotations

import sys

import click
import pytest
from rich.console import Console

from deploykit.cli import INTERRUPTED, Commands, _progress, _run
from deploykit.errors import InputError


@pytest.mark.parametrize(("debug", "traces"), [(False, 0), (True, 1)])
def test_ctrl_c_within_a_command_ends_it_without_a_line(monkeypatch, capsys, debug, traces):
    monkeypatch.setattr(sys, "argv", ["deploykit", *(["--debug"] if debug else [])])

    def interrupted(_group, _context):
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "invoke", interrupted)
    with pytest.raises(click.exceptions.Exit) as caught:
        Commands("x").invoke(click.Context(click.Command("x")))
    assert caught.value.exit_code == INTERRUPTED
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("Traceback") == traces
    assert told.err.endswith("KeyboardInterrupt\n" if debug else "")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (click.Abort(), INTERRUPTED, ""),
        (InputError("no", "do this"), 2, "error: no; do this\n"),
        (MemoryError(), 2, "error: not enough memory for this; try a smaller --batch or network\n"),
        (OSError(28, "No space left on device", "x"), 2, "error: the system refused: no space left on device (x)\n"),
        (RuntimeError("odd\n  thing."), 70, "error: internal error, RuntimeError: odd thing; --debug shows where\n"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_a_failure_is_one_line_and_a_status(monkeypatch, capsys, debug, error, status, line):
    monkeypatch.setattr(sys, "argv", ["deploykit", *(["--debug"] if debug else [])])

    def call():
        raise error

    found = _run(call)
    assert found == status
    told = capsys.readouterr()
    assert told.out == ""
    assert ("Traceback" in told.err) is debug
    assert told.err.endswith(line)
    assert debug or told.err == line


def test_what_a_command_gives_is_the_status():
    assert _run(lambda: 3) == 3
    assert _run(lambda: None) == 0
    assert _run(lambda: "text") == 0


def test_the_bar_is_drawn_on_stderr(capsys):
    bar = _progress._Bar()
    assert isinstance(bar._bar.console, Console)
    assert bar._bar.console.stderr
    bar.say("[bold]a path[/bold] 3")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "[bold]a path[/bold] 3\n"


def test_no_bar_where_nobody_looks(monkeypatch):
    from deploykit.progress import SILENT

    assert _progress.listen(False) is SILENT
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert _progress.listen(True) is SILENT


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_cannot_draw_gets_no_bar(monkeypatch, kind):
    from deploykit.progress import SILENT

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", kind)
    assert _progress.listen(False) is SILENT
