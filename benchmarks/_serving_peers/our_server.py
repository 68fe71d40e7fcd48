"""`deploykit serve`: the Open Inference Protocol's raw body in, binary tensors out."""

from __future__ import annotations

import os
import struct
import sys

NAME = "deploykit"
REQUIREMENTS = ("-e", "{repository}[cpu,serve]", "{onnxruntime}")
SETTINGS = "the defaults: up to 32 rows a run, no delay, 128 requests may wait; no access log"
PATH = "/v2/models/model/infer"
HEADERS = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"}


def body(values: bytes) -> bytes:
    """The tensor itself."""
    return values


def logits(data: bytes) -> list[float]:
    """Of ten classes: the last 40 bytes, behind the JSON."""
    return list(struct.unpack("<10f", data[-40:]))


def main(file: str, port: int, threads: int, _folder: str) -> None:
    """The command as a user types it."""
    options = ["--name", "model", "--port", str(port), "--threads", str(threads), "--device", "cpu", "--quiet"]
    os.execv(sys.executable, [sys.executable, "-m", "deploykit", "serve", file, *options])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
