"""Lines for stderr: in their order, never waited for, and counted where they are dropped."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
import time

import pytest

from deploykit.serving import lines
from deploykit.serving.lines import Lines, logged


@pytest.fixture
def pipe(monkeypatch):
    """Makes a pipe of stderr, and gives the end from which it is read. In the test itself: pytest sets stderr anew before each."""
    with contextlib.ExitStack() as opened:

        def make():
            reading, writing = os.pipe()
            monkeypatch.setattr(sys, "stderr", opened.enter_context(os.fdopen(writing, "w")))
            return opened.enter_context(os.fdopen(reading, "rb"))

        yield make


def test_lines_come_in_their_order_and_the_last_ones_too(pipe):
    read = pipe()
    with Lines() as found:
        for number in range(1000):
            found.write(f"{number} \u00e9")
    sys.stderr.close()
    assert read.read().decode().splitlines() == [f"{number} \u00e9" for number in range(1000)]


def test_nobody_waits_for_a_reader_and_what_is_dropped_is_said(pipe):
    end, read = pipe(), []
    with Lines(most=50) as found:
        for number in range(500):
            found.write(json.dumps({"number": number, "more": "x" * 2000}))
            time.sleep(0.0001)  # the thread takes some, and waits for the pipe with them
        reader = threading.Thread(target=lambda: read.extend(end))
        reader.start()
    sys.stderr.close()
    reader.join(10)
    said = [json.loads(line) for line in read]
    kept = [each["number"] for each in said if "number" in each]
    assert kept == sorted(kept)
    dropped = [each for each in said if "dropped" in each]
    assert dropped
    assert len(kept) + sum(each["dropped"] for each in dropped) == 500
    assert "stderr is read too slowly" in dropped[0]["error"]


def test_the_end_is_not_waited_for_where_nobody_reads(pipe, monkeypatch):
    read = pipe()
    monkeypatch.setattr(lines, "LAST", 0.05)
    began = time.monotonic()
    with Lines() as found:
        for _ in range(100):
            found.write("x" * 2000)
    assert time.monotonic() - began < 5
    assert found._thread.is_alive()
    os.read(read.fileno(), 1 << 20)
    while found._thread.is_alive():
        os.read(read.fileno(), 1 << 20)
        found._thread.join(0.01)


def test_a_reader_that_went_away_ends_nothing(pipe):
    pipe().close()
    with Lines() as found:
        found.write("one")
        time.sleep(0.05)
        found.write("two")
    assert not found._thread.is_alive()


@pytest.mark.parametrize("stderr", [io.StringIO(), None])
def test_a_stderr_that_is_no_file(monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    with Lines() as found:
        found.write("one")
    assert stderr is None or stderr.getvalue() == "one\n"


@pytest.mark.parametrize("own", [False, True])
def test_what_is_logged_goes_the_same_way_unless_an_application_has_its_own(monkeypatch, own):
    class Noted:
        def __init__(self):
            self.texts = []

        def write(self, text):
            self.texts.append(text)

    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()] if own else [])
    noted, log = Noted(), logging.getLogger("deploykit.serving")
    with logged(noted):
        log.info("nobody asked")
        log.warning("the model %s was loaded again", "m")
        try:
            raise ValueError("wrong")
        except ValueError:
            log.exception("it failed")
    if own:
        assert noted.texts == []
    else:
        assert noted.texts[0] == "the model m was loaded again"
        assert noted.texts[1].startswith("it failed\nTraceback (most recent call last):\n")
        assert noted.texts[1].endswith("ValueError: wrong")
    assert len(logging.root.handlers) == int(own)
