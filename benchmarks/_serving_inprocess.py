"""Milliseconds of `Predictor.run` without a server: run in deploykit's own environment; the medians are printed as JSON.

python _serving_inprocess.py FILE THREADS SECONDS < one sample as raw float32
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np

from deploykit.runtime import Predictor

PAUSE = 0.001  # seconds before each run of every second turn
RUNS = 16  # of a turn


def main(file: str, threads: int, seconds: float) -> None:
    """With the settings that the server has."""
    values = np.frombuffer(sys.stdin.buffer.read(), np.float32)
    with Predictor(file, "cpu", threads=threads, spinning=False) as model:
        rows = values.reshape([1, *(size or 1 for size in (model.inputs[0].shape or ())[1:])])
        for _ in range(20):
            model.run(rows)
        taken: dict[float, list[float]] = {0.0: [], PAUSE: []}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for pause, each in taken.items():
                each += [timed(model, rows, pause) for _ in range(RUNS)]
    found = {"paused_ms": taken[PAUSE], "back_to_back_ms": taken[0.0]}
    json.dump({name: statistics.median(each) * 1000 for name, each in found.items()}, sys.stdout)


def timed(model: Predictor, rows: np.ndarray, pause: float) -> float:
    """Seconds of one run after a pause of so many."""
    if pause:
        time.sleep(pause)
    began = time.perf_counter()
    model.run(rows)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
