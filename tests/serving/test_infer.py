"""Tensors through `infer`: every datatype, JSON and raw bytes, compression, outputs that are asked for."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
from asking import NUMPY, answered, binary, infer, packed

VALUES = {
    "BOOL": [[True, False]], "UINT8": [[0, 255]], "UINT16": [[0, 65535]], "UINT32": [[0, 2**32 - 1]], "UINT64": [[0, 2**64 - 1]],
    "INT8": [[-128, 127]], "INT16": [[-32768, 32767]], "INT32": [[-(2**31), 2**31 - 1]], "INT64": [[-(2**63), 2**63 - 1]],
    "FP32": [[0.5, -1.25]], "FP64": [[0.1, -1e300]],
}  # fmt: skip


@pytest.mark.parametrize("datatype", NUMPY)
def test_raw_bytes_of_every_datatype_come_back_as_they_went(client, datatype):
    data = np.array(VALUES.get(datatype, [[1.5, -2.0]]), NUMPY[datatype] if datatype != "BF16" else np.float32)
    raw = (data.view(np.uint32) >> 16).astype("<u2").tobytes() if datatype == "BF16" else data.tobytes()
    body, headers = binary({"x": (datatype, (1, 2), raw)}, parameters={"binary_data_output": True}, id="seven")
    response = infer(client, datatype, body, headers)
    assert response.status_code == 200, response.text
    found, document = answered(response)
    assert found["y"].tobytes() == raw
    assert (document["id"], document["model_name"], document["model_version"]) == ("seven", datatype, "1")
    assert document["outputs"][0] == {
        "name": "y",
        "datatype": datatype,
        "shape": [1, 2],
        "parameters": {"binary_data_size": len(raw)},
    }


@pytest.mark.parametrize("datatype", VALUES)
@pytest.mark.parametrize("nested", [True, False])
def test_json_of_every_datatype_that_has_a_form_there(client, datatype, nested):
    data = VALUES[datatype] if nested else VALUES[datatype][0]
    response = infer(client, datatype, {"inputs": [{"name": "x", "datatype": datatype, "shape": [1, 2], "data": data}]})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in response.headers
    assert response.json()["outputs"] == [{"name": "y", "datatype": datatype, "shape": [1, 2], "data": VALUES[datatype][0]}]
    assert "id" not in response.json()


def test_a_number_as_javascript_writes_it(client):
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [100000000000000000000, 1.5]}]}'
    response = infer(client, "FP32", body)
    assert (response.status_code, response.json()["outputs"][0]["data"]) == (200, [pytest.approx(1e20), 1.5])


def test_texts_in_json_and_in_bytes(client):
    texts = ["", "zwölf \u0000 ✓"]
    response = infer(client, "BYTES", {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 2], "data": [texts]}]})
    assert response.json()["outputs"][0]["data"] == texts
    raw = packed([text.encode() for text in texts])
    body, headers = binary({"x": ("BYTES", (1, 2), raw)}, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    found, _ = answered(infer(client, "BYTES", body, headers))
    assert [text.decode() for text in found["y"].ravel()] == texts


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_has_no_form_in_json(client, datatype):
    response = infer(client, datatype, {"inputs": [{"name": "x", "datatype": datatype, "shape": [1, 2], "data": [1, 2]}]})
    assert response.status_code == 400
    assert "binary" in response.json()["error"]
    body, headers = binary({"x": (datatype, (1, 2), b"\0\0\0\0")})
    assert "binary_data" in infer(client, datatype, body, headers).json()["error"]


def test_nan_goes_through_as_bytes_and_is_refused_in_json(client):
    raw = np.array([[np.nan, np.inf]], np.float32).tobytes()
    body, headers = binary({"x": ("FP32", (1, 2), raw)}, parameters={"binary_data_output": True})
    assert answered(infer(client, "FP32", body, headers))[0]["y"].tobytes() == raw
    body, headers = binary({"x": ("FP32", (1, 2), raw)})
    response = infer(client, "FP32", body, headers)
    assert (response.status_code, "NaN" in response.json()["error"]) == (400, True)


PAIR = {
    "inputs": [
        {"name": "b", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]},
        {"name": "a", "datatype": "FP32", "shape": [1, 3], "data": [[10, 20, 30]]},
    ]
}


def test_several_inputs_and_outputs_in_any_order_and_form(client):
    assert {k: v.tolist() for k, v in answered(infer(client, "pair", PAIR))[0].items()} == {
        "sum": [[11, 22, 33]],
        "difference": [[9, 18, 27]],
    }
    wanted = [{"name": "difference", "parameters": {"binary_data": True}}, {"name": "sum"}]
    found, document = answered(infer(client, "pair", {**PAIR, "outputs": wanted}))
    assert [output["name"] for output in document["outputs"]] == ["difference", "sum"]
    assert "data" in document["outputs"][1]
    assert found["difference"].tolist() == [[9, 18, 27]]
    only = infer(client, "pair", {**PAIR, "outputs": [{"name": "sum"}]}).json()["outputs"]
    assert [output["name"] for output in only] == ["sum"]
    overruled = {
        **PAIR,
        "outputs": [{"name": "sum", "parameters": {"binary_data": False}}],
        "parameters": {"binary_data_output": True},
    }
    assert "data" in infer(client, "pair", overruled).json()["outputs"][0]


def test_one_input_raw_and_one_in_json(client):
    head = {
        "inputs": [
            {**PAIR["inputs"][0]},
            {"name": "a", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}},
        ]
    }
    text = json.dumps(head).encode()
    response = infer(client, "pair", text + np.ones(3, "<f4").tobytes(), {"Inference-Header-Content-Length": str(len(text))})
    assert answered(response)[0]["sum"].tolist() == [[2, 3, 4]]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_raw_body_is_the_only_input(client, service, rows):
    images = np.random.default_rng(0).normal(size=(rows, 1, 8, 8)).astype("<f4")
    response = infer(client, "digits", images.tobytes(), {"Inference-Header-Content-Length": "0"})
    found, _ = answered(response)
    np.testing.assert_allclose(found["logits"], service.models.get("digits").predictor.run(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_compression_in_both_directions(client, encoding):
    squeeze = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding]
    images = np.zeros((8, 1, 8, 8), "<f4")
    body, headers = binary({"input": ("FP32", images.shape, images.tobytes())}, parameters={"binary_data_output": False})
    with client.stream(
        "POST",
        "/v2/models/digits/infer",
        content=squeeze(body),
        headers={**headers, "Content-Encoding": encoding, "Accept-Encoding": encoding},
    ) as response:
        raw = b"".join(response.iter_raw())
        assert response.status_code == 200
    if encoding == "identity" or len(raw) < 200:
        assert (response.headers.get("content-encoding") is None) is (encoding == "identity")
    undo = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(response.headers.get("content-encoding"), bytes)
    assert json.loads(undo(raw))["outputs"][0]["shape"] == [8, 10]


def test_the_best_classes_are_named(client):
    pixels = np.random.default_rng(1).normal(size=(2, 1, 8, 8)).astype("<f4")
    body, headers = binary(
        {"input": ("FP32", pixels.shape, pixels.tobytes())}, outputs=[{"name": "logits", "parameters": {"classification": 2}}]
    )
    output = infer(client, "digits", body, headers).json()["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    scores, places, labels = zip(*(text.split(":") for text in output["data"]), strict=True)
    assert places == labels
    assert float(scores[0]) >= float(scores[1])


def test_a_version_is_named_or_is_the_newest(client):
    pixels = np.zeros((1, 1, 8, 8), "<f4").tobytes()
    body, headers = binary({"input": ("FP32", (1, 1, 8, 8), pixels)})
    assert infer(client, "digits", body, headers).json()["model_version"] == "2"
    assert infer(client, "digits/versions/1", body, headers).json()["model_version"] == "1"
    missing = infer(client, "digits/versions/3", body, headers)
    assert (missing.status_code, "1, 2" in missing.json()["error"]) == (404, True)


def test_a_timeout_of_the_caller_is_kept(client, service, monkeypatch):
    served = service.models.get("pair")
    monkeypatch.setattr(served.batcher, "_run", lambda *_: __import__("time").sleep(0.3) or {})
    response = infer(client, "pair", {**PAIR, "parameters": {"timeout": 1000}})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
