"""Run by an interpreter that has tritonclient[grpc], against a server: every datatype, several outputs, the stream, asyncio.

python client_grpc.py HOST:PORT
"""

import asyncio
import queue
import sys

import grpc
import numpy as np
import tritonclient.grpc as sync
import tritonclient.grpc.aio as aio
from client_http import VALUES, inputs_of, same
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException


def check_sync(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits", "2")
    assert client.get_server_metadata(as_json=True)["name"] == "deploykit"
    assert list(client.get_model_metadata("digits").inputs[0].shape) == [-1, 1, 8, 8]
    config = client.get_model_config("digits").config
    assert (config.max_batch_size, list(config.input[0].dims), config.input[0].data_type) == (8, [1, 8, 8], 11)
    assert config.dynamic_batching.preferred_batch_size[:] == [8]
    assert config.instance_group[0].count == 1
    assert any((m.name, m.version, m.state) == ("digits", "1", "READY") for m in client.get_model_repository_index().models)
    for datatype, array in VALUES.items():
        same(client.infer(datatype, inputs_of(sync, datatype, array)).as_numpy("y"), datatype, array)
    for compression in ("gzip", "deflate"):
        same(
            client.infer("FP32", inputs_of(sync, "FP32", VALUES["FP32"]), compression_algorithm=compression).as_numpy("y"),
            "FP32",
            VALUES["FP32"],
        )
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 3, np.float32)
    given = [sync.InferInput("b", b.shape, "FP32"), sync.InferInput("a", a.shape, "FP32")]
    given[0].set_data_from_numpy(b)
    given[1].set_data_from_numpy(a)
    result = client.infer("pair", given, request_id="12", priority=3, timeout=5_000_000, client_timeout=20, parameters={"own": 0.5})
    assert result.get_response().id == "12"
    assert np.array_equal(result.as_numpy("sum"), a + b)
    assert np.array_equal(result.as_numpy("difference"), a - b)
    images = np.random.default_rng(0).normal(size=(8, 1, 8, 8)).astype(np.float32)
    made = sync.InferInput("input", images.shape, "FP32")
    made.set_data_from_numpy(images)
    best = client.infer("digits", [made], outputs=[sync.InferRequestedOutput("logits", class_count=2)]).as_numpy("logits")
    assert best.shape == (8, 2)
    assert client.get_inference_statistics("digits", "2").model_stats[0].inference_count >= 8
    codes = []
    for wrong in (
        lambda: client.infer("none", [made]),
        lambda: client.infer("pair", [made]),
        lambda: client.get_model_config("digits", "9"),
        lambda: client.unload_model("pair"),
    ):
        try:
            wrong()
        except InferenceServerException as error:
            codes.append(error.status())
    assert codes == [
        "StatusCode.NOT_FOUND",
        "StatusCode.INVALID_ARGUMENT",
        "StatusCode.NOT_FOUND",
        "StatusCode.PERMISSION_DENIED",
    ], codes
    print("sync")


def check_stream(client):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for _ in range(4):
        client.async_stream_infer("FP32", inputs_of(sync, "FP32", VALUES["FP32"]))
    client.async_stream_infer("none", inputs_of(sync, "FP32", VALUES["FP32"]))
    for _ in range(4):
        result, error = answers.get(timeout=20)
        assert error is None
        same(result.as_numpy("y"), "FP32", VALUES["FP32"])
    assert "there is no model" in str(answers.get(timeout=20)[1])
    client.stop_stream()
    print("stream")


def check_typed(url):
    """What a caller without tritonclient sends: typed contents; and gRPC's own health service."""
    fields = {"BOOL": "bool", "FP32": "fp32", "FP64": "fp64", "INT64": "int64", "UINT64": "uint64", "BYTES": "bytes"}
    with grpc.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for datatype in ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32", "FP64", "BYTES"):
            array = VALUES[datatype]
            request = service_pb2.ModelInferRequest(model_name=datatype)
            entry = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
            values = [v.encode() for v in array.ravel()] if datatype == "BYTES" else array.ravel().tolist()
            getattr(entry.contents, fields.get(datatype, "int" if datatype[0] == "I" else "uint") + "_contents").extend(values)
            same(sync.InferResult(stub.ModelInfer(request)).as_numpy("y"), datatype, array)
        request.raw_input_contents.append(b"")  # both is not allowed
        try:
            stub.ModelInfer(request)
        except grpc.RpcError as error:
            code = error.code()
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"
    print("typed")


async def check_aio(url):
    async with aio.InferenceServerClient(url) as client:
        assert await client.is_server_ready()
        for datatype, array in VALUES.items():
            same((await client.infer(datatype, inputs_of(aio, datatype, array))).as_numpy("y"), datatype, array)
        array = VALUES["FP32"]
        results = await asyncio.gather(*(client.infer("FP32", inputs_of(aio, "FP32", array)) for _ in range(16)))
        for result in results:
            same(result.as_numpy("y"), "FP32", array)
    print("aio")


if __name__ == "__main__":
    with sync.InferenceServerClient(sys.argv[1]) as client:
        check_sync(client)
        check_stream(client)
    check_typed(sys.argv[1])
    asyncio.run(check_aio(sys.argv[1]))
