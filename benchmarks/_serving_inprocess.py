"""Seconds of `Predictor.run` without a server: run in deploykit's own environment; the median is printed as JSON.

python _serving_inprocess.py FILE THREADS SECONDS < one sample as raw float32
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np

from deploykit.runtime import Predictor


def main(file: str, threads: int, seconds: float) -> None:
    """With the settings that the server has."""
    values = np.frombuffer(sys.stdin.buffer.read(), np.float32)
    with Predictor(file, "cpu", threads=threads, spinning=False) as model:
        rows = values.reshape([1, *(size or 1 for size in (model.inputs[0].shape or ())[1:])])
        for _ in range(20):
            model.run(rows)
        taken, end = [], time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            model.run(rows)
            taken.append(time.perf_counter() - began)
    json.dump({"median_ms": statistics.median(taken) * 1000, "runs": len(taken)}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
