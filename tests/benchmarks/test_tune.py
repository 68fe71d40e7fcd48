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
    row = tune.kept(file, lambda: made.append("made") or {"x": 1})
    assert (row["x"], row["minutes"], len(row["date"])) == (1, 0.0, 10)
    assert tune.kept(file, fails) == row
    assert made == ["failed", "made"]
    assert [path.name for path in tmp_path.iterdir()] == ["row.json"]


def test_a_row_in_words_says_what_each_peer_takes(tune):
    row = {
        "verdict": "faster", "chosen": {"name": "int8 openvino"}, "minutes": 7.5,
        "peers": [{"peer": "torch eager", "ratio": 0.25, "keeps": True}, {"peer": "static", "ratio": 2.0, "keeps": False}],
        "alone": {"name": "int8", "ratio": 1.25},
    }  # fmt: skip
    assert tune.told(row) == "faster: int8 openvino; torch eager 4.00, static 0.50 (other decisions); alone int8 1.25; 7.5 min"


def made_row(*peers):
    """`peers`: (name, how many times as long it takes, whether it keeps the decisions); each interval is a tenth wide."""
    return {
        "verdict": "faster", "chosen": {"name": "int8"}, "seconds": 60.0, "conditions": {"instructions": "avx2 avx512_vnni"},
        "peers": [
            {"peer": name, "ratio": 1 / times, "low": 0.9 / times, "high": 1.1 / times, "keeps": keeps} for name, times, keeps in peers
        ],
        "alone": {"name": "int8", "verdict": "faster", "ratio": 1.2, "low": 1.1, "high": 1.3},
    }  # fmt: skip


def test_the_table_of_rows_counts_what_is_strictly_faster(tune, tmp_path):
    strict, level = made_row(("torch eager", 2.0, True), ("OpenVINO fp32", 0.5, False)), made_row(("torch eager", 1.05, True))
    names = [f"n{number}" for number in range(5)]
    report = tune._tune_tables.of_rows({**dict.fromkeys(names, strict), "n4": level}, names)
    assert report.good is True
    assert report.headline.startswith("5 of 5 rows are at least as fast")
    cells = report.tables[0].rows[0]
    assert (cells["torch eager"], cells["OpenVINO fp32"], cells["torch.compile"]) == (
        "2.00 (1.82 to 2.22)", "[0.50 (0.45 to 0.56)]", "not run",
    )  # fmt: skip
    assert cells["machine"] == "avx512_vnni"
    assert tune._tune_tables.of_rows({**dict.fromkeys(names, level), "n0": strict}, names).good is False, "one is strictly faster"
    assert tune._tune_tables.of_rows({"n0": strict}, names).good is None, "the others were not measured"
    slower = made_row(("torch eager", 0.5, True))
    assert tune._tune_tables.of_rows({**dict.fromkeys(names, strict), "n4": slower}, names).good is False


def test_the_table_of_counted_networks(tune):
    rows = [{"verdict": "faster", "speedup": 1.2, "drop": 0.0, "drop_low": -0.002, "drop_high": 0.002, "chosen": "int8"}] * 40
    assert tune._tune_tables.of_counts("honest", rows, 40, 0.005).good is True
    worse = [{**rows[0], "drop_low": 0.006}, *rows[1:]]
    assert tune._tune_tables.of_counts("honest", worse, 40, 0.005).good is False
    assert tune._tune_tables.of_counts("spoiled", [{"failed": "no"}, *rows[1:]], 40, 0.005).good is False
    assert tune._tune_tables.of_counts("honest", rows[:39], 40, 0.005).good is None


def test_what_other_machines_have_measured_stays_in_the_table(tune, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "RESULTS", tmp_path)
    monkeypatch.setattr(tune._tune_tables, "LEAST_STRICT", 1)
    kept = {}
    monkeypatch.setattr(tune, "keep", lambda name, report: kept.update({name: report.document}))
    (tmp_path / "tune_rows.json").write_text(json.dumps({"rows": {"lenet5": made_row(("torch eager", 2.0, True))}}))
    (tmp_path / "row-torchvision-vgg11.json").write_text(json.dumps(made_row(("torch eager", 3.0, True))))
    (tmp_path / "row-cnn4.json").write_text(json.dumps({"failed": "no memory"}))
    assert tune.tables(SimpleNamespace(out=tmp_path, count=40)) == 0
    assert list(kept["tune_rows"]) == ["lenet5", "torchvision:vgg11"]


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
