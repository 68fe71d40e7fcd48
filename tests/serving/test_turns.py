"""How many requests begin in a turn of the event loop, and in which order."""

from __future__ import annotations

import asyncio

from deploykit.serving import turns


def test_they_begin_in_their_order_a_few_in_each_turn(monkeypatch):
    monkeypatch.setattr(turns, "EACH", 3)
    begun = []

    async def main():
        several = turns.Turns()
        for number in range(8):
            several.begin(begun.append, number)
        counts = [len(begun)]
        for _ in range(4):
            await asyncio.sleep(0)
            counts.append(len(begun))
            if counts[-1] == 6:
                several.begin(begun.append, 8)  # behind those that wait
        return counts

    assert asyncio.run(main()) == [3, 6, 9, 9, 9]
    assert begun == list(range(9))


def test_after_a_turn_without_any_the_next_begin_at_once(monkeypatch):
    monkeypatch.setattr(turns, "EACH", 2)
    begun = []

    async def main():
        several = turns.Turns()
        for _ in range(3):
            several.begin(begun.append, 1)
            several.begin(begun.append, 2)
            assert begun[-2:] == [1, 2]
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert len(begun) == 6
