"""What is not a request of the protocol gets one clear line and a status of 400 to 499; the server answers the next one."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib

import numpy as np
import pytest
from asking import binary, infer
from damage import mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from deploykit.errors import InputError
from deploykit.serving import documents
from deploykit.serving.bodies import Limits
from deploykit.serving.refusals import Refusal

GOOD = {"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
RAW = np.ones(3, "<f4").tobytes()


def one(**changes):
    entry = {**GOOD, **changes}
    return {"inputs": [{key: value for key, value in entry.items() if value is not ...}]}


WRONG = {
    "empty": b"",
    "no json": b"hello",
    "not utf-8": b'{"inputs": "\xff"}',
    "cut off": b'{"inputs": [',
    "a list": b"[]",
    "nan": b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [NaN, 1, 2]}]}',
    "deep": b"[" * 101 + b"]" * 101,
    "very deep": b'{"a":' * 200_000,
    "deep and unbalanced": b"[" * 5_000_000,
    "no inputs": {},
    "inputs no list": {"inputs": {"a": 1}},
    "inputs empty": {"inputs": []},
    "input no object": {"inputs": [1]},
    "no name": one(name=...),
    "name no text": one(name=[1]),
    "unknown input": one(name="other"),
    "wrong datatype": one(datatype="FP64"),
    "unknown datatype": one(datatype="FP8"),
    "no datatype": one(datatype=...),
    "datatype no text": one(datatype={}),
    "no shape": one(shape=...),
    "shape no list": one(shape="1,3"),
    "shape of texts": one(shape=["1", "3"]),
    "shape of floats": one(shape=[1.0, 3.0]),
    "shape of booleans": one(shape=[True, 3]),
    "negative size": one(shape=[-1, 3]),
    "two negative sizes": one(shape=[-1, -3]),
    "overflow of elements": one(shape=[2**31, 2**31, 2**31]),
    "overflow of bytes": one(shape=[2**62, 3]),
    "many axes": one(shape=[1] * 100),
    "axes that numpy has not": one(shape=[1] * 32),
    "wrong shape": one(shape=[1, 4], data=[1, 2, 3, 4]),
    "wrong rank": one(shape=[3]),
    "no rows": one(shape=[0, 3], data=[]),
    "too many rows": one(shape=[9, 3], data=[1] * 27),
    "too few elements": one(data=[1, 2]),
    "too many elements": one(data=[1, 2, 3, 4]),
    "ragged": one(data=[[1, 2], [3]]),
    "texts": one(data=["1", "2", "3"]),
    "booleans": one(data=[True, False, True]),
    "a boolean among numbers": one(data=[True, 0.5, 2]),
    "one long text": one(data=["a" * 20_000, *[""] * 20_000]),
    "empty but large": one(shape=[0, 3, 80_000_000], data=[]),
    "nulls": one(data=[None, 1, 2]),
    "objects": one(data=[{}, {}, {}]),
    "data no list": one(data=7),
    "too large a number": one(data=[1e300, 1, 2]),
    "digits without end": b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [' + b"9" * 100_000 + b", 1, 2]}]}",
    "no data": one(data=...),
    "given twice": {"inputs": [GOOD, GOOD]},
    "both data and binary": one(parameters={"binary_data_size": 12}),
    "binary without header": one(data=..., parameters={"binary_data_size": 12}),
    "parameters no object": {**one(), "parameters": []},
    "parameter an object": {**one(), "parameters": {"a": {}}},
    "reserved parameter": {**one(), "parameters": {"triton_enable": True}},
    "sequence": {**one(), "parameters": {"sequence_id": 5}},
    "timeout a text": {**one(), "parameters": {"timeout": "soon"}},
    "timeout negative": {**one(), "parameters": {"timeout": -1}},
    "id a number": {**one(), "id": 5},
    "long id": {**one(), "id": "x" * 2000},
    "outputs no list": {**one(), "outputs": 1},
    "output no object": {**one(), "outputs": ["out"]},
    "unknown output": {**one(), "outputs": [{"name": "other"}]},
    "output without a name": {**one(), "outputs": [{}]},
    "output twice": {**one(), "outputs": [{"name": "out"}, {"name": "out"}]},
    "binary_data no boolean": {**one(), "outputs": [{"name": "out", "parameters": {"binary_data": "yes"}}]},
    "classification negative": {**one(), "outputs": [{"name": "out", "parameters": {"classification": -1}}]},
    "shared memory in": one(data=..., parameters={"shared_memory_region": "r", "shared_memory_byte_size": 12}),
    "shared memory out": {**one(), "outputs": [{"name": "out", "parameters": {"shared_memory_region": "r", "classification": 2}}]},
}  # fmt: skip


def is_refused(response, statuses=range(400, 500)):
    assert response.status_code in statuses, response.text
    assert list(response.json()) == ["error"]
    assert response.json()["error"]
    assert "Traceback" not in response.text
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize("name", WRONG)
def test_malformed_json(client, name):
    is_refused(infer(client, "doubling", WRONG[name]), [400])


HEAD = json.dumps(one(data=..., parameters={"binary_data_size": 12})).encode()


@pytest.mark.parametrize(
    ("length", "body"),
    [
        ("x", HEAD + RAW), ("-1", HEAD + RAW), ("1.5", HEAD + RAW), ("", HEAD + RAW), ("٣", HEAD + RAW), ("9" * 30, HEAD + RAW),
        (str(len(HEAD) + 13), HEAD + RAW), (str(len(HEAD) - 1), HEAD + RAW), (str(len(HEAD)), HEAD + RAW[:-1]),
        (str(len(HEAD)), HEAD + RAW + b"x"), ("0", RAW + b"x"), ("0", b""),
    ],
)  # fmt: skip
def test_malformed_lengths(client, length, body):
    is_refused(infer(client, "doubling", body, {"Inference-Header-Content-Length": length.encode()}), [400])


@pytest.mark.parametrize("size", ["12", -12, 11, 13, 12.0, True, None, 2**70])
def test_malformed_sizes(client, size):
    head = json.dumps(one(data=..., parameters={"binary_data_size": size})).encode()
    response = infer(client, "doubling", head + RAW, {"Inference-Header-Content-Length": str(len(head))})
    is_refused(response, [400])


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0", b"\1\0\0\0", b"\xff\xff\xff\xff", b"\1\0\0\0a\1\0\0\0", b"\1\0\0\0a\1\0\0\0bc", b"\1\0\0\0\xff\1\0\0\0b"],
)  # fmt: skip
def test_malformed_texts(client, raw):
    body, headers = binary({"x": ("BYTES", (1, 2), raw)})
    is_refused(infer(client, "BYTES", body, headers), [400])


def test_bytes_that_are_no_boolean(client):
    body, headers = binary({"x": ("BOOL", (1, 2), b"\x02\x00")})
    is_refused(infer(client, "BOOL", body, headers), [400])


@pytest.mark.parametrize(("datatype", "data"), [("UINT8", [256, 0]), ("INT8", [-129, 0]), ("UINT64", [-1, 2**64 - 1]), ("INT64", [2**63, 0]), ("INT32", [0.5, 1]), ("BOOL", [1, 0]), ("BYTES", [1, 2]), ("BYTES", ["\ud800", "a"])])  # fmt: skip
def test_values_that_a_datatype_has_not(client, datatype, data):
    is_refused(infer(client, datatype, {"inputs": [{"name": "x", "datatype": datatype, "shape": [1, 2], "data": data}]}), [400])


def test_a_raw_body_that_does_not_say_which_input(client):
    is_refused(infer(client, "pair", RAW, {"Inference-Header-Content-Length": "0"}), [400])
    is_refused(infer(client, "BYTES", b"a", {"Inference-Header-Content-Length": "0"}), [400])


@pytest.fixture
def small(service, monkeypatch):
    """Bodies of at most 4 kB, before and after they are inflated."""
    monkeypatch.setattr(service.budget, "limits", Limits(body=4096, held=10_000))
    return service


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_a_body_may_be_so_large_and_no_larger(client, small, encoding):
    squeeze = {"gzip": gzip.compress, "deflate": zlib.compress, None: bytes}[encoding]
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    text = json.dumps(one()).encode()
    assert infer(client, "doubling", squeeze(text.ljust(4096)), headers).status_code == 200
    is_refused(infer(client, "doubling", squeeze(text.ljust(4097)), headers), [413])
    if encoding:
        is_refused(infer(client, "doubling", squeeze(bytes(50_000_000)), headers), [413])
    assert small.budget.held == 0


def test_a_body_in_pieces_is_counted_too(client, small):
    is_refused(client.post("/v2/models/doubling/infer", content=(b" " * 1000 for _ in range(10))), [413])
    assert small.budget.held == 0


def test_what_all_requests_hold_is_bounded(client, small, monkeypatch):
    monkeypatch.setattr(small.budget, "held", 9_990)
    response = infer(client, "doubling", one())
    is_refused(response, [503])
    assert response.headers["retry-after"] == "1"
    assert small.budget.held == 9_990


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"x", 415), ("gzip, gzip", b"x", 415), ("gzip", b"no gzip", 400), ("deflate", b"no deflate", 400),
        ("gzip", gzip.compress(json.dumps(one()).encode(), mtime=0)[:-9], 400),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"more", 400), ("gzip", gzip.compress(b"{}", mtime=0) * 2, 400),
        ("deflate", zlib.compress(b"{}")[:-4], 400), ("gzip", b"", 400),
    ],
    ids=["unknown", "twice", "no gzip", "no deflate", "cut gzip", "more behind it", "two streams", "cut deflate", "empty"],
)  # fmt: skip
def test_compression_that_is_none(client, encoding, body, status):
    is_refused(infer(client, "doubling", body, {"Content-Encoding": encoding}), [status])


def test_gzip_in_two_members_is_one_body(client):
    text = json.dumps(one()).encode()
    body = gzip.compress(text[:20], mtime=0) + gzip.compress(text[20:], mtime=0)
    assert infer(client, "doubling", body, {"Content-Encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize("lengths", [("0", "5"), ("5", "5")])
def test_two_lengths_of_the_header_are_refused(client, lengths):
    headers = [("Inference-Header-Content-Length", length) for length in lengths]
    is_refused(infer(client, "doubling", RAW, headers), [400])
    is_refused(infer(client, "doubling", gzip.compress(RAW), [("Content-Encoding", "gzip")] * 2), [415])


def test_a_document_that_is_too_large_is_told_what_to_do(client):
    response = infer(client, "doubling", json.dumps(one()).encode().ljust(documents.MAX_JSON + 1))
    is_refused(response, [413])
    assert "send tensors as binary data" in response.json()["error"]
    head = json.dumps(one()).encode().ljust(documents.MAX_JSON + 1)
    is_refused(infer(client, "doubling", head, {"Inference-Header-Content-Length": str(len(head))}), [413])


def test_a_body_that_does_not_come_in_time(client, service, monkeypatch):
    async def never():
        await asyncio.Event().wait()

    monkeypatch.setattr(service.budget, "limits", Limits(seconds=0.0))
    monkeypatch.setattr(Request, "receive", property(lambda _: never))
    is_refused(infer(client, "doubling", one()), [408])
    assert service.budget.held == 0


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_depth_is_counted_as_json_has_it(value):
    def depth(inside):
        children = inside.values() if isinstance(inside, dict) else inside if isinstance(inside, list) else ()
        return (1 if isinstance(inside, (dict, list)) else 0) + max(map(depth, children), default=0)

    for more in (0, documents.MAX_DEPTH - 8):
        nested = value
        for _ in range(more):
            nested = [nested]
        assert documents.is_deep(json.dumps(nested).encode()) is (depth(nested) > documents.MAX_DEPTH)


def test_brackets_in_texts_do_not_count():
    assert documents.parse(json.dumps({"a": "[" * 500 + '\\"' + "{" * 500}).encode())
    with pytest.raises(InputError, match="deeper than 100"):
        documents.parse(json.dumps({"a": [[[]]]}).encode().replace(b"[[[]]]", b"[" * 100 + b"]" * 100))


def test_fuzzed_bodies_never_fail_the_server(client, service):
    """Some are still requests; the others are refused with a status of the caller's. More of them: benchmarks/serving_faults.py."""
    random_ = random.Random(18)
    seeds = [
        (json.dumps(one()).encode(), {}),
        binary({"input": ("FP32", (1, 3), RAW)}),
        (RAW, {"Inference-Header-Content-Length": "0"}),
    ]
    for _ in range(300):
        body, headers = random_.choice(seeds)
        response = infer(client, "doubling", mutated(random_, body), headers)
        if response.status_code != 200:
            is_refused(response)
    assert service.budget.held == 0
    assert infer(client, "doubling", one()).json()["outputs"][0]["data"] == [2, 4]


def test_an_error_of_the_servers_own_tells_nothing(client, service, monkeypatch, caplog):
    def broken(*_):
        raise KeyError("/home/secret")

    monkeypatch.setattr(service.models.get("doubling").batcher, "_run", broken)
    response = infer(client, "doubling", one())
    is_refused(response, [500])
    assert response.json() == {"error": "internal error (KeyError)"}
    assert "secret" in caplog.text


def test_too_little_memory_is_said(client, service, monkeypatch):
    def broken(*_):
        raise MemoryError

    monkeypatch.setattr(service.models.get("doubling").batcher, "_run", broken)
    response = infer(client, "doubling", one())
    is_refused(response, [500])
    assert "memory" in response.json()["error"]
    assert Refusal(400, "x").reason == "invalid"
