"""BentoML: JSON in and out, its adaptive batching."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

NAME = "bentoml"
REQUIREMENTS = ("bentoml", "{onnxruntime}")
SETTINGS = (
    "batchable, max_batch_size 32, max_latency_ms 1000 (docs.bentoml.com, adaptive batching), max_concurrency 160, one worker, no access log, "
    "no metrics; a list of base64 texts in JSON: lists and arrays are what its batching takes, and texts are smaller than numbers"
)
PATH = "/predict"
HEADERS = {"Content-Type": "application/json"}


def body(values: bytes) -> bytes:
    """A document with a list of one."""
    return json.dumps({"images": [base64.b64encode(values).decode()]}).encode()


def logits(data: bytes) -> list[float]:
    """The only row."""
    return json.loads(data)[0]


if "PEER_FILE" in os.environ:
    import bentoml
    import numpy as np
    import onnxruntime

    class Classifier:
        """One session; the rows of a batch are one list."""

        def __init__(self) -> None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
            self.session = onnxruntime.InferenceSession(os.environ["PEER_FILE"], options, providers=["CPUExecutionProvider"])
            self.shape = [-1, *self.session.get_inputs()[0].shape[1:]]

        def predict(self, images: list[str]) -> np.ndarray:  # type: ignore[type-arg]
            """One run."""
            rows = np.frombuffer(b"".join(map(base64.b64decode, images)), np.float32).reshape(self.shape)
            return self.session.run(None, {"input": rows})[0]

        predict = bentoml.api(batchable=True, batch_dim=0, max_batch_size=32, max_latency_ms=1000)(predict)

    Service = bentoml.service(
        workers=1,
        traffic={"timeout": 60, "max_concurrency": 160},
        logging={"access": {"enabled": False}},
        metrics={"enabled": False},
    )(Classifier)


def main(_file: str, port: int, _threads: int, folder: str) -> None:
    """The command."""
    os.environ |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": folder}
    command = [sys.executable, "-m", "bentoml", "serve", "bento_ml:Service", "--working-dir", str(Path(__file__).parent)]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
