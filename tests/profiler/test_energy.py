"""Joules, from what the system counts; no test needs a machine that does."""

from __future__ import annotations

import pytest

from deploykit.profiler import Latency
from deploykit.profiler.benchmark import energy
from deploykit.profiler.benchmark.worker import Worker
from deploykit.views.profile import latency_table


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """Two CPUs, one part of a CPU, and the whole machine, which would be counted twice; gives how to set a counter."""

    def put(name, microjoules, called="package-0"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(called + "\n")
        (folder / "max_energy_range_uj").write_text("999999\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")

    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    for name, called in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:2", "psys"),
    ):
        put(name, 900_000, called)
    return put


def test_both_cpus_count_and_a_counter_may_begin_again(counters):
    since = energy.meter("cpu")
    counters("intel-rapl:0", 950_000)
    counters("intel-rapl:1", 100_000, "package-1")
    counters("intel-rapl:0:0", 999_000, "core")
    assert since() == pytest.approx(0.05 + 0.2)
    assert since() == 0


def test_a_machine_that_tells_nothing_is_asked_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "nowhere")
    assert energy.meter("cpu") is None
    monkeypatch.setattr(energy, "NVML", "no-such-library.so")
    assert energy.meter("cuda:1") is None
    worker = Worker()
    worker.engines.append(Engine())
    worker.own.append([])
    assert worker.energy(0, 0.0) is None
    assert worker.engines[0].runs == 0


class Engine:
    """One that counts its runs."""

    device = "cpu"
    runs = 0

    def run(self, arrays):
        self.runs += 1


def test_energy_is_that_of_one_run(monkeypatch):
    worker = Worker()
    worker.engines.append(Engine())
    worker.own.append([])
    monkeypatch.setattr(energy, "meter", lambda device: lambda: 0.6)
    assert worker.energy(0, 0.0) == pytest.approx(0.2)  # of three runs, after one that does not count
    assert worker.engines[0].runs == 4


def entry(**more):
    return Latency("a", "torch", "cpu", 1, 1.0, 1.0, 1.0, 1.0, 10, **more)


def test_the_table_has_a_column_only_for_what_is_known():
    keys = [column.key for column in latency_table((entry(cold_start_ms=3.0, weight_bytes=5),)).columns]
    assert "energy_joules" not in keys
    assert {"cold_start_ms", "weight_bytes", "peak_memory_bytes"} <= set(keys)
    assert "energy_joules" in [column.key for column in latency_table((entry(energy_joules=0.5),)).columns]
