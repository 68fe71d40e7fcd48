"""A model that is exchanged or taken away while a request for it is on its way: whatever answers also reads and writes it."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest
from onnx import TensorProto, helper
from serving_files import CPU, digits, doubling, value
from small_models import build, with_contract
from starlette.testclient import TestClient

from deploykit.errors import Unavailable
from deploykit.runtime.contract import ArrayInput, Contract, Output
from deploykit.serving.app import Service, application
from deploykit.serving.models import Models
from deploykit.serving.repository import find

BODY = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}


def other(entry="input", result="other"):
    """A network in the place of `doubling` whose input and output have these names."""
    model = build(
        [helper.make_node("MatMul", [entry, "w"], [result])],
        [value(entry, TensorProto.FLOAT, ["n", 3])],
        [value(result, TensorProto.FLOAT, ["n", 2])],
        {"w": np.array([[3, 0], [0, 3], [0, 0]], np.float32)},
    )
    return with_contract(model, Contract(ArrayInput((3,)), Output("none")))


@pytest.fixture
def folder(tmp_path):
    for name, model in (("m", doubling()), ("digits", digits())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(model.SerializeToString())
    return tmp_path


@pytest.fixture
def service(folder):
    models = Models(find([folder]), CPU)
    models.load_all()
    service = Service(models)
    yield service
    service.close()


@pytest.fixture
def client(service):
    with TestClient(application(service)) as client:
        yield client


@pytest.fixture
def exchanged(service, folder):
    """Put another file in the place of m, and load it."""

    def exchange(model):
        (folder / "m" / "model.onnx").write_bytes(model.SerializeToString())
        service.models.load("m")

    return exchange


@pytest.fixture
def once_read(service, monkeypatch):
    """Do something when the next body was read."""
    read = service.budget.read

    def do(work):
        async def read_and_work(request):
            body = await read(request)
            monkeypatch.setattr(service.budget, "read", read)
            await asyncio.to_thread(work)
            return body

        monkeypatch.setattr(service.budget, "read", read_and_work)

    return do


def closing_under(service, monkeypatch, name, call):
    """Load the model again within the `call`-th submission to the one that is there now, before that comes into its line."""
    served, calls = service.models.get(name), []
    submit = served.submit

    def submit_too_late(*given):
        calls.append(1)
        if len(calls) == call:
            service.models.load(name)
        return submit(*given)

    monkeypatch.setattr(served, "submit", submit_too_late)
    return served, calls


def test_a_body_that_ends_after_a_reload_is_for_the_new_model(client, once_read, exchanged, digit_png, service):
    once_read(lambda: exchanged(other()))
    answer = client.post("/v2/models/m/infer", json=BODY)
    assert (answer.status_code, answer.json()["outputs"][0]["name"]) == (200, "other")
    assert answer.json()["outputs"][0]["data"] == [3, 6]
    once_read(lambda: exchanged(other("another")))
    answer = client.post("/v2/models/m/infer", json=BODY)
    assert (answer.status_code, answer.json()["error"]) == (400, "there is no input 'input'; the network takes 'another'")
    once_read(lambda: service.models.load("digits"))
    assert client.post("/v2/models/digits/predict", content=digit_png).status_code == 200


def test_a_request_whose_model_was_closed_under_it_is_asked_of_the_new_one(client, service, monkeypatch):
    old, calls = closing_under(service, monkeypatch, "m", 1)
    answer = client.post("/v2/models/m/infer", json=BODY)
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [2, 4])
    assert (len(calls), old.closed, service.models.get("m").closed) == (1, True, False)


@pytest.mark.parametrize("call", [1, 2])
def test_images_whose_model_was_closed_between_two_runs_are_all_asked_of_the_new_one(client, service, monkeypatch, digit_png, call):
    old, calls = closing_under(service, monkeypatch, "digits", call)
    answer = client.post("/v2/models/digits/predict", json={"images": [base64.b64encode(digit_png).decode()] * 9})
    assert answer.status_code == 200, answer.text
    assert [each["error"] for each in answer.json()["predictions"]] == [None] * 9
    assert len(calls) >= call
    assert old.closed


def test_a_model_that_is_taken_away_under_a_request_is_not_there(client, once_read, service):
    once_read(lambda: service.models.unload("m"))
    answer = client.post("/v2/models/m/infer", json=BODY)
    assert (answer.status_code, answer.json()["error"]) == (503, "the model 'm' is not loaded")


def test_images_that_find_the_line_full_are_not_to_blame(client, service, monkeypatch, digit_png):
    def full(*_):
        raise Unavailable("full", "4 requests wait already, which is the limit")

    monkeypatch.setattr(service.models.get("digits"), "submit", full)
    answer = client.post("/v2/models/digits/predict", content=digit_png)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "wait already" in answer.json()["error"]
