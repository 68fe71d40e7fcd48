"""The rules of serving that need no server: bodies, refusals, tokens, tensors, what Triton and KServe are told."""

from __future__ import annotations

import contextlib
import gc
import gzip
import time
import zlib

import numpy as np
import pytest
from serving_files import doubling

from deploykit.errors import DeploykitError, InputError, Unavailable
from deploykit.runtime.session import TensorSpec
from deploykit.serving import bodies, documents, images, inference, kserve, tensors, triton
from deploykit.serving.bodies import Body, Budget, Limits, deflated, inflated
from deploykit.serving.gate import Tokens
from deploykit.serving.inference import Signature, Wanted
from deploykit.serving.refusals import CODES, RETRY_AFTER, Refusal, refusal_of
from deploykit.serving.repository import find
from deploykit.serving.server import lasting_objects
from deploykit.serving.tensors import TYPES, tensor_of


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, "INVALID_ARGUMENT", "invalid"), (401, "UNAUTHENTICATED", "unauthorized"), (403, "PERMISSION_DENIED", "invalid"),
        (404, "NOT_FOUND", "not_found"), (405, "UNIMPLEMENTED", "invalid"), (408, "DEADLINE_EXCEEDED", "invalid"),
        (413, "RESOURCE_EXHAUSTED", "too_large"), (415, "INVALID_ARGUMENT", "invalid"), (499, "CANCELLED", "invalid"),
        (500, "INTERNAL", "invalid"), (501, "UNIMPLEMENTED", "invalid"), (503, "UNAVAILABLE", "unavailable"),
    ],
)  # fmt: skip
def test_statuses_and_their_words(status, code, reason):
    assert CODES[status] == code
    assert len(CODES) == 12
    refusal = Refusal(status, "text")
    assert (refusal.status, refusal.text, refusal.reason, str(refusal)) == (status, "text", reason, "text")
    assert Refusal(status, "text", "own").reason == "own"


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (Refusal(499, "gone", "cancelled"), (499, "gone", "cancelled")),
        (Unavailable("full", "too many wait"), (503, "too many wait; try again later", "full")),
        (MemoryError(), (500, "there is not enough memory for this request", "memory")),
        (InputError("std::bad_alloc"), (500, "there is not enough memory for this request", "memory")),
        (RuntimeError("Failed to allocate memory"), (500, "there is not enough memory for this request", "memory")),
        (InputError("wrong", "mend it"), (400, "wrong; mend it", "invalid")),
        (DeploykitError("wrong"), (400, "wrong", "invalid")),
        (ValueError("secret"), (500, "internal error (ValueError)", "internal")),
    ],
)
def test_what_went_wrong_as_a_refusal(error, found):
    refusal = refusal_of(error)
    assert (refusal.status, refusal.text, refusal.reason) == found
    assert RETRY_AFTER == 1


def test_bytes_are_counted_until_they_are_released():
    budget = Budget(Limits(body=10, held=15))
    with Body(budget) as first:
        first.grow(4)
        first.grow(6)
        assert budget.held == 10
        with pytest.raises(Refusal, match="a request may have 10 bytes, inflated too") as refused:
            first.grow(1)
        assert (refused.value.status, budget.held) == (413, 10)
        with Body(budget) as second:
            second.grow(5)
            with pytest.raises(Refusal, match="too many bytes of other requests are held") as refused:
                second.grow(1)
            assert (refused.value.status, refused.value.reason, budget.held) == (503, "full", 15)
            first.set(3)
            second.set(10)
            assert budget.held == 13
        assert budget.held == 3
        first.release()
        assert budget.held == 0
    assert budget.held == 0


def test_small_bodies_have_room_of_their_own(monkeypatch):
    monkeypatch.setattr(bodies, "SMALL", 10)
    budget = Budget(Limits(body=1000, held=800))
    with Body(budget) as large, Body(budget) as growing, contextlib.ExitStack() as small:
        large.grow(700)  # with more, nobody else would be read
        growing.grow(10)
        with pytest.raises(Refusal, match="too many bytes of other requests are held"):
            growing.grow(1)
        for _ in range(9):
            small.enter_context(Body(budget)).grow(10)
        assert budget.held == 800
        with pytest.raises(Refusal, match="too many bytes of other requests are held"):
            Body(budget).grow(1)
    assert budget.held == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_inflated_has_a_limit_and_an_end(encoding):
    squeeze = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    data = bytes(range(256)) * 9000  # longer than one step
    assert inflated(squeeze(data), encoding, len(data)) == data
    assert inflated(squeeze(b""), encoding, 0) == b""
    with pytest.raises(Refusal, match=f"a request may have {len(data) - 1} bytes"):
        inflated(squeeze(data), encoding, len(data) - 1)
    with pytest.raises(Refusal, match=f"the body is no {encoding}: it goes on after its end"):
        inflated(squeeze(b"x") + b"y", encoding, 100)
    with pytest.raises(Refusal, match=f"the body is no {encoding}: it is cut off"):
        inflated(squeeze(data)[:-1], encoding, len(data))
    with pytest.raises(Refusal, match=f"the body is no {encoding}: it is cut off"):
        inflated(squeeze(data)[:2], encoding, len(data))
    with pytest.raises(Refusal, match=f"the body is no {encoding}: Error") as refused:
        inflated(b"nothing", encoding, 100)
    assert refused.value.status == 400


def test_gzip_may_have_several_members():
    data = bytes(range(256)) * 300
    several = gzip.compress(data) + gzip.compress(b"") + gzip.compress(data[:7])
    assert inflated(several, "gzip", len(data) + 7) == data + data[:7]
    with pytest.raises(Refusal, match=f"a request may have {len(data) + 6} bytes"):
        inflated(several, "gzip", len(data) + 6)
    for wrong, said in (
        (several[:-1], "it is cut off"),
        (several + b"\x1f", "it goes on after its end"),
        (several + bytes(9), "it goes on"),
    ):
        with pytest.raises(Refusal, match=f"the body is no gzip: {said}"):
            inflated(wrong, "gzip", 1 << 20)
    with pytest.raises(Refusal, match="the body is no deflate: it goes on after its end"):
        inflated(zlib.compress(data) * 2, "deflate", 1 << 20)


def test_a_bomb_of_many_members_is_bounded():
    assert inflated(gzip.compress(b"") * bodies.MOST_MEMBERS, "gzip", 0) == b""
    began = time.process_time()
    with pytest.raises(Refusal, match="a body of gzip may have 4096 members") as refused:
        inflated(gzip.compress(b"") * 200_000, "gzip", 0)
    assert refused.value.status == 413
    assert time.process_time() - began < 2


def test_headers_of_one_name_in_their_order():
    headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"\xe9")]
    assert (bodies.all_of(headers, b"a"), bodies.all_of(headers, b"c")) == (["1", "\u00e9"], [])


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"), ("deflate, gzip", "gzip"), ("deflate", "deflate"), ("GZIP;q=0.5", "gzip"), ("gzip;q=0", None),
        ("gzip; q=0.000, deflate;q=1", "deflate"), ("br", None), ("", None), ("gzip;q=0.001", "gzip"),
    ],
)  # fmt: skip
def test_a_response_is_made_smaller_where_the_caller_takes_that(accepted, encoding):
    data = b"x" * bodies.WORTH_IT
    found, told = deflated(data, accepted)
    assert told == encoding
    undo = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[encoding]
    assert undo(found) == data
    assert deflated(data[:-1], accepted) == (data[:-1], None), "nothing is gained by a byte less"


def test_tokens_of_a_file(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# ours\n\n  " + "a" * 16 + "  \n" + "b" * 20 + "\n")
    found = Tokens.read(file)
    accepted = {given: found.accept(given) for given in (
        "Bearer " + "a" * 16, "bearer " + "b" * 20, b"Bearer " + b"a" * 16, "Bearer  " + "a" * 16 + " ", "Bearer " + "a" * 15,
        "Basic " + "a" * 16, "Bearer", "", "Bearer # ours", "a" * 16,
    )}  # fmt: skip
    assert list(accepted.values()) == [True] * 4 + [False] * 6
    for text, said in (
        ("a" * 15, "is too short to be safe; take 16 characters or more"),
        ("\u00e9" * 20, "is too short to be safe"),
        ("# none\n", "holds no token; write one token a line"),
        ("a" * 16 + "\n" * 65_521, "holds too much"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=said):
            Tokens.read(file)
    file.write_text("a" * 16 + "\n" * 65_520)
    assert Tokens.read(file).accept("Bearer " + "a" * 16), "65,536 bytes"
    file.write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match="cannot be read: .*; give a file with one token a line"):
        Tokens.read(file)


def spec(name, shape, kind="tensor(float)"):
    return tensor_of(TensorSpec(name, shape, np.dtype(np.float32), kind))


def network(*shapes, outputs=("y",), labels=None):
    return Signature(
        tuple(spec(f"x{n}", shape) for n, shape in enumerate(shapes)),
        tuple(spec(name, (None, 3)) for name in outputs),
        False,
        labels,
    )


@pytest.mark.parametrize(
    ("shape", "count", "found"),
    [
        ((2, 3), 6, (2, 3)), ((None, 3), 6, (2, 3)), ((2, None), 6, (2, 3)), ((None, None), 6, (1, 6)), ((None, None, 2), 6, (1, 3, 2)),
        ((None,), 6, (6,)), ((), 1, ()),
    ],
)  # fmt: skip
def test_a_raw_body_takes_the_shape_that_its_bytes_make(shape, count, found):
    data = np.arange(count, dtype="<f4")
    asked = inference.read_request(data.tobytes(), "0", network(shape))
    assert asked.inputs["x0"].shape == found
    assert asked.inputs["x0"].ravel().tolist() == data.tolist()
    assert asked.outputs == (Wanted("y", True),)


@pytest.mark.parametrize(
    ("shapes", "size", "said"),
    [
        (((2,), (2,)), 8, "a raw body is for networks with one input, this one has 2"),
        (((2, None, None),), 8, "a raw body does not say the shape of the input 'x0'"),
        (((None, 3),), 16, "a raw body of 16 bytes does not fit the input 'x0'"),
        (((None, 3),), 0, "a raw body of 0 bytes does not fit"),
        (((0, None),), 8, "a raw body of 8 bytes does not fit"),
    ],
)
def test_a_raw_body_that_does_not_fit(shapes, size, said):
    with pytest.raises(InputError, match=said):
        inference.read_request(bytes(size), "0", network(*shapes))


@pytest.mark.parametrize(
    ("length", "said"),
    [
        ("x", "must be a whole number, not 'x'"), ("-1", "must be a whole number"), ("1" * 13, "must be a whole number"),
        ("\u0663", "must be a whole number"), ("5", "says 5 bytes, the body has 4"),
    ],
)  # fmt: skip
def test_a_length_that_is_none(length, said):
    with pytest.raises(InputError, match=f"Inference-Header-Content-Length {said}"):
        inference.read_request(b"{}  ", length, network((2,)))


def test_the_best_come_first_and_equals_in_their_order():
    rows = np.array([[0.5, 2.0, -1.0], [3.0, 3.0, 3.0]], np.float32)
    assert inference.best(rows, Wanted("y", True, 2), ("a", "b", "c")).tolist() == [
        ["2.000000:1:b", "0.500000:0:a"],
        ["3.000000:0:a", "3.000000:1:b"],
    ]
    assert inference.best(rows[0], Wanted("y", True, 9), ("a", "b")).tolist() == ["2.000000:1", "0.500000:0", "-1.000000:2"]
    assert inference.best(rows[None], Wanted("y", True, 1), None).shape == (1, 2, 1)
    assert inference.best(np.array([1, 7]), Wanted("y", True, 1), None).tolist() == ["7.000000:1"]
    for wrong in (np.float32(1), np.zeros((0, 3)), np.array(["a"]), np.array([True])):
        with pytest.raises(InputError, match="the output 'y' has no scores to be put in order"):
            inference.best(np.asarray(wrong), Wanted("y", True, 1), None)


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), (0, None), (1, 1e-6), (2_500_000, 2.5), ((1 << 63) - 1, ((1 << 63) - 1) / 1e6)]
)
def test_microseconds_are_seconds(value, seconds):
    assert inference.timeout_of(value) == seconds


@pytest.mark.parametrize("value", [-1, 1 << 63, True, 1.5, "1"])
def test_what_is_no_timeout(value):
    with pytest.raises(InputError, match="timeout must be a whole number of microseconds, not"):
        inference.timeout_of(value)


@pytest.mark.parametrize(("text", "top"), [(None, 1), ("1", 1), ("999999", 999_999)])
def test_how_many_answers(text, top):
    assert images.top_of(text) == top


@pytest.mark.parametrize("text", ["0", "", "-1", "1000000", "x", "\u0663"])
def test_what_is_no_number_of_answers(text):
    with pytest.raises(InputError, match="top must be a whole number from 1, not"):
        images.top_of(text)


def test_threads_for_images_are_enough_to_fill_a_batch(monkeypatch):
    for cores, threads in ((1, 32), (4, 44), (9, 64), (64, 64), (None, 32)):
        monkeypatch.setattr(images.os, "cpu_count", lambda cores=cores: cores)
        assert images.threads() == threads
    assert images.MAX_IMAGES == 256


@pytest.mark.parametrize(("shape", "fits"), [([0], True), ([1 << 31], True), ([(1 << 31) + 1], False), ([-1], False), ([True], False),
                                             ([0, 1 << 24], True), ([0, (1 << 24) + 1], False),
                                             ([1 << 12, 0, 1 << 12], True), ([1, 0, 80_000_000], False),
                                             ([1] * 32, True), ([1] * 33, False), ("1", False), (None, False), ((2, 3), True)])  # fmt: skip
def test_sizes_of_a_shape(shape, fits):
    if fits:
        assert tensors.checked_shape(shape, "x") == tuple(shape)
    else:
        with pytest.raises(InputError, match="the shape of 'x'"):
            tensors.checked_shape(shape, "x")


def test_datatypes_of_the_protocol():
    table = {name: (str(kind.numpy), kind.ort, kind.field, kind.in_json) for name, kind in TYPES.items()}
    assert table == {
        "BOOL": ("bool", "tensor(bool)", "bool_contents", True), "UINT8": ("uint8", "tensor(uint8)", "uint_contents", True),
        "UINT16": ("uint16", "tensor(uint16)", "uint_contents", True), "UINT32": ("uint32", "tensor(uint32)", "uint_contents", True),
        "UINT64": ("uint64", "tensor(uint64)", "uint64_contents", True), "INT8": ("int8", "tensor(int8)", "int_contents", True),
        "INT16": ("int16", "tensor(int16)", "int_contents", True), "INT32": ("int32", "tensor(int32)", "int_contents", True),
        "INT64": ("int64", "tensor(int64)", "int64_contents", True), "FP16": ("float16", "tensor(float16)", None, False),
        "BF16": ("uint16", "tensor(bfloat16)", None, False), "FP32": ("float32", "tensor(float)", "fp32_contents", True),
        "FP64": ("float64", "tensor(double)", "fp64_contents", True), "BYTES": ("object", "tensor(string)", "bytes_contents", True),
    }  # fmt: skip
    assert spec("x", (None, 0, 3)).shape == (-1, 0, 3)
    assert spec("x", None).shape == ()
    with pytest.raises(InputError, match=r"cannot be served: the protocol has no datatype for tensor\(complex64\)"):
        spec("x", (1,), "tensor(complex64)")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain ~ text!", '"plain ~ text!"'), ('a"b\\c', '"a\\042b\\134c"'), ("\x7f\x1f", '"\\177\\037"'), ("\u00e9", '"\\303\\251"'),
        ("", '""'),
    ],
)  # fmt: skip
def test_texts_of_tritons_configuration(text, quoted):
    assert triton._quoted(text) == quoted


def test_fields_of_tritons_configuration():
    value = {"count": 2, "kind": triton.Name("KIND_CPU"), "on": True, "off": False, "dims": [1, -1], "none": [], "empty": {}}
    assert triton._lines("group", value) == [
        "group {", "  count: 2", "  kind: KIND_CPU", "  on: true", "  off: false", "  dims: [1, -1]", "  empty { }", "}",
    ]  # fmt: skip
    assert triton._lines("input", [{"name": "a"}, {"name": "b"}]) == ["input {", '  name: "a"', "}", "input {", '  name: "b"', "}"]
    assert triton.labels_text(["a  b\n", "c"]) == "a b\nc\n"
    assert "self.together = True" in triton.python_model(True)
    assert "self.together = False" in triton.python_model(False)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("lenet5", "lenet5"), ("LeNet_5.v2", "lenet-5-v2"), ("5net", "model-5net"), ("---", "model"), ("a" * 70, "a" * 63),
        ("9" * 70, "model-" + "9" * 57), ("x" * 62 + "-y", "x" * 62),
    ],
)  # fmt: skip
def test_names_that_kubernetes_takes(name, service):
    assert kserve.service_name(name) == service


def test_a_manifest_for_kserve():
    text = kserve.manifest("LeNet", "s3://bucket/models", None)
    assert text.splitlines() == [
        'apiVersion: "serving.kserve.io/v1beta1"', 'kind: "InferenceService"', "metadata:", '  name: "lenet"', "  annotations:",
        '    "deploykit/model": "LeNet"', "spec:", "  predictor:", "    minReplicas: 1", "    model:", "      modelFormat:",
        '        name: "onnx"', '        version: "1"', '      protocolVersion: "v2"', '      runtime: "kserve-tritonserver"',
        '      storageUri: "s3://bucket/models"', "      resources:", "        requests:", '          cpu: "1"', '          memory: "2Gi"',
        "        limits:", '          cpu: "2"', '          memory: "4Gi"',
    ]  # fmt: skip
    assert text.endswith("\n")
    assert '          "nvidia.com/gpu": "1"' in kserve.manifest("m", "pvc://claim", None, gpu=True).splitlines()
    for storage in ("bucket/models", "ftp://x/y", "s3://", "s3://a b", 's3://a"b'):
        with pytest.raises(InputError, match="KServe cannot read models from .*; give --storage-uri such as"):
            kserve.manifest("m", storage, None)


@pytest.mark.parametrize(("levels", "deep"), [(1, False), (100, False), (101, True), (5000, True)])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_how_deep_json_may_be_nested(levels, deep, begin, end):
    count = levels // 2 if begin.startswith("[{") else levels
    inner = "[1]" if begin.startswith("[{") and levels % 2 else "1"
    text = (begin * count + inner + end * count).encode()
    assert documents.is_deep(text) is deep
    assert documents.is_deep(b'"' + b"[" * 200 + b'"') is False, "within a text"
    assert documents.is_deep(b'"\\"' + b"[" * 200 + b'"') is False
    assert documents.is_deep(b"[" * levels) is deep, "without an end"


@pytest.mark.parametrize(
    ("text", "within"),
    [
        (b'"' + b"\\" * 4_000_000, True), (b'"\\"' * 2_000_000, False), (b"[]" * 4_000_000, False),
        ((b"[" * 90 + b"]" * 90) * 40_000, False), (b'[""]' * 2_000_000, False), (b'"\\\\"' * 2_000_000, False),
    ],
    ids=["backslashes", "escaped quotes", "wide", "deep and wide", "texts", "texts of backslashes"],
)  # fmt: skip
def test_depth_is_counted_in_time_that_grows_with_the_text_alone(text, within):
    began = time.process_time()
    assert documents.is_deep(text) is False
    assert documents.is_deep(text + b"[" * 101) is not within
    assert time.process_time() - began < 1.5


def test_a_document_has_a_limit_of_its_own():
    within = b'{"a": "' + b"x" * (documents.MAX_JSON - 9) + b'"}'
    assert len(within) == documents.MAX_JSON
    assert len(documents.parse(within)["a"]) == documents.MAX_JSON - 9
    with pytest.raises(
        Refusal, match="a JSON document may have 16777216 bytes; send tensors as binary data, images as files"
    ) as refused:
        documents.parse(within + b" ")
    assert refused.value.status == 413


@pytest.mark.parametrize("part", [b"[],", b"{},", b'"",'])
def test_a_document_has_no_more_parts_than_can_be_parsed_at_once(part, monkeypatch):
    monkeypatch.setattr(documents, "MAX_PARTS", 1000)
    for count, fits in ((997, True), (1001, False)):
        text = (b'{"a": [' + part * count).rstrip(b",") + b"]}"
        if fits:
            assert len(documents.parse(text)["a"]) == count
        else:
            with pytest.raises(
                Refusal, match="a JSON document may have 1000 lists, objects, texts and escapes; send tensors as"
            ) as refused:
                documents.parse(text)
            assert refused.value.status == 413
    with pytest.raises(Refusal, match="escapes"):
        documents.parse(b'{"a": "' + b"\\n" * 1001 + b'"}')


def test_a_file_is_named_after_its_folder_or_itself(tmp_path):
    for path in ("net/model.onnx", "own.onnx", "three/1/a.onnx", "three/2/a.onnx", "three/2/b.onnx"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(doubling().SerializeToString())
    (source,) = find([tmp_path / "three"])
    assert (source.name, list(source.files)) == ("three", [1]), "a version is one file"
    (tmp_path / "three" / "3").mkdir()
    (tmp_path / "three" / "3" / "model.onnx").write_bytes(b"")
    assert list(source.again().files) == [1, 3]
    (tmp_path / "own.onnx").rename(tmp_path / "other.onnx")
    (own,) = find([tmp_path / "other.onnx"], ["mine"])
    assert (own.again().name, own.again().files) == ("mine", {1: tmp_path / "other.onnx"})


@pytest.mark.parametrize(("value", "fits"), [(None, True), (0, True), ("", True), (1, False), (-1, False), ("a", False)])
def test_requests_that_belong_to_a_sequence(value, fits):
    if fits:
        assert inference.check_sequence({"sequence_id": value}) is None
    else:
        with pytest.raises(InputError, match="sequences are not offered here"):
            inference.check_sequence({"sequence_id": value})


def test_parameters_are_plain_and_none_of_them_is_reserved():
    assert inference.check_parameters(None, "x") == {}
    plain = {"a": "b", "c": 1, "d": 0.5, "e": True}
    assert inference.check_parameters(plain, "x") is plain
    for given, said in (
        ([], "the parameters of x must be an object"),
        ({"a": None}, "the parameter 'a' of x must be a text, a number or a boolean"),
        ({"triton_a": 1}, "the parameter 'triton_a' of x has a reserved name"),
        ({"shared_memory_offset": 1}, "x lies in shared memory, which is not offered here; send it in the body"),
        ({"shared_memory_region": "r"}, "x lies in shared memory"),
        ({"shared_memory_byte_size": 1}, "x lies in shared memory"),
    ):
        with pytest.raises(InputError, match=said):
            inference.check_parameters(given, "x")


def test_outputs_and_inputs_by_their_names():
    known = network((None, 3), outputs=("y", "z"))
    assert inference.outputs_named([("z", False, 2), ("y", True, 0)], known) == (Wanted("z", False, 2), Wanted("y", True))
    for asked, said in (
        ([("w", True, 0)], "there is no output 'w'; the network gives 'y', 'z'"),
        ([(1, True, 0)], "there is no output 1"),
        ([("y", True, 0), ("y", False, 0)], "the output 'y' is asked for twice"),
    ):
        with pytest.raises(InputError, match=said):
            inference.outputs_named(asked, known)
    assert inference.input_named("x0", "FP32", known) is known.inputs[0]
    for name, datatype, said in (
        (1, "FP32", "the name of an input must be a text, not 1"),
        ("w", "FP32", "there is no input 'w'; the network takes 'x0'"),
        ("x0", "FP64", "the input 'x0' is FP32, not 'FP64'"),
    ):
        with pytest.raises(InputError, match=said):
            inference.input_named(name, datatype, known)
    with pytest.raises(InputError, match="the input 'x0' float32 .any, 3. is missing"):
        inference.check_inputs({}, known)


def test_what_is_loaded_is_searched_for_garbage_again_afterwards():
    before = gc.get_threshold()
    with lasting_objects(160):
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == 16_000
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
    with lasting_objects(1):
        assert gc.get_threshold() == before


DOCUMENTS = [
    {}, [], {"a": []}, 5, "\u00e9\ud800", {"a": {"b": None}, "c": [{"d": [1.5, 2]}, {}]}, [list(range(40))] * 3, [[[1, 2], [3, 4]]] * 9,
    {"outputs": [{"name": "y", "data": [n / 7 for n in range(95)]}, {"data": ["\u00e9", ""] * 50}]}, [[]] * 40, [{"values": [[1.0] * 12] * 4}],
]  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_a_long_document_is_written_in_pieces(document, monkeypatch):
    monkeypatch.setattr(documents, "PIECE", 10)
    assert documents.write_long(document) == documents.write(document)
    assert max(piece.count(",") for piece in documents._pieces(document)) < 10


def test_a_long_document_holds_nothing_that_a_short_one_may_not():
    with pytest.raises(ValueError, match="not JSON compliant"):
        documents.write_long({"a": [float("nan")]})


def test_outputs_of_many_numbers_are_written_in_pieces(monkeypatch):
    asked = inference.Inference({}, (Wanted("y", False),), "7")
    outputs = {"y": np.arange(24, dtype=np.float32).reshape(8, 3)}
    short = inference.write_response(asked, outputs, network((None, 3)), "m", "1")
    monkeypatch.setattr(documents, "PIECE", 10)
    assert inference.write_response(asked, outputs, network((None, 3)), "m", "1") == short
    monkeypatch.setattr(documents, "write", lambda document: pytest.fail("it was written at once"))
    assert inference.write_response(asked, outputs, network((None, 3)), "m", "1") == short
