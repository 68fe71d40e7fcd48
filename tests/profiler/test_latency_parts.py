"""How long to warm up and to measure, and what becomes of the blocks of run times, on engines whose times are made up."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from deploykit.profiler.benchmark import latency, process, worker


class Clock:
    """Stands in for `time`: an engine's runs move it on."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Engine:
    """Takes `ms` for each run; `asked` are the numbers of runs per block."""

    def __init__(self, clock, ms):
        self.clock, self.ms, self.asked = clock, ms, []

    def time(self, runs):
        self.asked.append(runs)
        self.clock.now += runs * self.ms / 1000
        return [self.ms] * runs


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(latency, "time", found)
    return found


@pytest.mark.parametrize(
    ("ms", "asked", "count"),
    [
        (2.0, 4, 64),  # blocks of 8 ms until half a second is over
        (3.0, 3, 57),
        (50.0, 1, 11),
        (0.001, 1000, 501),
        (400.0, 1, 3),  # one block after the first, which took no longer than half a second
        (600.0, 1, 1),
    ],
)
def test_an_engine_is_warm_after_half_a_second(clock, ms, asked, count):
    engine = Engine(clock, ms)
    assert latency._warm(engine) == pytest.approx(ms)
    assert engine.asked[0] == 1
    assert set(engine.asked[1:]) <= {asked}
    assert abs(len(engine.asked) - count) <= 1


def test_a_fast_engine_on_a_slow_clock_still_has_three_blocks(clock):
    engine = Engine(clock, 99.0)
    engine.time_ = engine.time
    engine.time = lambda runs: [setattr(clock, "now", clock.now + 1), *engine.time_(runs)][1:]
    latency._warm(engine)
    assert len(engine.asked) == 3


@pytest.mark.parametrize(
    ("each", "runs"),
    [
        ((1.0,), 8),
        ((2.0, 8.0), 2 + 1),  # 8 ms at their geometric mean of 4 ms would be 2 runs, the least is 3
        ((0.25, 4.0), 8),
        ((0.001,), 1000),
        ((99.9,), 3),
        ((100.1,), 1),
        ((10.0, 10.0), 3),
    ],
)
def test_runs_per_block(monkeypatch, each, runs):
    monkeypatch.setattr(latency, "_warm", lambda ms: ms)
    assert latency._runs_per_block(each) == runs


def rounds(count, engines=2, spread=0.0):
    """Two blocks a round; `spread` is how far the ratio of a round lies from the next one's."""
    return [[[1.0 + (engine and spread * (index // 2 % 2))] * 3 for index in range(2 * count)] for engine in range(engines)]


@pytest.mark.parametrize(
    ("times", "now", "enough"),
    [
        (rounds(5), 400.0, False),
        (rounds(6), 300.0, False),
        (rounds(6), 300.1, True),  # beyond overtime
        (rounds(11), 200.0, False),
        (rounds(12), 200.0, True),  # and the interval is narrow
        (rounds(12, spread=0.5), 200.0, False),
        (rounds(12, spread=0.5), 200.1, True),  # the time is over
        (rounds(13), 200.0, False),  # looked at every twelve rounds
        (rounds(24), 200.0, True),
        (rounds(24, engines=1), 200.0, False),  # nothing to compare
        (rounds(24, engines=1), 200.1, True),
        (rounds(239, spread=0.5), 200.0, False),
        (rounds(240, spread=0.5), 200.0, True),
        ([*rounds(12), *rounds(12, spread=0.5)[1:]], 200.0, False),  # the third engine still varies
    ],
)
def test_when_to_stop(clock, times, now, enough):
    clock.now = now
    assert latency._enough(times, 200.0, 300.0) is enough


def test_more_rounds_can_be_asked_for(clock):
    clock.now = 200.0
    assert not latency._enough(rounds(240, spread=0.5), 200.0, 300.0, most_rounds=480)
    assert latency._enough(rounds(480, spread=0.5), 200.0, 300.0, most_rounds=480)


def test_engines_of_one_process_are_compared_more_closely():
    here, there = object(), object()
    blocks = rounds(12)

    def found(one, two):
        timed = [SimpleNamespace(process=process, label=label) for process, label in ((one, "a"), (two, "b"))]
        return latency._compare(*timed, *blocks)

    within, between = found(here, here), found(here, there)
    for comparison, stdev in ((within, 0.007), (between, 0.025)):
        assert (comparison.baseline, comparison.candidate, comparison.rounds) == ("a", "b", 12)
        assert comparison.ratio == pytest.approx(1)
        assert math.log(comparison.high) == pytest.approx(latency.statistics.normal_half(stdev))
        assert math.log(comparison.low) == pytest.approx(-latency.statistics.normal_half(stdev))


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "no difference"), (1.5, "faster"), (0.5, "slower"), (1.01, "no difference")])
def test_the_ratio_is_that_of_the_baseline_to_the_candidate(factor, verdict):
    a, b = ([[value] * 4] * 24 for value in (2.0 * factor, 2.0))
    found = latency.compare_blocks("a", "b", a, b, 0.02)
    assert found.ratio == pytest.approx(factor)
    assert found.low < found.ratio < found.high
    assert found.verdict == verdict
    assert found.rounds == 12


def entry(**changes):
    return SimpleNamespace(
        **{
            "label": "a",
            "backend": "torch",
            "device": "cpu",
            "threads": 2,
            "peak_memory": 7,
            "cold_start": 3.5,
            "weights": 12,
            "settings": {"x": "y"},
            "subject": SimpleNamespace(is_file=False, rows=None),
            **changes,
        }
    )


def test_the_figures_of_an_engine():
    blocks = np.arange(1.0, 101.0).reshape(20, 5).tolist()
    found = latency._latency(entry(), blocks, [np.zeros((4, 3)), np.zeros(9)], 0.5)
    assert (found.label, found.backend, found.device, found.threads, found.peak_memory_bytes) == ("a", "torch", "cpu", 2, 7)
    assert found.settings == {"x": "y"}
    assert (found.cold_start_ms, found.weight_bytes, found.energy_joules) == (3.5, 12, 0.5)
    assert found.median_ms == pytest.approx(50.5)
    assert found.p95_ms == pytest.approx(95.05, abs=1)
    assert found.p99_ms == pytest.approx(99.01, abs=1)
    assert found.p95_ms < found.p99_ms
    assert found.throughput == pytest.approx(1000 * 4 / 50.5)
    assert found.samples == tuple(np.arange(1.0, 101.0))
    for arrays in ([], [np.zeros(())]):
        assert latency._latency(entry(), blocks, arrays, None).throughput == pytest.approx(1000 / 50.5)


def test_an_engine_that_runs_on_fewer_rows_has_those_rows_alone(monkeypatch):
    found = latency._latency(entry(subject=SimpleNamespace(is_file=False, rows=2)), [[50.0]], [np.zeros((4, 3))], None)
    assert found.throughput == pytest.approx(1000 * 2 / 50)
    seen = []
    engine = SimpleNamespace(
        device="cpu", threads=1, settings={}, run=lambda arrays: seen.append([len(array) for array in arrays]) or []
    )
    monkeypatch.setattr(worker, "start", lambda *_: (engine, None))
    child = worker.Worker()
    child.prepare("onnxruntime", [np.zeros((4, 3)), np.zeros((4, 1))])
    for rows in (None, 3, 1):
        child.start(SimpleNamespace(rows=rows), "cpu", 1)
    assert seen == [[4, 4], [3, 3], [1, 1]]
    child.time(1, 1)
    assert seen[-1] == [3, 3]


def test_a_child_to_whom_nobody_listens_ends_without_a_word():
    """As after Ctrl-C, which ends the parent alone."""
    command = [sys.executable, *process.COMMAND]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(process.import_path())}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    child.stdout.close()
    child.stdin.write(pickle.dumps(("prepare", ("onnxruntime", []))))
    child.stdin.close()
    assert (child.wait(timeout=60), child.stderr.read()) == (0, b"")
    child.stderr.close()


def test_of_many_run_times_every_so_many_are_kept(monkeypatch):
    monkeypatch.setattr(latency, "MAX_SAMPLES", 10)
    found = latency._latency(entry(), [[float(n) for n in range(35)]], [], None)
    assert found.samples == tuple(float(n) for n in range(0, 35, 3))


@pytest.mark.parametrize(("p95", "unstable"), [(2.0, False), (2.1, True)])
def test_an_engine_was_disturbed_where_few_runs_took_twice_as_long(p95, unstable):
    found = latency.Latency("a", "torch", "cpu", 1, 1.0, p95, p95, 1.0, 1)
    assert found.unstable is unstable
    assert "samples" not in found.document()


@pytest.mark.parametrize(
    ("ratio", "low", "high", "verdict", "said"),
    [
        (2.0, 1.8, 2.2, "faster", "b is 2.00x faster [1.80, 2.20] than a"),
        (0.5, 0.4, 0.8, "slower", "b is 2.00x slower [1.25, 2.50] than a"),
        (1.0, 0.8, 1.0, "no difference", "no difference between b and a [0.80, 1.00]"),
        (
            1.0,
            0.8,
            1.01,
            "no difference",
            "no difference can be seen between b and a [0.80, 1.01]: the times vary too much to tell",
        ),
    ],
)
def test_a_comparison_in_words(ratio, low, high, verdict, said):
    assert str(latency.Comparison("a", "b", ratio, low, high, verdict, 12)) == said
