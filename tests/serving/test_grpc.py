"""The gRPC side without tritonclient: tokens, limits, and what is no request, by the messages of our own."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from serving_files import doubling, own_certificate

grpc = pytest.importorskip("grpc", reason="the extra grpc is not installed")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from serving_process import Server  # noqa: E402

from deploykit.serving.grpc_messages import SERVICE, message  # noqa: E402

TOKEN = "t" * 32
RAW = np.array([[1, 2, 3]], "<f4").tobytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    (root / "doubling.onnx").write_bytes(doubling().SerializeToString())
    (root / "token").write_text(TOKEN)
    with Server([root], "--grpc-port", "0", "--token-file", str(root / "token"), "--threads", "1") as server:
        yield server
    assert server.process.returncode == 0
    assert not [line for line in server.lines if "Traceback" in line]


@pytest.fixture(scope="module")
def call(server):
    """A call by its name, with the token unless told otherwise: its answer, or the status and what it says."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=[("grpc.max_send_message_length", -1)]) as channel:

        def ask(name, request, token=f"Bearer {TOKEN}", timeout=30):
            method = channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=lambda given: given if isinstance(given, bytes) else given.SerializeToString(),
                response_deserializer=message(f"{name}Response").FromString,
            )
            try:
                return method(request, timeout=timeout, metadata=[("authorization", token)] if token else None)
            except grpc.RpcError as error:
                return error.code().name, error.details()

        yield ask


def request(raw=RAW, name="input", datatype="FP32", shape=(1, 3), model="doubling", outputs=(), **more):
    made = message("ModelInferRequest")(model_name=model, **more)
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    for output in outputs:
        made.outputs.add(name=output)
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def test_an_answer(call):
    answer = call("ModelInfer", request(id="7", outputs=["out"]))
    assert (answer.model_name, answer.model_version, answer.id) == ("doubling", "1", "7")
    assert np.frombuffer(answer.raw_output_contents[0], "<f4").tolist() == [2, 4]
    assert (answer.outputs[0].name, answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("out", "FP32", [1, 2])


@pytest.mark.parametrize("token", [None, "Bearer " + "t" * 31, f"Basic {TOKEN}", "Bearer"])
def test_a_token_is_needed_for_all_but_the_health(call, token):
    assert call("ModelInfer", request(), token)[0] == "UNAUTHENTICATED"
    assert call("ServerMetadata", message("ServerMetadataRequest")(), token)[0] == "UNAUTHENTICATED"
    assert call("ServerLive", message("ServerLiveRequest")(), token).live
    assert call("ServerReady", message("ServerReadyRequest")(), token).ready


@pytest.mark.parametrize("token", [None, f"Bearer {TOKEN}"])
def test_a_stream_needs_it_too(server, token):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stream = channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=lambda given: given.SerializeToString(),
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )
        answers = stream(iter([request(), request()]), timeout=30, metadata=[("authorization", token)] if token else None)
        if token:
            assert len(list(answers)) == 2
        else:
            with pytest.raises(grpc.RpcError) as caught:
                list(answers)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "a token is needed" in caught.value.details()


WRONG = {
    "cut off": request(RAW[:-1]),
    "too long": request(RAW + b"x"),
    "negative size": request(shape=(-1, 3)),
    "overflow": request(shape=(2**31, 2**31)),
    "other shape": request(bytes(16), shape=(1, 4)),
    "no rows": request(b"", shape=(0, 3)),
    "unknown input": request(name="x"),
    "unknown datatype": request(datatype="FP64"),
    "unknown output": request(outputs=["x"]),
    "output twice": request(outputs=["out", "out"]),
    "no contents": request(None),
    "no input": message("ModelInferRequest")(model_name="doubling"),
    "long id": request(id="x" * 2000),
    "no message": b"\xff\xff\xff",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_request(call, name):
    status, said = call("ModelInfer", WRONG[name])
    assert status == "INVALID_ARGUMENT", said
    assert "Traceback" not in said
    assert call("ServerLive", message("ServerLiveRequest")()).live


def test_parameters_are_looked_at(call):
    for name, field, value in (("sequence_id", "int64_param", 3), ("timeout", "string_param", "x"), ("triton_x", "bool_param", True),
                               ("shared_memory_region", "string_param", "r")):  # fmt: skip
        made = request()
        setattr(made.parameters[name], field, value)
        assert call("ModelInfer", made)[0] == "INVALID_ARGUMENT", name
    made = request()
    made.parameters["own"].double_param = 0.5
    assert call("ModelInfer", made).model_name == "doubling"


def test_other_statuses(call):
    assert call("ModelInfer", request(model="none"))[0] == "NOT_FOUND"
    assert call("ModelReady", message("ModelReadyRequest")(name="doubling", version="9"))[0] == "NOT_FOUND"
    assert call("RepositoryModelLoad", message("RepositoryModelLoadRequest")(model_name="doubling"))[0] == "PERMISSION_DENIED"
    assert call("ModelInfer", request(bytes(65 << 20), shape=(5_000_000, 3)))[0] == "RESOURCE_EXHAUSTED"
    assert call("ServerMetadata", message("ServerMetadataRequest")()).name == "deploykit"


def test_sigterm_answers_what_was_accepted(tmp_path):
    (tmp_path / "doubling.onnx").write_bytes(doubling().SerializeToString())
    server = Server([tmp_path / "doubling.onnx"], "--grpc-port", "0", "--threads", "1")
    found, stop = [], threading.Event()

    def ask(channel):
        method = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_serializer=lambda given: given.SerializeToString())
        while not stop.is_set():
            try:
                method(request(), timeout=30)
                found.append("answered")
            except grpc.RpcError as error:
                found.append(error.code().name)
                return

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        callers = [threading.Thread(target=ask, args=(channel,)) for _ in range(4)]
        for caller in callers:
            caller.start()
        while len(found) < 20:
            stop.wait(0.01)
        assert server.end(signal.SIGTERM) == 0
        stop.set()
        for caller in callers:
            caller.join()
    assert set(found) <= {"answered", "UNAVAILABLE"}


def test_tls(tmp_path):
    certificate, key = own_certificate(tmp_path)
    (tmp_path / "doubling.onnx").write_bytes(doubling().SerializeToString())
    options = ["--grpc-port", "0", "--tls-certificate", str(certificate), "--tls-key", str(key), "--threads", "1"]

    def ask(channel):
        method = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=lambda given: given.SerializeToString(),
            response_deserializer=message("ModelInferResponse").FromString,
        )
        try:
            return np.frombuffer(method(request(), timeout=10).raw_output_contents[0], "<f4").tolist()
        except grpc.RpcError as error:
            return error.code().name

    with Server([tmp_path / "doubling.onnx"], *options) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate.read_bytes())) as channel:
            assert ask(channel) == [2, 4]
        with grpc.secure_channel(address, grpc.ssl_channel_credentials()) as channel:  # nobody it trusts has signed this one
            assert ask(channel) == "UNAVAILABLE"
        with grpc.insecure_channel(address) as channel:
            assert ask(channel) == "UNAVAILABLE"
    assert server.process.returncode == 0
    assert not [line for line in server.lines if "Traceback" in line]
