"""What people write by hand: FastAPI around an onnxruntime session, raw bytes in and out, no batching, no bound."""

from __future__ import annotations

import struct
import sys

NAME = "fastapi"
REQUIREMENTS = ("fastapi", "uvicorn[standard]", "{onnxruntime}")
SETTINGS = (
    "uvicorn[standard] (uvloop, httptools), the body as it is (Request.body, Response); session.run within the coroutine where a run takes "
    "less than half a millisecond, else in one thread beside the loop: each was the faster one there; it has no batching and no bound"
)
PATH = "/predict"
HEADERS = {"Content-Type": "application/octet-stream"}


def body(values: bytes) -> bytes:
    """The tensor itself."""
    return values


def logits(data: bytes) -> list[float]:
    """The tensor itself."""
    return list(struct.unpack("<10f", data))


def main(file: str, port: int, threads: int, _folder: str) -> None:
    """One process of uvicorn."""
    import asyncio
    import timeit
    from concurrent.futures import ThreadPoolExecutor

    import fastapi
    import numpy as np
    import onnxruntime
    import uvicorn

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    shape = [1, *session.get_inputs()[0].shape[1:]]
    app = fastapi.FastAPI()
    one = ThreadPoolExecutor(1)

    def run(data: bytes) -> bytes:
        return session.run(None, {"input": np.frombuffer(data, np.float32).reshape(shape)})[0].tobytes()

    blank = bytes(4 * int(np.prod(shape)))
    light = min(timeit.repeat(lambda: run(blank), number=1, repeat=10)) < 0.0005

    async def predict(request: fastapi.Request) -> fastapi.Response:
        data = await request.body()
        found = run(data) if light else await asyncio.get_running_loop().run_in_executor(one, run, data)
        return fastapi.Response(found, media_type="application/octet-stream")

    # The annotations of a function within a function are texts that FastAPI cannot look up.
    predict.__annotations__ = {"request": fastapi.Request, "return": fastapi.Response}
    app.post(PATH)(predict)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
