"""How many requests begin in a turn of the event loop, in which order, and how many of one model are begun at a time."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest

from deploykit.serving import turns


@pytest.fixture
def begun():
    return []


@pytest.fixture
def beginning(begun):
    """A function that makes what begins a request: it is written down, and counted for its crowd."""

    def make(name, crowd=None):
        def start():
            begun.append(name)
            if crowd is not None:
                crowd.begun += 1

        return start

    return make


class Crowd(SimpleNamespace):
    """Is told by what it is, as a model is, not by its numbers."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def test_they_begin_in_their_order_a_few_in_each_turn(monkeypatch, begun):
    monkeypatch.setattr(turns, "EACH", 3)

    async def main():
        several = turns.Turns()
        for number in range(8):
            several.begin(partial(begun.append, number))
        counts = [len(begun)]
        for _ in range(4):
            await asyncio.sleep(0)
            counts.append(len(begun))
            if counts[-1] == 6:
                several.begin(partial(begun.append, 8))  # behind those that wait
        return counts

    assert asyncio.run(main()) == [3, 6, 9, 9, 9]
    assert begun == list(range(9))


def test_after_a_turn_without_any_the_next_begin_at_once(monkeypatch, begun):
    monkeypatch.setattr(turns, "EACH", 2)

    async def main():
        several = turns.Turns()
        for _ in range(3):
            several.begin(partial(begun.append, 1))
            several.begin(partial(begun.append, 2))
            assert begun[-2:] == [1, 2]
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert len(begun) == 6


def test_only_so_many_of_a_crowd_are_begun_until_one_has_ended(monkeypatch, begun, beginning):
    monkeypatch.setattr(turns, "PATIENCE", 60.0)
    crowd, other = Crowd(begun=0, most_begun=2), Crowd(begun=0, most_begun=2)

    async def main():
        several = turns.Turns()
        for number in range(4):
            several.begin(beginning(number, crowd), crowd)
        several.begin(beginning("other", other), other)
        several.begin(beginning("health"))
        await asyncio.sleep(0.01)
        assert begun == [0, 1, "other", "health"], "who is for something else does not wait"
        crowd.begun -= 1
        several.ended()
        several.begin(beginning(4, crowd), crowd)
        await asyncio.sleep(0.01)
        assert begun[4:] == [2], "and nobody goes before those that wait"
        crowd.begun -= 2
        several.ended()
        several.ended()
        await asyncio.sleep(0.01)
        assert begun[5:] == [3, 4]
        several.ended()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (crowd.begun, other.begun) == (2, 1)


def test_none_is_held_back_for_longer_than_it_bears(monkeypatch, begun, beginning):
    """Its deadline counts from when it begins, and a caller that went away is noticed then."""
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    crowd = Crowd(begun=0, most_begun=1)

    async def main():
        several, loop = turns.Turns(), asyncio.get_running_loop()
        several.begin(beginning("first", crowd), crowd)
        began = loop.time()
        several.begin(beginning("second", crowd), crowd)
        await asyncio.sleep(0.02)
        several.begin(beginning("third", crowd), crowd)
        assert begun == ["first"]
        while len(begun) < 3 and loop.time() < began + 10:
            await asyncio.sleep(0.002)
            if len(begun) == 2:
                assert loop.time() - began >= 0.049
        return loop.time() - began

    assert asyncio.run(main()) >= 0.069
    assert begun == ["first", "second", "third"]
