"""Ray Serve: raw bytes in and out through its HTTP proxy, its own batching."""

from __future__ import annotations

import os
import signal
import struct
import sys

NAME = "ray"
REQUIREMENTS = ("ray[serve]", "{onnxruntime}")
SETTINGS = (
    "serve.batch with max_batch_size 32 and batch_wait_timeout_s 0, max_ongoing_requests 64, max_queued_requests 128, one replica; "
    "RAY_SERVE_THROUGHPUT_OPTIMIZED=1 (docs.ray.io: performance tuning, dynamic request batching); no dashboard"
)
PATH = "/"
HEADERS = {"Content-Type": "application/octet-stream"}


def body(values: bytes) -> bytes:
    """The tensor itself."""
    return values


def logits(data: bytes) -> list[float]:
    """The tensor itself."""
    return list(struct.unpack("<10f", data))


def main(file: str, port: int, threads: int, _folder: str) -> None:
    """A cluster of its own in this machine, one deployment."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    import asyncio

    import ray
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import Response

    class Classifier:
        def __init__(self) -> None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            self.shape = [-1, *self.session.get_inputs()[0].shape[1:]]

        @serve.batch(max_batch_size=32, batch_wait_timeout_s=0)
        async def run(self, bodies: list[bytes]) -> list[bytes]:
            import numpy as np

            rows = np.frombuffer(b"".join(bodies), np.float32).reshape(self.shape)
            found = await asyncio.to_thread(self.session.run, None, {"input": rows})
            return [row.tobytes() for row in found[0]]

        async def __call__(self, request: Request) -> Response:
            return Response(await self.run(await request.body()), media_type="application/octet-stream")

    deployment = serve.deployment(max_ongoing_requests=64, max_queued_requests=128, num_replicas=1)(Classifier)
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=128 << 20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(deployment.bind())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # which lets Ray end its processes
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
