"""What the server says about itself and its models, and what it says to what it does not know."""

from __future__ import annotations

import asyncio

import pytest


def test_health(client):
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/digits/ready").status_code == 200
    assert client.get("/v2/models/digits/versions/1/ready").status_code == 200
    assert client.get("/v2/models/none/ready").status_code == 404


def test_no_longer_ready_when_it_stops(client, service, monkeypatch):
    monkeypatch.setattr(service, "stopping", True)
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/models/digits/ready").status_code == 503


def test_metadata(client):
    about = client.get("/v2").json()
    assert about["name"] == "deploykit"
    assert "binary_tensor_data" in about["extensions"]
    assert client.get("/v2/models/digits").json() == {
        "name": "digits",
        "versions": ["1", "2"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
    }


def test_configuration(client):
    config = client.get("/v2/models/digits/config").json()
    assert (config["name"], config["max_batch_size"], config["backend"]) == ("digits", 8, "onnxruntime")
    assert config["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [1, 8, 8]}]
    assert config["output"] == [{"name": "logits", "data_type": "TYPE_FP32", "dims": [10]}]
    assert "dynamic_batching" in config


def test_statistics_count_rows_and_runs(client):
    before = client.get("/v2/models/doubling/stats").json()["model_stats"][0]
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [3, 3], "data": [1] * 9}]}
    assert client.post("/v2/models/doubling/infer", json=body).status_code == 200
    assert client.post("/v2/models/doubling/infer", json={}).status_code == 400
    after = client.get("/v2/models/doubling/stats").json()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
    assert after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
    assert after["inference_stats"]["queue"]["ns"] >= 0
    runs = {entry["batch_size"]: entry["compute_infer"]["count"] for entry in after["batch_stats"]}
    before_runs = {entry["batch_size"]: entry["compute_infer"]["count"] for entry in before["batch_stats"]}
    assert runs[3] - before_runs.get(3, 0) == 1
    names = {entry["name"] for entry in client.get("/v2/models/stats").json()["model_stats"]}
    assert {"digits", "doubling", "pair"} <= names


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v3", 404), ("GET", "/v2/", 404), ("GET", "/v2/models/nothing", 404), ("GET", "/v2/models/digits/versions/x", 404),
        ("GET", "/v2/models/digits/infer", 405), ("DELETE", "/v2", 405), ("POST", "/v2/models/nothing/infer", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404), ("GET", "/v2/models/%00", 404),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_one_line_of_json(client, method, path, status):
    response = client.request(method, path, follow_redirects=False)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


def test_the_repository(client, service, monkeypatch):
    index = client.post("/v2/repository/index", json={}).json()
    assert {"name": "digits", "version": "2", "state": "READY", "reason": ""} in index
    wrong = client.post("/v2/repository/index", json={"ready": {}})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "ready must be true or false, not {}")
    assert client.post("/v2/repository/models/pair/unload").status_code == 200
    gone = client.post("/v2/models/pair/infer", json={})
    assert (gone.status_code, gone.json()["error"]) == (503, "the model 'pair' is not loaded")
    assert service.ready, "it is as somebody wanted it"
    assert {"name": "pair", "version": "", "state": "UNAVAILABLE", "reason": "unloaded"} in client.post(
        "/v2/repository/index"
    ).json()
    assert client.post("/v2/repository/models/pair/load").status_code == 200
    assert service.ready
    with monkeypatch.context() as broken:
        broken.setattr(service.models.model("pair"), "versions", {})
        assert not service.ready, "nobody wanted that"
    assert client.post("/v2/repository/models/nothing/load").status_code == 404
    monkeypatch.setattr(service, "allow_reload", False)
    assert client.post("/v2/repository/models/pair/unload").status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200), ({"Origin": "http://testserver"}, 200), ({"Origin": "https://elsewhere"}, 403), ({"Origin": "null"}, 403),
        ({"Origin": "http://testserver:81"}, 403), ({"Sec-Fetch-Site": "same-origin"}, 200), ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://the.name.of.a.proxy"}, 200),
    ],
)  # fmt: skip
@pytest.mark.parametrize("change", ["load", "unload"])
def test_a_page_of_another_site_changes_no_models(client, service, monkeypatch, headers, status, change):
    done = []
    monkeypatch.setattr(service.models, change, done.append)
    response = client.post(f"/v2/repository/models/pair/{change}", headers=headers)
    assert (response.status_code, done) == (status, ["pair"] if status == 200 else [])
    if status == 403:
        assert "another site" in response.json()["error"]


@pytest.mark.parametrize("path", ["*", "/nothing", "/page/page.js", "/", "/v2", "/v2/models/none/infer"])
@pytest.mark.parametrize(("host", "query"), [("testserver", b"\xff"), ("[", b""), ("[", b"\xff=\xfe")])
def test_a_query_and_a_host_that_are_none_fail_nothing(client, path, host, query):
    """As our own protocol hands them on: as bytes."""
    found = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        found.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query,
        "headers": [(b"host", host.encode())], "server": ("x", 80), "client": None, "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    asyncio.run(client.app(scope, receive, send))
    assert found[0]["status"] in (200, 404, 405)
