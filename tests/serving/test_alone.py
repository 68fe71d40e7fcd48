"""One caller alone is answered from the event loop; whoever has company, or a network that may take its time, is not."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from connections import BODY, calling, request
from serving_files import CPU, doubling
from small_models import counting

from deploykit.runtime import pace
from deploykit.runtime.batching import Batcher
from deploykit.runtime.pace import OFTEN
from deploykit.serving.alone import ENOUGH, Alone
from deploykit.serving.app import Service
from deploykit.serving.models import Models
from deploykit.serving.repository import find

COUNT = json.dumps({"inputs": [{"name": "count", "datatype": "INT64", "shape": [1], "data": [3]}]}).encode()
ALL = ENOUGH + OFTEN + 4


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for name, made in (("m", doubling()), ("counting", counting())):
        (folder / f"{name}.onnx").write_bytes(made.SerializeToString())
    models = Models(find([folder / "m.onnx", folder / "counting.onnx"]), CPU)
    models.load_all()
    service = Service(models)
    yield service
    service.close()


@pytest.fixture
def by_loop(monkeypatch):
    """Whether each run was made by the thread of the event loop."""
    found = []
    together = Batcher._answer_together
    loop = threading.current_thread()
    monkeypatch.setattr(
        Batcher,
        "_answer_together",
        lambda self, batch: found.append(threading.current_thread() is loop) or together(self, batch),
    )
    return found


def asked(service, by_loop, *turn):
    """`ALL` times the requests of a turn, each over a connection of its own; the answers."""
    answers = []

    async def main():
        async with calling(service) as first, calling(service) as second:
            for _ in range(ALL):
                for caller, data in zip((first, second), turn, strict=False):
                    answers.append(await caller.ask(data))

    by_loop.clear()
    asyncio.run(main())
    return answers


def test_one_caller_alone(service, by_loop, monkeypatch):
    monkeypatch.setattr(pace, "QUICK", 30.0)  # other work on this machine may hold up a run
    answers = asked(service, by_loop, request())
    assert len(by_loop) == ALL
    assert by_loop[-4:] == [True] * 4
    assert not by_loop[0]
    assert [(status, document["outputs"][0]["data"]) for status, _, document in answers] == [(200, [2, 4])] * ALL
    figures = service.models.get("m").batcher.figures()
    assert figures.requests == figures.executions
    assert figures.running == 0
    assert service.models.get("m").inside == 0


def test_two_callers_in_turns(service, by_loop):
    assert all(status == 200 for status, _, _ in asked(service, by_loop, request(), request()))
    assert by_loop == [False] * (2 * ALL)


def test_a_network_that_may_take_as_long_as_its_caller_likes(service, by_loop):
    assert all(status == 200 for status, _, _ in asked(service, by_loop, request(COUNT, "/v2/models/counting/infer")))
    assert by_loop == [False] * ALL


def test_a_caller_with_less_time_than_a_run_takes(service, by_loop):
    hurried = json.dumps({**json.loads(BODY), "parameters": {"timeout": 1}}).encode()
    asked(service, by_loop, request(hurried))
    assert not any(by_loop)


def test_who_is_alone():
    alone = Alone()
    assert [alone.asks(1) for _ in range(ENOUGH + 2)] == [False] * ENOUGH + [True, True]
    assert [alone.asks(2), alone.asks(1)] == [False, False]
    assert not any(alone.asks(None) for _ in range(ENOUGH + 2))
