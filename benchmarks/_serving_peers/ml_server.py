"""MLServer: the Open Inference Protocol in JSON, a runtime of our own around onnxruntime (it packages none)."""

from __future__ import annotations

import json
import os
import struct
import sys
import timeit
from pathlib import Path
from typing import Any

NAME = "mlserver"
REQUIREMENTS = ("mlserver", "{onnxruntime}")
SETTINGS = (
    "max_batch_size 32, max_batch_time 0.001 s (docs.seldon.ai/mlserver/user-guide/adaptive-batching: a batch that is not full waits so "
    "long); no batching, its default, where a run takes less than half a millisecond: each was the faster one there; parallel_workers 0, as "
    "its documentation says for light models, no metrics endpoint; numbers in JSON, for its REST has no binary tensors; it has no bound"
)
PATH = "/v2/models/model/infer"
HEADERS = {"Content-Type": "application/json"}


def body(values: bytes) -> bytes:
    """The protocol's document, with numbers as short as float32 allows."""
    numbers = ",".join(f"{value:.7g}" for (value,) in struct.iter_unpack("<f", values))
    side = int((len(values) // 4) ** 0.5)
    head = f'{{"inputs":[{{"name":"input","datatype":"FP32","shape":[1,1,{side},{side}],"data":['
    return (head + numbers + "]}]}").encode()


def logits(data: bytes) -> list[float]:
    """The data of its only output."""
    return json.loads(data)["outputs"][0]["data"]


if "PEER_FILE" in os.environ:
    import numpy as np
    import onnxruntime
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceRequest, InferenceResponse

    class Classifier(MLModel):
        """A custom runtime, as docs/user-guide/custom.md has it."""

        async def load(self) -> bool:
            """One session."""
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
            self.session = onnxruntime.InferenceSession(os.environ["PEER_FILE"], options, providers=["CPUExecutionProvider"])
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            """The rows of one batch."""
            rows = NumpyCodec.decode_input(payload.inputs[0])
            found = self.session.run(None, {"input": np.asarray(rows, np.float32)})[0]
            return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("logits", found)])


def is_light(file: str) -> bool:
    """Whether a run of one sample takes less than half a millisecond."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rows = np.zeros([1, *session.get_inputs()[0].shape[1:]], np.float32)
    return min(timeit.repeat(lambda: session.run(None, {"input": rows}), number=1, repeat=10)) < 0.0005


def main(file: str, port: int, _threads: int, folder: str) -> None:
    """A folder with the two settings files, and the command."""
    settings: dict[str, Any] = {
        "debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2,
        "metrics_endpoint": None, "parallel_workers": 0,
    }  # fmt: skip
    batching = {} if is_light(file) else {"max_batch_size": 32, "max_batch_time": 0.001}
    model = {"name": "model", "implementation": "ml_server.Classifier", **batching}
    (Path(folder) / "settings.json").write_text(json.dumps(settings))
    (Path(folder) / "model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    command = str(Path(sys.executable).parent / "mlserver")
    os.execv(command, [command, "start", folder])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
