"""What is refused before it is looked at, and what is not; over real connections, with a model that is said to be full."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from connections import BODY, PATH, calling, request
from serving_files import doubling

from deploykit.serving import bounded, door, gate
from deploykit.serving.app import Service
from deploykit.serving.bodies import Limits
from deploykit.serving.models import Models, Settings
from deploykit.serving.repository import find

TOKEN = "t" * 32


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    path = tmp_path_factory.mktemp("door") / "m.onnx"
    path.write_bytes(doubling().SerializeToString())
    models = Models(find([path], ["m"]), Settings("cpu", 1, queue=4, max_rows=2))
    models.load_all()
    service = Service(models)
    yield service
    service.close()


@pytest.fixture
def served(service):
    served = service.models.get("m")
    served.refused.clear()
    yield served
    assert served.inside in (0, FULL)
    served.inside = 0


FULL = 6  # four that wait, and two rows of a run


def is_refused(answer):
    status, headers, document = answer
    assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/json")
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert document == {"error": "4 requests wait already, which is the limit; try again later"}


def test_a_full_model_refuses_and_the_same_connection_is_answered_when_there_is_room(service, served):
    async def main():
        async with calling(service) as caller:
            assert (await caller.ask(request()))[0] == 200
            assert served.inside == 0
            served.inside = FULL
            for _ in range(3):
                is_refused(await caller.ask(request()))
            assert served.refused["full"] == 3
            served.inside = FULL - 1
            status, _, document = await caller.ask(request())
            assert (status, document["outputs"][0]["data"]) == (200, [2, 4])
            assert served.inside == FULL - 1
            served.inside = 0

    asyncio.run(main())


def test_what_was_refused_is_known_again_without_being_parsed(service, served, monkeypatch):
    parsed = []
    whole = bounded.HttpToolsProtocol.data_received
    monkeypatch.setattr(bounded.HttpToolsProtocol, "data_received", lambda self, data: parsed.append(data) or whole(self, data))
    other = request(BODY.replace(b"1, 2", b"7, 8"))
    elsewhere = request(path=PATH.replace("m/", "n/"))
    assert len({len(request()), len(other), len(elsewhere)}) == 1

    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            is_refused(await caller.ask(request()))
            is_refused(await caller.ask(request()))
            is_refused(await caller.ask(other))
            assert parsed == [request()]
            assert (await caller.ask(elsewhere))[0] == 404
            is_refused(await caller.ask(request()))
            assert len(parsed) == 2
            served.inside = 0
            assert (await caller.ask(other))[2]["outputs"][0]["data"] == [14, 16]

    asyncio.run(main())


def test_what_comes_in_pieces_or_together_is_refused_piece_by_piece(service, served):
    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            caller.writer.write(request()[:-5])
            await asyncio.sleep(0.05)
            is_refused(await caller.ask(request()[-5:] + request() + request()[:40]))
            is_refused(await caller.answer())
            is_refused(await caller.ask(request()[40:]))
            assert caller.doors[0]._again is None  # none of them was known to be alone
            is_refused(await caller.ask(request()))
            assert caller.doors[0]._again is not None
            caller.writer.write(request()[:50])  # its head is as before, and it is not whole
            await asyncio.sleep(0.05)
            is_refused(await caller.ask(request()[50:]))

    asyncio.run(main())


def test_requests_one_behind_the_other_are_answered_in_their_order(service, served):
    async def main():
        async with calling(service) as caller:
            served.inside = FULL - 1
            caller.writer.write(request() + request(b"{}") + request())
            assert [(await caller.answer())[0] for _ in range(3)] == [200, 400, 200]
            assert served.inside == FULL - 1
            served.inside = 0

    asyncio.run(main())


@pytest.mark.parametrize(("version", "headers"), [("1.1", {"Connection": "close"}), ("1.0", {})])
def test_who_wants_the_connection_closed_gets_the_refusal_first(service, served, version, headers):
    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            answer = await caller.ask(request(**headers).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
            is_refused(answer)
            assert answer[1]["connection"] == "close"
            assert await caller.reader.read() == b""

    asyncio.run(main())


def test_everything_else_is_answered_while_a_model_is_full(service, served):
    async def main():
        async with calling(service, gate.Tokens([TOKEN])) as caller:
            served.inside = FULL
            assert (await caller.ask(request(b"", "/v2/health/live", "GET")))[0] == 200
            assert (await caller.ask(request()))[0] == 401
            assert (await caller.ask(request(Authorization="Bearer wrong")))[0] == 401
            is_refused(await caller.ask(request(Authorization=f"Bearer {TOKEN}")))
            allowed = {"Authorization": f"Bearer {TOKEN}"}
            assert (await caller.ask(request(path="/v2/models/none/infer", **allowed)))[0] == 404
            assert (await caller.ask(request(b"", PATH, "PUT", **allowed)))[0] == 405
            # The application looks at what is unusual, and its line has room.
            assert (await caller.ask(request(path=PATH + "?a=b", **allowed)))[0] == 200
            caller.writer.write(request(Expect="100-continue", **allowed))
            assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await caller.answer())[0] == 200

    asyncio.run(main())


def test_a_server_that_ends_refuses_nobody_for_want_of_room(service, served, monkeypatch):
    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            is_refused(await caller.ask(request()))
            monkeypatch.setattr(service, "stopping", True)
            status, headers, _ = await caller.ask(request())
            assert (status, headers["connection"]) == (200, "close")

    asyncio.run(main())


def test_a_line_in_the_log_for_a_refusal(service, served):
    lines = []

    async def main():
        async with calling(service, log=lines.append) as caller:
            served.inside = FULL
            await caller.ask(request())
            await caller.ask(request())

    asyncio.run(main())
    for line in map(json.loads, lines):
        assert (line["status"], line["method"], line["path"], line["client"]) == (503, "POST", PATH, "127.0.0.1")
        assert "wait already" in line["error"]
    assert len(lines) == 2


def test_the_rest_of_a_refused_request_is_not_waited_for_forever(service, served, monkeypatch):
    monkeypatch.setattr(door, "SECONDS", 0.05)

    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            caller.writer.write(request()[:-5])
            assert await caller.reader.read() == b""

    asyncio.run(main())


def test_a_caller_that_goes_away_is_no_longer_inside_and_not_computed_for(service, served, monkeypatch):
    opened = threading.Event()
    ran = []
    run = served.batcher._run
    monkeypatch.setattr(served.batcher, "_run", lambda *asked: ran.append(1) or (opened.wait(30) and run(*asked)))

    async def main():
        async with calling(service) as first, calling(service) as second:
            first.writer.write(request())
            while not ran:
                await asyncio.sleep(0.001)
            second.writer.write(request())
            while len(served.batcher._line) == 0:
                await asyncio.sleep(0.001)
            assert served.inside == 2
            second.writer.close()
            while served.inside == 2:
                await asyncio.sleep(0.001)
            while not served.refused["cancelled"]:
                await asyncio.sleep(0.001)
            opened.set()
            assert (await first.answer())[0] == 200

    asyncio.run(main())
    assert len(ran) == 1


def test_an_answer_that_comes_too_late_is_given_up(service, served, monkeypatch):
    opened = threading.Event()
    run = served.batcher._run
    monkeypatch.setattr(served.batcher, "_run", lambda *asked: opened.wait(30) and run(*asked))
    body = json.loads(BODY) | {"parameters": {"timeout": 50_000}}

    async def main():
        async with calling(service) as caller:
            status, _, document = await caller.ask(request(json.dumps(body).encode()))
            assert (status, document["error"]) == (503, "there was no answer within 0.05 seconds; try again later")
            opened.set()

    asyncio.run(main())
    assert served.refused["late"] == 1


def test_a_connection_is_idle_from_its_last_refusal_on(service, served):
    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            is_refused(await caller.ask(request()))
            is_refused(await caller.ask(request()))  # written without ado
            mine = caller.doors[0]
            mine._look()
            is_refused(await caller.ask(request()))
            mine._since -= mine.timeout_keep_alive
            mine._look()
            assert await caller.reader.read() == b""

    asyncio.run(main())


def test_what_was_refused_is_not_taken_for_that_within_another_request(service, served):
    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            is_refused(await caller.ask(request()))
            index = request(request(), "/v2/repository/index")
            caller.writer.write(index[: -len(request())])
            await asyncio.sleep(0.05)
            assert (await caller.ask(request()))[0] == 400  # it was the body
            is_refused(await caller.ask(request()))

    asyncio.run(main())


def test_what_was_refused_waits_behind_what_is_being_answered(service, served, monkeypatch):
    opened = threading.Event()
    run = served.batcher._run
    monkeypatch.setattr(served.batcher, "_run", lambda *asked: opened.wait(30) and run(*asked))

    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            is_refused(await caller.ask(request()))
            served.inside = 0
            caller.writer.write(request())
            while served.inside == 0:
                await asyncio.sleep(0.001)
            served.inside = FULL + 1
            caller.writer.write(request())
            await asyncio.sleep(0.05)
            opened.set()
            assert (await caller.answer())[0] == 200
            assert (await caller.answer())[0] == 200

    asyncio.run(main())


def test_two_in_one_piece_are_refused_twice_each_time(service, served):
    async def main():
        async with calling(service) as caller:
            served.inside = FULL
            for _ in range(3):
                is_refused(await caller.ask(request() + request()))
                is_refused(await caller.answer())

    asyncio.run(main())


def test_what_was_answered_before_it_was_whole_does_not_stay_inside(service, served, monkeypatch):
    monkeypatch.setattr(service.budget, "limits", Limits(body=10))

    async def main():
        async with calling(service) as caller:
            assert (await caller.ask(request()[: -len(BODY)]))[0] == 413
            caller.writer.write(BODY)
            assert (await caller.ask(request(b"", "/v2/health/live", "GET")))[0] == 200
            assert served.inside == 0

    asyncio.run(main())
