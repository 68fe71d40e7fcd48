"""LitServe: JSON in and out, its own batching over its queue of ZeroMQ."""

from __future__ import annotations

import base64
import json
import os
import sys

NAME = "litserve"
REQUIREMENTS = ("litserve", "{onnxruntime}")
SETTINGS = (
    "max_batch_size 32, batch_timeout 0, its default (lightning.ai/docs/litserve/features/batching), fast_queue (ZeroMQ), one worker, one API "
    "server; the tensor as base64 in its JSON, as its own benchmark sends images; it has no bound on waiting requests"
)
PATH = "/predict"
HEADERS = {"Content-Type": "application/json"}


def body(values: bytes) -> bytes:
    """A document with base64."""
    return json.dumps({"image": base64.b64encode(values).decode()}).encode()


def logits(data: bytes) -> list[float]:
    """A document with a list."""
    return json.loads(data)["logits"]


if "PEER_FILE" in os.environ:  # in the server and in its worker, which imports this again
    import litserve
    import numpy as np
    import onnxruntime

    class Classifier(litserve.LitAPI):
        """The hooks in the order in which they are called."""

        def setup(self, _device: str) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
            self.session = onnxruntime.InferenceSession(os.environ["PEER_FILE"], options, providers=["CPUExecutionProvider"])
            self.shape = self.session.get_inputs()[0].shape[1:]

        def decode_request(self, request: dict) -> np.ndarray:  # type: ignore[type-arg]
            return np.frombuffer(base64.b64decode(request["image"]), np.float32).reshape(self.shape)

        def batch(self, inputs: list) -> np.ndarray:  # type: ignore[type-arg]
            return np.stack(inputs)

        def predict(self, rows: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return self.session.run(None, {"input": rows})[0]

        def unbatch(self, output: np.ndarray) -> list:  # type: ignore[type-arg]
            return list(output)

        def encode_response(self, output: np.ndarray) -> dict:  # type: ignore[type-arg]
            return {"logits": output.tolist()}

    # Its router reads the annotation of `request` as the type of the body; a dictionary is the JSON document.
    Classifier.decode_request.__annotations__.clear()


def main(_file: str, port: int, _threads: int, _folder: str) -> None:
    """One API server and one worker."""
    api = Classifier(max_batch_size=32, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
