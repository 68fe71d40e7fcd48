"""The benchmark of `tune`: rows that stay, and the ways in which it spoils a quantization."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deploykit.tuner import bench, layer_measures, samples
from deploykit.tuner.samples import Part, Parts


@pytest.fixture(scope="module")
def tune():
    spec = importlib.util.spec_from_file_location("benchmark_of_tune", Path(__file__).parents[2] / "benchmarks" / "tune.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_row_is_made_once_and_one_that_failed_again(tune, tmp_path):
    made = []

    def fails():
        made.append("failed")
        raise RuntimeError("no memory")

    file = tmp_path / "row.json"
    assert tune.kept(file, fails)["failed"] == "RuntimeError: no memory"
    assert tune.told(json.loads(file.read_text())) == "FAILED RuntimeError: no memory"
    assert tune.kept(file, lambda: made.append("made") or {"x": 1}) == {"x": 1, "minutes": 0.0}
    assert tune.kept(file, fails) == {"x": 1, "minutes": 0.0}
    assert made == ["failed", "made"]
    assert [path.name for path in tmp_path.iterdir()] == ["row.json"]


def test_a_row_in_words_says_what_each_peer_takes(tune):
    row = {
        "verdict": "faster", "chosen": {"name": "int8 openvino"}, "minutes": 7.5,
        "peers": [{"peer": "torch eager", "ratio": 0.25, "keeps": True}, {"peer": "static", "ratio": 2.0, "keeps": False}],
        "alone": {"name": "int8", "ratio": 1.25},
    }  # fmt: skip
    assert tune.told(row) == "faster: int8 openvino; torch eager 4.00, static 0.50 (other decisions); alone int8 1.25; 7.5 min"


def test_a_spoiled_calibration_is_that_of_the_calibration_alone(tune, monkeypatch):
    part = Part({"x": np.ones((4, 2), np.float32)})
    monkeypatch.setattr(samples, "read", lambda *_, **__: Parts(part, part, part, "s"))
    real = samples.read
    with tune.calibration_times(0.25):
        found = samples.read("file")
    assert samples.read is real
    assert [float(each.inputs["x"].max()) for each in (found.calibration, found.selection, found.proof)] == [0.25, 1.0, 1.0]


def test_on_the_played_clock_int8_is_always_faster(tune):
    measure, times = bench.measure_latency, layer_measures.times.node_times
    with tune.clock_of_int8():
        labels = ["base", "fp32 openvino", "int8 x", "int8, 2 of 5 layers x", "int8 x, 4 inexact in fp32"]
        report = bench.measure_latency([SimpleNamespace(label=label) for label in labels], [], device="cpu")
        assert [entry.ratio for entry in report.comparisons] == [0.9, 3.0, 2.0, 2.0]
        assert len(report.latencies) == 5
    assert (bench.measure_latency, layer_measures.times.node_times) == (measure, times)
