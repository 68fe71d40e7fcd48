"""Answers of worker threads reach the event loop as `asyncio.wrap_future` would bring them, with one wake-up for many."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import numpy as np
import pytest

from deploykit.runtime.batching import Batcher
from deploykit.serving.mailbox import Mailbox


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_answers_that_come_together_wake_the_loop_once(monkeypatch):
    async def all_of_them():
        loop = asyncio.get_running_loop()
        mail, given = Mailbox(loop), [Future() for _ in range(32)]
        mine = [mail.wrap(future) for future in given]
        woken = []
        once = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: woken.append(args) or once(*args))
        in_a_thread(lambda: [future.set_result(number) for number, future in enumerate(given)])
        assert len(woken) == 1
        assert await asyncio.gather(*mine) == list(range(32))
        again = Future()
        found = mail.wrap(again)
        in_a_thread(lambda: again.set_result("later"))
        assert await found == "later"
        assert len(woken) == 2

    asyncio.run(all_of_them())


def test_what_is_raised_and_what_is_given_up():
    async def each():
        mail = Mailbox(asyncio.get_running_loop())
        failed, cancelled, unwanted, done = Future(), Future(), Future(), Future()
        mine = [mail.wrap(future) for future in (failed, cancelled, unwanted)]
        in_a_thread(lambda: failed.set_exception(ValueError("no")))
        with pytest.raises(ValueError, match="no"):
            await mine[0]
        in_a_thread(cancelled.cancel)
        with pytest.raises(asyncio.CancelledError):
            await mine[1]
        mine[2].cancel()
        await asyncio.sleep(0)
        assert unwanted.cancelled(), "what nobody waits for is not begun"
        done.set_result(3)
        assert await mail.wrap(done) == 3, "and one that is done already"

    asyncio.run(each())


def test_an_answer_after_the_end_of_the_loop_goes_nowhere(caplog):
    late = Future()

    async def never():
        Mailbox(asyncio.get_running_loop()).wrap(late)

    asyncio.run(never())
    in_a_thread(lambda: late.set_result(1))
    assert not caplog.records, "an exception in a callback of a future is only logged"


def test_requests_that_are_read_together_wake_a_worker_once_and_share_a_run():
    sizes = []

    def run(inputs):
        sizes.append(len(inputs["x"]))
        return dict(inputs)

    async def several():
        mail = Mailbox(asyncio.get_running_loop())
        with Batcher(run, max_rows=32) as batcher:
            futures = [mail.wrap(batcher.submit({"x": np.full((1, 2), n)}, later=mail.after_these)) for n in range(8)]
            answers = await asyncio.gather(*futures)
            assert [answer.outputs["x"][0, 0] for answer in answers] == list(range(8))
            assert sizes == [8]
            again = mail.wrap(batcher.submit({"x": np.zeros((1, 2))}, later=mail.after_these))
            assert (await again).rows == 1

    asyncio.run(several())
