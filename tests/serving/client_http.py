"""Run by an interpreter that has tritonclient, against a server: every datatype, binary and JSON, compression, several outputs, asyncio.

python client_http.py HOST:PORT
"""

import asyncio
import sys

import numpy as np
import tritonclient.http as sync
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

VALUES = {
    "BOOL": np.array([[True, False]]),
    "BYTES": np.array([["a", "zwölf"]], dtype=object),
    **{f"{kind}{bits}": np.array([[1, 100]], f"{kind.lower()}{bits}") for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    "FP16": np.array([[0.5, -2]], np.float16),
    "BF16": np.array([[0.5, -2]], np.float32),
    "FP32": np.array([[0.1, -2]], np.float32),
    "FP64": np.array([[0.1, -2]], np.float64),
}


def inputs_of(module, datatype, array, binary=True):
    made = module.InferInput("x", array.shape, datatype)
    if datatype == "BF16":
        import ml_dtypes

        array = array.astype(ml_dtypes.bfloat16) if np_to_triton_dtype(ml_dtypes.bfloat16) == "BF16" else array
    made.set_data_from_numpy(array, **({} if binary else {"binary_data": False}))
    return [made]


def same(found, datatype, array):
    if datatype == "BYTES":
        found = np.array([[text.decode() if isinstance(text, bytes) else text for text in row] for row in found], object)
    assert found.shape == array.shape, (datatype, found)
    assert np.array_equal(found.astype(array.dtype), array), (datatype, found)


def check_sync(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits", "2")
    assert client.get_server_metadata()["name"] == "deploykit"
    assert client.get_model_metadata("digits")["inputs"][0]["shape"] == [-1, 1, 8, 8]
    assert client.get_model_config("digits")["max_batch_size"] == 8
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in client.get_model_repository_index()
    for datatype, array in VALUES.items():
        for binary in (True, False):
            if not binary and datatype in ("FP16", "BF16"):
                continue
            outputs = [sync.InferRequestedOutput("y", binary_data=binary)]
            given = inputs_of(sync, datatype, array, binary)
            same(client.infer(datatype, given, outputs=outputs).as_numpy("y"), datatype, array)
            same(client.infer(datatype, given).as_numpy("y"), datatype, array) if binary else None
    for encoding in ("gzip", "deflate"):
        for response in (None, encoding):
            result = client.infer(
                "FP32",
                inputs_of(sync, "FP32", VALUES["FP32"]),
                request_compression_algorithm=encoding,
                response_compression_algorithm=response,
            )
            same(result.as_numpy("y"), "FP32", VALUES["FP32"])
    large = np.arange(16, dtype=np.float32).reshape(8, 2).repeat(100, axis=0)[:8]
    result = client.infer("FP32", inputs_of(sync, "FP32", large), response_compression_algorithm="gzip")
    same(result.as_numpy("y"), "FP32", large)
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 3, np.float32)
    given = [sync.InferInput("a", a.shape, "FP32"), sync.InferInput("b", b.shape, "FP32")]
    given[0].set_data_from_numpy(a)
    given[1].set_data_from_numpy(b, binary_data=False)
    wanted = [sync.InferRequestedOutput("difference", binary_data=False), sync.InferRequestedOutput("sum")]
    result = client.infer("pair", given, outputs=wanted, request_id="12", timeout=5_000_000, priority=3)
    assert result.get_response()["id"] == "12"
    assert np.array_equal(result.as_numpy("sum"), a + b)
    assert np.array_equal(result.as_numpy("difference"), a - b)
    images = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    made = sync.InferInput("input", images.shape, "FP32")
    made.set_data_from_numpy(images)
    best = client.infer("digits", [made], outputs=[sync.InferRequestedOutput("logits", class_count=2)]).as_numpy("logits")
    assert best.shape == (3, 2)
    waiting = [client.async_infer("digits", [made]) for _ in range(8)]
    answers = [one.get_result().as_numpy("logits") for one in waiting]
    assert all(np.allclose(answer, answers[0], rtol=1e-4, atol=1e-5) for answer in answers)
    version = client.infer("digits", [made], model_version="1")
    assert version.get_response()["model_version"] == "1"
    stats = client.get_inference_statistics("digits", "2")["model_stats"][0]
    assert stats["inference_count"] >= 27
    for wrong in (
        lambda: client.infer("none", [made]),
        lambda: client.infer("pair", [made]),
        lambda: client.get_model_metadata("digits", "9"),
    ):
        message = ""
        try:
            wrong()
        except InferenceServerException as error:
            message = error.message()
        assert message
    body = images.tobytes()
    response = client._post("v2/models/digits/infer", body, {"Inference-Header-Content-Length": "0"}, None)
    assert np.allclose(sync.InferResult(response, False).as_numpy("logits"), answers[0], rtol=1e-4, atol=1e-5)
    print("sync")


async def check_aio(url):
    async with aio.InferenceServerClient(url) as client:
        assert await client.is_server_ready()
        for datatype, array in VALUES.items():
            same((await client.infer(datatype, inputs_of(aio, datatype, array))).as_numpy("y"), datatype, array)
        for encoding in ("gzip", "deflate"):
            large = np.zeros((8, 2), np.float32)
            result = await client.infer(
                "FP32",
                inputs_of(aio, "FP32", large),
                request_compression_algorithm=encoding,
                response_compression_algorithm=encoding,
            )
            same(result.as_numpy("y"), "FP32", large)
        array = VALUES["FP32"]
        results = await asyncio.gather(*(client.infer("FP32", inputs_of(aio, "FP32", array)) for _ in range(16)))
        for result in results:
            same(result.as_numpy("y"), "FP32", array)
    print("aio")


if __name__ == "__main__":
    with sync.InferenceServerClient(sys.argv[1], concurrency=8) as client:
        check_sync(client)
    asyncio.run(check_aio(sys.argv[1]))
