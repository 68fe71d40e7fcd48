"""A clock that is made up: tests of the tuner time nothing. And a small network, quantized."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deploykit import exporter, onnx_file
from deploykit.network import target
from deploykit.network.request import Request
from deploykit.tuner import quantizing
from deploykit.tuner.quantizing import Scheme


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


class Branches(nn.Module):
    """A residual, a pool, a Relu after a sum, a matrix product, an output that is also used inside."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.last = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        y = torch.relu(self.first(x))
        y = torch.relu(self.third(torch.relu(self.second(y))) + y)
        y = nn.functional.hardswish(nn.functional.max_pool2d(y, 2))
        return self.last(y.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """(file, model, whole in QDQ, samples)."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("q") / "branches.onnx"
    found = target.resolve(Request.of(Branches(), input_shapes=[(3, 8, 8)]))
    onnx_file.write(exporter.to_onnx(found), file)
    model = onnx_file.read(file)
    name = model.graph.input[0].name
    samples = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    ranges = quantizing.calibrate(file, [{name: samples[i : i + 4]} for i in range(0, 16, 4)], "minmax")
    return file, model, quantizing.quantized(onnx.load(file), ranges, Scheme(reduced=True)), {name: samples}
