"""Images through `predict`: the contract's answers, however the image came."""

from __future__ import annotations

import base64
import json
import threading
from io import BytesIO

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from serving_files import CPU, value
from small_models import DIGITS, build, with_contract
from starlette.formparsers import MultiPartParser

from deploykit.runtime.contract import ArrayInput, Contract, Output, SegmentationOutput
from deploykit.serving import documents, images
from deploykit.serving.models import Served
from deploykit.serving.work import LARGE

URL = "/v2/models/digits/predict"


@pytest.fixture
def expected(service, digit_png):
    answer = service.models.get("digits").predictor.predict(digit_png, top=3)
    return [{"label": candidate.label, "score": pytest.approx(candidate.score, abs=1e-5)} for candidate in answer.top]


def test_an_image_however_it_comes(client, digit_png, expected):
    text = base64.b64encode(digit_png).decode()
    pixels = np.asarray(Image.open(BytesIO(digit_png))).tolist()
    responses = [
        client.post(f"{URL}?top=3", content=digit_png),
        client.post(f"{URL}?top=3", content=digit_png, headers={"Content-Type": "image/png"}),
        client.post(f"{URL}?top=3", files={"image": ("three.png", digit_png, "image/png")}),
        client.post(f"{URL}?top=3", json={"images": [text]}),
        client.post(f"{URL}?top=3", json={"images": [f"data:image/png;base64,{text}"]}),
        client.post(f"{URL}?top=3", json={"inputs": [pixels]}),
    ]
    for response in responses:
        assert response.status_code == 200, response.text
        said = response.json()
        assert (said["model_name"], said["model_version"]) == ("digits", "2")
        (answer,) = said["predictions"]
        assert answer["top"] == expected
        assert (answer["label"], answer["error"]) == (expected[0]["label"], None)


def test_several_images_answer_in_order_and_a_bad_one_spoils_itself(client, service, digit_png):
    files = [("a", ("1.png", digit_png)), ("a", ("2.png", b"no image")), ("b", ("3.png", digit_png))]
    answers = client.post(URL, files=files).json()["predictions"]
    assert [answer["error"] is None for answer in answers] == [True, False, True]
    assert answers[0] == answers[2]


def test_whole_numbers_are_pixels_however_they_are_written(client, digit_png, expected):
    pixels = np.asarray(Image.open(BytesIO(digit_png))).astype(float).tolist()
    (answer,) = client.post(f"{URL}?top=3", json={"inputs": [pixels]}).json()["predictions"]
    assert answer["top"] == expected


def test_images_are_counted_before_they_are_decoded(client, monkeypatch):
    monkeypatch.setattr(images, "_decoded", lambda text: pytest.fail("one was decoded"))
    monkeypatch.setattr(images, "_array", lambda value, rules: pytest.fail("one was made"))
    for name in ("images", "inputs"):
        response = client.post(URL, json={name: [""] * 257})
        assert (response.status_code, "send at most 256" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize("kind", ["json", "form"])
def test_a_large_body_is_read_beside_the_event_loop(client, monkeypatch, digit_png, kind):
    threads = []
    read = documents.parse if kind == "json" else MultiPartParser.parse

    def noted(*given):
        threads.append(threading.current_thread())
        return read(*given)

    monkeypatch.setattr(*((documents, "parse") if kind == "json" else (MultiPartParser, "parse")), noted)
    for filling in (b"", bytes(LARGE)):
        image = digit_png + filling
        sent = {"json": {"images": [base64.b64encode(image).decode()]}} if kind == "json" else {"files": {"a": image}}
        assert client.post(URL, **sent).json()["predictions"][0]["error"] is None
    assert threads[0] is not threads[1]
    assert threads[1].name.startswith("asyncio_")


def test_images_of_many_callers_share_runs(client, service, digit_png):
    served = service.models.get("digits")
    before = served.batcher.figures()
    response = client.post(URL, json={"images": [base64.b64encode(digit_png).decode()] * 20})
    assert len(response.json()["predictions"]) == 20
    after = served.batcher.figures()
    assert (after.rows - before.rows, after.executions - before.executions) == (20, 3)  # at most 8 rows a run


def test_a_network_of_arrays(client):
    response = client.post("/v2/models/doubling/predict", json={"inputs": [[1, 2, 3], [4.5, 5, 6]]})
    assert [answer["values"] for answer in response.json()["predictions"]] == [[2, 4], [9, 10]]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", "image/png", "no image"),
        (b"no image", "image/png", "image"),
        (b"{}", "application/json", "either"),
        (b'{"images": [], "inputs": []}', "application/json", "either"),
        (b'{"images": []}', "application/json", "no image"),
        (b'{"images": 5}', "application/json", "lists"),
        (b'{"images": [5]}', "application/json", "base64"),
        (b'{"images": ["%%%"]}', "application/json", "base64"),
        (b'{"inputs": [[[1, 2], [3]]]}', "application/json", "ragged"),
        (b'{"inputs": [["a"]]}', "application/json", "numbers"),
        (b'{"inputs": [[[300]]]}', "application/json", "0 to 255"),
        (b'{"inputs": [[[0.5, 1.0]]]}', "application/json", "whole numbers from 0 to 255, not 0.5; give 255 times"),
        (b'{"inputs": [[[-1]]]}', "application/json", "0 to 255"),
        (b'{"inputs": [[[true, false]]]}', "application/json", "numbers"),
        (b'{"inputs": [[]]}', "application/json", ""),
        (b"x", "multipart/form-data", "boundary"),
        (b"x", "multipart/form-data; boundary=b", ""),
        (
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nhello\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            "no image",
        ),
        (json.dumps({"images": ["aaaa"] * 257}).encode(), "application/json", "at most 256"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(client, body, kind, said):
    response = client.post(URL, content=body, headers={"Content-Type": kind})
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]


@pytest.mark.parametrize("top", ["0", "-1", "x", "", "1e3", "99999999"])
def test_top_is_a_whole_number(client, digit_png, top):
    response = client.post(f"{URL}?top={top}", content=digit_png)
    assert response.status_code == 400
    assert "top" in response.json()["error"]


def test_a_file_without_a_contract_says_why_not(client, digit_png):
    response = client.post("/v2/models/pair/predict", content=digit_png)
    assert response.status_code == 400
    assert "has no contract" in response.json()["error"]
    response = client.post("/v2/models/doubling/predict", content=digit_png)
    assert "takes arrays" in response.json()["error"]


def test_too_many_requests_with_images_are_refused_at_once(client, service, monkeypatch, digit_png):
    monkeypatch.setattr(service, "_with_images", 128)
    assert client.post(URL, content=digit_png).status_code == 503


def served_file(tmp_path, model, contract):
    path = tmp_path / "m.onnx"
    path.write_bytes(with_contract(model, contract).SerializeToString())
    return Served("m", 1, path, CPU)


@pytest.fixture
def asked(service, monkeypatch, client):
    """Ask a model that is put in the place of `pair`."""

    def ask(served, **request):
        monkeypatch.setitem(service.models.model("pair").versions, "1", served)
        return client.post("/v2/models/pair/predict", **request)

    return ask


def test_a_mask_for_each_image(tmp_path, asked, digit_png):
    weight = np.array([1.0, -1.0], np.float32).reshape(2, 1, 1, 1)
    model = build(
        [helper.make_node("Conv", ["input", "w"], ["scores"])],
        [value("input", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [value("scores", TensorProto.FLOAT, ["n", 2, 8, 8])],
        {"w": weight},
    )
    served = served_file(tmp_path, model, Contract(DIGITS, SegmentationOutput(labels=("light", "dark"))))
    response = asked(served, files=[("a", digit_png), ("b", digit_png)])
    assert response.status_code == 200, response.text
    first, second = response.json()["predictions"]
    assert first == second
    expected = served.predictor.predict(digit_png).as_dict()
    assert first == json.loads(json.dumps({key: each for key, each in expected.items() if key != "path"}))
    assert first["task"] == "segmentation"
    served.close()


def test_several_inputs_come_by_name(tmp_path, asked, digit_png):
    model = build(
        [
            helper.make_node("ReduceSum", ["image", "axes"], ["total"], keepdims=0),
            helper.make_node("Mul", ["total", "factor"], ["out"]),
        ],
        [value("image", TensorProto.FLOAT, ["n", 1, 8, 8]), value("factor", TensorProto.FLOAT, ["n", 1])],
        [value("out", TensorProto.FLOAT, ["n", 1])],
        {"axes": np.array([2, 3], np.int64)},
    )
    inputs = {"image": DIGITS, "factor": ArrayInput((1,))}
    served = served_file(tmp_path, model, Contract(DIGITS, Output("none"), inputs=inputs))
    text = base64.b64encode(digit_png).decode()
    pixels = np.asarray(Image.open(BytesIO(digit_png))).tolist()
    response = asked(served, json={"inputs": [{"image": text, "factor": [2]}, {"image": pixels, "factor": [4]}]})
    assert response.status_code == 200, response.text
    one, two = (answer["values"][0] for answer in response.json()["predictions"])
    assert two == pytest.approx(2 * one)
    assert one == pytest.approx(
        float(served.predictor.predict({"image": digit_png, "factor": np.array([2], np.float32)}).values[0])
    )
    for wrong in (
        {"inputs": [{"image": text}]},
        {"inputs": [[1]]},
        {"images": [text]},
        {"inputs": [{"image": "/etc/passwd", "factor": [1]}]},
    ):
        assert asked(served, json=wrong).status_code == 400, wrong
    served.close()
