"""Batch inference with Ray Data alone, as its documentation has it for images: read, predict in actors, write.

    python benchmarks/_cluster_peer.py FOLDER FILE OUT ADDRESS SECONDS

Between the marks stand the fifteen lines; `SECONDS` is how long each batch waits, so that a fault can come meanwhile.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import ray


# --- fifteen lines
class Model:
    def __init__(self, file: str, wait: float) -> None:
        import onnxruntime

        self.wait = wait
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.wait)
        pixels = (batch["image"].astype("float32")[:, None] / 255 - 0.5) / 0.5  # by hand, from the training script
        return {"path": batch["path"], "label": self.session.run(None, {"input": pixels})[0].argmax(axis=1)}


def run(folder: str, file: str, out: str, actors: int = 1, wait: float = 0.0) -> None:
    images = ray.data.read_images(folder, size=(32, 32), mode="L", include_paths=True)
    found = images.map_batches(Model, fn_constructor_args=[file, wait], batch_size=64, concurrency=actors, num_cpus=1)
    found.write_parquet(out)


# --- end


if __name__ == "__main__":
    ray.init(sys.argv[4], log_to_driver=False, logging_level="critical")
    run(*sys.argv[1:4], wait=float(sys.argv[5]))
