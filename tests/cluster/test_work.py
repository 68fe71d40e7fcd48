"""What is asked next: everything once, what was lost last and alone, and nothing for ever."""

from __future__ import annotations

import itertools

import pytest

from deploykit.cluster.planning import Part
from deploykit.cluster.work import ATTEMPTS, Work
from deploykit.cluster.worker import Done


@pytest.fixture
def work(four_parts):
    """Four parts of two rows each; part 1 is there."""
    four_parts.write("part-00000001.jsonl", b'{"row": 2, "error": null}\n{"row": 3, "error": "broken"}\n')
    return Work(four_parts, "jsonl", 4)


def numbers(work, alone):
    return [Part.unpacked(packed).number for packed in itertools.takewhile(bool, (work.next(alone) for _ in range(9)))]


def test_what_is_missing_is_asked_once(work):
    assert (work.missing, work.rows, work.errors, work.resumed) == (3, 2, 1, 2)
    assert numbers(work, alone=False) == [0, 2, 3]
    assert numbers(work, alone=True) == []
    assert [work.keep(Done(number, 2, 1, b"{}\n{}\n")) for number in (0, 2, 2, 1)] == [2, 2, 0, 0]
    assert (work.missing, work.rows, work.errors, work.resumed) == (1, 6, 3, 2)


def test_what_was_lost_comes_last_and_alone_and_not_for_ever(work):
    lost = work.next(alone=True)
    work.lost(lost)
    assert numbers(work, alone=False) == [2, 3]
    assert work.to_ask == 3
    for _ in range(ATTEMPTS - 1):
        assert work.next(alone=False) is None
        assert work.next(alone=True) == lost
        work.lost(lost)
    assert work.next(alone=True) is None
    assert (work.to_ask, work.missing) == (2, 3)


def test_a_lost_part_that_is_answered_after_all_is_no_loss(work):
    lost = work.next(alone=True)
    for _ in range(ATTEMPTS - 1):
        work.lost(lost)
    assert work.keep(Done(0, 2, 0, b"{}\n{}\n")) == 2
    assert (work.to_ask, work.missing) == (2, 2)
