"""Run by an interpreter that has KServe's own client, against a server: every datatype, binary, JSON and over gRPC, several outputs.

python client_kserve.py HTTP_HOST:PORT [GRPC_HOST:PORT]
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

VALUES = {
    "BOOL": np.array([[True, False]]),
    "BYTES": np.array([["a", "zwölf"]], dtype=object),
    **{f"{kind}{bits}": np.array([[1, 100]], f"{kind.lower()}{bits}") for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    "FP16": np.array([[0.5, -2]], np.float16),
    "FP32": np.array([[0.1, -2]], np.float32),
    "FP64": np.array([[0.1, -2]], np.float64),
}
WITHOUT_BINARY = ("FP16",)  # JSON has no form for it


def request(model, name, datatype, array, binary, outputs=None, **more):
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [tensor], request_outputs=outputs, **more)


def same(found, datatype, array):
    if datatype == "BYTES":
        found = np.array([[text.decode() if isinstance(text, bytes) else text for text in row] for row in found], object)
    assert found.shape == array.shape, (datatype, found)
    assert np.array_equal(found.astype(array.dtype), array), (datatype, found)


async def check(ask):
    """`ask(request)` gives the answer; over HTTP binary and JSON are asked for, gRPC knows only one of them."""
    for datatype, array in VALUES.items():
        for binary in (True, False):
            if binary or datatype not in WITHOUT_BINARY:
                outputs = [RequestedOutput("y", {"binary_data": binary})]
                answer = await ask(request(datatype, "x", datatype, array, binary, outputs))
                assert (answer.model_name, answer.outputs[0].datatype) == (datatype, datatype)
                same(answer.outputs[0].as_numpy(), datatype, array)


async def over_http(address):
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    url = f"http://{address}"
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "digits")

    async def ask(asked):
        return await client.infer(url, asked, model_name=asked.model_name)

    await check(ask)
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs = [RequestedOutput("out", {"binary_data": True})]
    answer = await ask(request("doubling", "input", "FP32", rows, True, outputs, request_id="7"))
    assert (answer.id, [output.name for output in answer.outputs]) == ("7", ["out"])
    assert answer.outputs[0].as_numpy().tolist() == (2 * rows[:, :2]).tolist()
    try:
        await ask(request("doubling", "wrong", "FP32", rows, True))
    except Exception as error:
        assert "there is no input 'wrong'" in str(error) or "400" in str(error), error  # noqa: PT017
    else:
        raise AssertionError("an unknown input was taken")
    await client.close()
    print("http")


async def over_grpc(address):
    client = InferenceGRPCClient(address, retries=0)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("digits")
    await check(client.infer)
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer = await client.infer(request("doubling", "input", "FP32", rows, True, request_id="7"))
    assert answer.id == "7"
    assert answer.outputs[0].as_numpy().tolist() == (2 * rows[:, :2]).tolist()
    await client.close()
    print("grpc")


async def main():
    await over_http(sys.argv[1])
    if len(sys.argv) > 2:
        await over_grpc(sys.argv[2])


asyncio.run(main())
