"""What a connection may hold and for how long: heads, time, requests that wait, answers that nobody takes; and what it is told."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading

import pytest
from connections import BODY, Caller, calling, request
from starlette.responses import Response

from deploykit.serving.app import Service
from deploykit.serving.bodies import Limits
from deploykit.serving.bounded import MAX_HEAD, MOST_WAITING

PATH = "/v2/models/doubling/infer"
LIVE = request(b"", "/v2/health/live", "GET")


def is_closed_with(status, answer):
    found, headers, document = answer
    assert (found, headers["content-type"], headers["connection"]) == (status, "application/json", "close")
    assert list(document) == ["error"]
    return document["error"]


async def send(caller, data, pieces):
    """All of it, in so many parts that come one after the other."""
    step = -(-len(data) // pieces)
    for start in range(0, len(data), step):
        caller.writer.write(data[start : start + step])
        await asyncio.sleep(0.002 if pieces > 1 else 0)


@pytest.mark.parametrize(("size", "fits"), [(MAX_HEAD - 200, True), (MAX_HEAD + 1, False)])
@pytest.mark.parametrize("place", ["url", "header", "headers"])
@pytest.mark.parametrize("pieces", [1, 9])
def test_a_head_may_be_so_large_and_no_larger(service, size, fits, place, pieces):
    lines = {
        "url": f"GET /{'a' * size} HTTP/1.1\r\n",
        "header": f"GET /a HTTP/1.1\r\nX-A: {'a' * size}\r\n",
        "headers": "GET /a HTTP/1.1\r\n" + "X-A: 345\r\n" * (size // 10),
    }
    data = (lines[place] + "Host: x\r\n\r\n").encode()

    async def main():
        async with calling(service) as caller:
            await send(caller, data, pieces)
            answer = await caller.answer()
            if fits:
                assert answer[0] == 404
                assert (await caller.ask(LIVE))[0] == 200
            else:
                assert "the head of a request may have 65536 bytes" in is_closed_with(431, answer)
                assert await caller.reader.read() == b""

    asyncio.run(main())


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /", b"GET / HTTP/1.1\r\nX-A: ", b"\r\n",
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: ".encode(),
    ],
    ids=["url", "header", "nothing", "behind a body"],
)  # fmt: skip
def test_what_has_no_end_is_ended(service, begin):
    more = b"\r\n" * 512 if begin == b"\r\n" else b"a" * 1024

    async def main():
        async with calling(service) as caller:
            caller.writer.write(begin)
            sent = 0
            while not caller.doors or caller.doors[0]._why is None:
                await asyncio.sleep(0.001)
                caller.writer.write(more)
                sent += len(more)
                assert sent < 4 * MAX_HEAD
            is_closed_with(431, await caller.answer())

    asyncio.run(main())
    assert service.budget.held == 0


def test_large_bodies_beside_small_heads_are_no_large_heads(service):
    body = b" " * 300_000 + request().partition(b"\r\n\r\n")[2]
    both = request(body, PATH)

    async def main():
        async with calling(service) as caller:
            caller.writer.write(both + both[:50])  # in pieces that hold the end of a body and half a head
            assert (await caller.answer())[0] == 200
            assert (await caller.ask(both[50:]))[0] == 200

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [b"", b"POST /v2 HTTP/1.1\r\nHost: x\r\n", LIVE, LIVE + b"GET", LIVE + LIVE[:-2]],
    ids=["silent", "half a head", "answered", "three letters", "half of the next"],
)
def test_a_connection_on_which_nothing_becomes_whole_is_closed(service, data):
    async def main():
        async with calling(service, idle=0.1) as caller:
            caller.writer.write(data)
            found = await asyncio.wait_for(caller.reader.read(), 10)
            assert found.startswith(b"HTTP/1.1 200") is (LIVE in data)
            assert found.count(b"HTTP/1.1") == data.count(LIVE)

    asyncio.run(main())


def test_a_body_that_trickles_in_after_its_refusal_keeps_no_connection(service):
    async def main():
        async with calling(service, idle=0.1) as caller:
            status, _, _ = await caller.ask(request(b" " * 1000, "/v2/models/none/infer")[:-999])
            assert status == 404

            async def trickle():
                while True:
                    caller.writer.write(b" ")
                    await asyncio.sleep(0.01)

            trickling = asyncio.ensure_future(trickle())
            with contextlib.suppress(ConnectionResetError):  # of a byte that came after the end
                assert await asyncio.wait_for(caller.reader.read(), 10) == b""
            trickling.cancel()

    asyncio.run(main())


def blocked(service, monkeypatch):
    """The network waits for the event that this gives."""
    opened = threading.Event()
    batcher = service.models.get("doubling").batcher
    run = batcher._run
    monkeypatch.setattr(batcher, "_run", lambda *asked: opened.wait(30) and run(*asked))
    return opened


def test_a_connection_is_not_idle_while_its_answer_is_computed(service, monkeypatch):
    opened = blocked(service, monkeypatch)

    async def main():
        async with calling(service, idle=0.1) as caller:
            caller.writer.write(request(path=PATH))
            await asyncio.sleep(0.35)
            opened.set()
            assert (await caller.answer())[0] == 200
            assert (await caller.ask(LIVE))[0] == 200, "its time began with its answer"

    asyncio.run(main())


def test_only_so_many_requests_may_wait_on_a_connection(service):
    async def main():
        async with calling(service) as caller:
            caller.writer.write(LIVE * 100)
            for _ in range(MOST_WAITING + 1):
                assert (await caller.answer())[0] == 200
            assert f"more than {MOST_WAITING} requests wait" in is_closed_with(503, await caller.answer())
            assert await caller.reader.read() == b""

    asyncio.run(main())


def test_nothing_is_read_while_requests_wait(service, monkeypatch):
    opened = blocked(service, monkeypatch)

    async def main():
        async with calling(service) as caller:
            caller.writer.write(request(path=PATH) + LIVE + LIVE)
            while not caller.doors or not caller.doors[0].pipeline:
                await asyncio.sleep(0.001)
            mine = caller.doors[0]
            mine.flow.resume_reading()  # as an application does that asks for a body
            assert mine.flow.read_paused
            opened.set()
            assert [(await caller.answer())[0] for _ in range(3)] == [200, 200, 200]
            assert (await caller.ask(LIVE))[0] == 200
            assert not mine.flow.read_paused

    asyncio.run(main())


@pytest.fixture
def long_answer(monkeypatch):
    """`GET /v2/health/live` answers 32 MB: more than the system keeps for a connection."""

    async def live(_self, _request):
        return Response(b"x" * (32 << 20))

    monkeypatch.setattr(Service, "is_live", live)
    return 32 << 20


@pytest.mark.parametrize("last", [False, True])
def test_an_answer_that_nobody_takes_is_not_kept(service, long_answer, last):
    async def main():
        async with calling(service, idle=0.1) as caller:
            caller.writer.write(request(b"", "/v2/health/live", "GET", **({"Connection": "close"} if last else {})))
            while not caller.doors or not caller.doors[0].flow.write_paused:
                await asyncio.sleep(0.001)
            end = asyncio.get_running_loop().time() + 10
            while caller.state.connections and asyncio.get_running_loop().time() < end:
                await asyncio.sleep(0.01)
            assert not caller.state.connections

    asyncio.run(main())


def test_what_nobody_takes_is_counted_and_too_much_of_it_ends_other_requests(service, long_answer, monkeypatch):
    monkeypatch.setattr(service.budget, "limits", Limits(held=1 << 20))

    async def main():
        async with calling(service, idle=0.2) as caller:
            caller.writer.write(LIVE)
            while not service.budget.unsent:
                await asyncio.sleep(0.001)

            async def asked_by_another():
                other = Caller(*await asyncio.open_connection(*caller.address))
                try:
                    return await other.ask(request(path=PATH))
                finally:
                    other.writer.close()

            status, headers, document = await asked_by_another()
            assert (status, headers["retry-after"]) == (503, "1")
            assert document == {"error": "too many bytes of answers wait for their callers; try again later"}
            while service.budget.unsent:
                await asyncio.sleep(0.01)
            assert (await asked_by_another())[0] == 200

    asyncio.run(main())
    assert service.budget.unsent == 0


def test_who_takes_an_answer_slowly_but_takes_it_gets_it_whole(service, long_answer):
    async def main():
        async with calling(service, idle=0.1) as caller:
            caller.writer.write(LIVE)
            head = await caller.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            for _ in range(32):
                await caller.reader.readexactly(long_answer // 32)
                await asyncio.sleep(0.02)

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"GET /v2 HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"POST /v2 HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ],
    ids=["version", "TLS", "path", "two lengths", "negative"],
)  # fmt: skip
def test_what_is_no_request_is_told_so_in_json_behind_the_answers_that_are_due(service, monkeypatch, data):
    lines = []

    async def main():
        async with calling(service, log=lines.append) as caller:
            is_closed_with(400, await caller.ask(data))
            assert await caller.reader.read() == b""
        opened = blocked(service, monkeypatch)
        async with calling(service) as caller:
            caller.writer.write(request(path=PATH) + data)
            while not caller.doors or caller.doors[0]._why is None:
                await asyncio.sleep(0.001)
            opened.set()
            assert (await caller.answer())[0] == 200
            is_closed_with(400, await caller.answer())
            assert await caller.reader.read() == b""

    asyncio.run(main())
    assert len(lines) == 1
    assert '"status": 400' in lines[0]


def test_a_body_that_is_none_gets_one_answer(service):
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()

    async def main():
        async with calling(service) as caller:
            caller.writer.write(head)
            await asyncio.sleep(0.02)
            is_closed_with(400, await caller.ask(b"no number\r\n"))
            assert await caller.reader.read() == b""
        async with calling(service) as caller:
            assert (await caller.ask(head.replace(b"doubling", b"none")))[0] == 404
            caller.writer.write(b"no number\r\n")
            assert await caller.reader.read() == b"", "it had its answer"

    asyncio.run(main())
    assert service.budget.held == 0


def test_one_connection_too_many_is_told_so_and_closed(service):
    async def main():
        async with calling(service, most=1) as caller:
            assert (await caller.ask(LIVE))[0] == 200
            reader, writer = await asyncio.open_connection(*caller.address)
            found = await reader.read()
            assert found.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"retry-after: 1\r\n" in found
            assert found.endswith(b'{"error":"1 connections are open, which is the limit; try again later"}')
            writer.close()
            assert (await caller.ask(LIVE))[0] == 200

    asyncio.run(main())


def test_more_tasks_than_there_may_be_connections_are_refused(service):
    async def main():
        async with calling(service, most=2) as caller:
            held = [asyncio.ensure_future(asyncio.sleep(30)) for _ in range(2)]  # of callers that have gone
            caller.state.tasks.update(held)
            status, headers, document = await caller.ask(LIVE)
            assert (status, headers["retry-after"]) == (503, "1")
            assert document == {"error": "too many requests are being answered; try again later"}
            caller.state.tasks.clear()
            assert (await caller.ask(LIVE))[0] == 200
            for task in held:
                task.cancel()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("upgrade", "connection"),
    [("h2c", "Upgrade, HTTP2-Settings"), ("websocket", "upgrade"), ("h2c", "keep-alive, Upgrade"), ("nothing/1", "Upgrade")],
)
@pytest.mark.parametrize("pieces", [1, 5])
def test_who_asks_for_another_protocol_is_answered_in_this_one(service, upgrade, connection, pieces):
    """As Java's client does for every first request: its body was lost, and so was what came behind it."""
    asked = request(Upgrade=upgrade, Connection=connection, **{"HTTP2-Settings": "AAMAAABkAAQAAP__"}).replace(b"/m/", b"/doubling/")
    data = asked + LIVE

    async def main():
        async with calling(service) as caller:
            await send(caller, data, pieces)
            status, _, document = await caller.answer()
            assert (status, document["outputs"][0]["data"]) == (200, [2.0, 4.0])
            assert (await caller.answer())[0] == 200
            assert (await caller.ask(asked))[0] == 200
            assert (await caller.ask(LIVE))[0] == 200
            closing = request(b"", "/v2/health/live", "GET", Upgrade="h2c", Connection="close, Upgrade")
            assert (await caller.ask(closing))[1]["connection"] == "close"
            assert await caller.reader.read() == b""

    asyncio.run(main())


@pytest.mark.parametrize("behind", [b"", LIVE, LIVE + LIVE])
@pytest.mark.parametrize("size", [0, 300_000, 3_000_000])
def test_a_caller_that_goes_away_while_its_network_runs_is_noticed(service, monkeypatch, behind, size):
    """Nothing more was read behind a large piece, or while requests wait: not even that nobody is there."""
    opened, ran = threading.Event(), []
    batcher = service.models.get("doubling").batcher
    run = batcher._run
    monkeypatch.setattr(batcher, "_run", lambda *asked: ran.append(1) or (opened.wait(30) and run(*asked)))

    async def main():
        async with calling(service) as caller:
            body = BODY + b" " * size
            caller.writer.write(request(body, PATH) + behind)
            while not ran:
                await asyncio.sleep(0.001)
            caller.writer.transport.abort()
            began = asyncio.get_running_loop().time()
            while not service.models.get("doubling").refused["cancelled"]:
                await asyncio.sleep(0.001)
                assert asyncio.get_running_loop().time() - began < 5
            opened.set()

    monkeypatch.setattr(service.models.get("doubling"), "refused", collections.Counter())
    asyncio.run(main())
