"""A clock that is made up: tests of the tuner time nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


class Clock:
    """In place of `measure_latency`: the speed of what it is asked about is looked up by a word in its label."""

    def __init__(self):
        self.speeds, self.calls, self.broken_at, self.takes = {}, [], None, lambda: None

    def __call__(self, subjects, arrays, *, device, threads, seconds, progress):
        if self.broken_at is not None and len(self.calls) >= self.broken_at:
            raise KeyboardInterrupt
        self.takes()
        self.calls.append([subject.label for subject in subjects[1:]])
        ratios = [next((v for word, v in self.speeds.items() if word in s.label), 0.9) for s in subjects[1:]]
        latencies = [SimpleNamespace(median_ms=10 / ratio) for ratio in (1.0, *ratios)]
        return SimpleNamespace(
            latencies=latencies, comparisons=[SimpleNamespace(ratio=r, low=0.98 * r, high=1.02 * r) for r in ratios]
        )


@pytest.fixture
def clock(monkeypatch):
    """The clock that `tune` reads, with times of layers in which int8 always wins."""
    found = Clock()
    monkeypatch.setattr("deploykit.tuner.bench.measure_latency", found)
    monkeypatch.setattr(
        "deploykit.tuner.layer_measures.times.node_times",
        lambda file, *_: SimpleNamespace(charged={"conv1": 1.0 if "int8" in file.stem else 2.0}),
    )
    return found
