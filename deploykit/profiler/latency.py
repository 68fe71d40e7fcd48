"""How long a forward pass takes, on one engine or on several side by side, with an interval that can be believed.

Each engine lives in a process of its own and only one works at a time. They are timed in rounds, A B B A, so that a machine
that gets slower hits both alike. A block counts as its lower quartile: a run that nothing disturbed, while p95 and p99 tell of
those that something did. A round gives one ratio; neighbouring rounds are averaged, because what disturbs one often disturbs
the next; the interval is over those averages, and widened by what two processes of one and the same network differ by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import InputError
from deploykit.profiler import conditions, statistics
from deploykit.profiler.process import TimedProcess
from deploykit.profiler.worker import Subject
from deploykit.progress import SILENT, Progress

BLOCK_MS = 8.0
MIN_ROUNDS, MAX_ROUNDS = 12, 240
GROUPS = 16
# Two processes of one network differ for reasons of their own, such as where their memory lies: the standard deviation of the
# logarithm of their ratio, over pairs of processes. No number of rounds takes it away.
PROCESS_SPREAD = 0.009
WIDTH = 0.01  # stop when the interval, before it is widened, is this narrow
UNSTABLE = 2.0  # p95 over median
SECONDS = 10.0
WARM_UP_SECONDS = 0.5
KEPT_SAMPLES = 4096


@dataclass(frozen=True)
class Latency:
    """One engine. Times are of one run on the whole batch, host to host; `throughput` is samples per second at the median.

    `peak_memory_bytes`: of the whole process. `samples`: run times in ms, in the order they were taken.
    """

    label: str
    backend: str
    device: str
    threads: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    throughput: float
    peak_memory_bytes: int
    settings: Mapping[str, str] = field(default_factory=dict)
    samples: tuple[float, ...] = field(default=(), repr=False)

    @property
    def unstable(self) -> bool:
        """Whether something else was at work on this machine."""
        return self.p95_ms > UNSTABLE * self.median_ms

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {name: value for name, value in vars(self).items() if name not in ("samples", "settings")} | {
            "settings": dict(self.settings)
        }


@dataclass(frozen=True)
class Comparison:
    """`ratio` = time of `baseline` / time of `candidate`, above 1 where the candidate is faster; `low` and `high` its interval.

    `verdict`: "faster", "slower" or "no difference".
    """

    baseline: str
    candidate: str
    ratio: float
    low: float
    high: float
    verdict: str
    rounds: int

    def __str__(self) -> str:
        if self.verdict == "no difference":
            return f"no difference between {self.candidate} and {self.baseline} [{self.low:.2f}, {self.high:.2f}]"
        ratio, low, high = (self.ratio, self.low, self.high) if self.ratio >= 1 else (1 / self.ratio, 1 / self.high, 1 / self.low)
        return f"{self.candidate} is {ratio:.2f}x {self.verdict} [{low:.2f}, {high:.2f}] than {self.baseline}"

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return dict(vars(self))


@dataclass(frozen=True)
class LatencyReport:
    """Every engine, every comparison with the first one, and the conditions they were taken under."""

    latencies: tuple[Latency, ...]
    comparisons: tuple[Comparison, ...]
    conditions: Mapping[str, str]
    outputs: tuple[tuple[NDArray[Any], ...], ...] = field(default=(), repr=False)

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {
            "latency": [entry.document() for entry in self.latencies],
            "comparisons": [entry.document() for entry in self.comparisons],
            "conditions": dict(self.conditions),
        }


def compare_latency(
    baseline: Subject | str,
    candidate: Subject | str,
    *,
    batch: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    seconds: float = SECONDS,
    progress: Progress = SILENT,
) -> LatencyReport:
    """Is `candidate` faster than `baseline`? Both are TARGETs (or `Subject`s, which say more), run on the same inputs.

    `threads`: of both; `None` is every core this process may use. `seconds`: about how long to measure; it ends sooner when
    the interval is narrow. Raises what resolving the targets raises, `DeviceUnavailable`, and `InputError` for two networks
    with different inputs.
    """
    both = [Subject(s) if isinstance(s, str) else s for s in (baseline, candidate)]
    arrays = inputs_of(both[0], batch)
    return measure(both, arrays, device=device, threads=threads, seconds=seconds, progress=progress)


def inputs_of(subject: Subject, batch: int, seed: int = 0) -> list[NDArray[Any]]:
    """Standard normal inputs for a subject (small whole numbers where it takes integers), shape (batch, ...)."""
    from deploykit.profiler import subjects

    return subjects.inputs(subject, batch, seed)


def measure(
    subjects: Sequence[Subject],
    arrays: Sequence[NDArray[Any]],
    *,
    device: str = "cpu",
    threads: int | None = None,
    seconds: float = SECONDS,
    progress: Progress = SILENT,
) -> LatencyReport:
    """Time the subjects on `arrays`, one input each, with the batch; the first is the baseline of every comparison."""
    if not subjects:
        raise InputError("there is nothing to time")
    progress.start("timing", None)
    with ExitStack() as stack:
        processes = [stack.enter_context(TimedProcess(subject, device, threads, arrays)) for subject in subjects]
        for process in processes:
            process.wait_until_ready()
        outputs = tuple(tuple(process.outputs()) for process in processes)
        runs = [_runs_per_block(process) for process in processes]
        times: list[list[list[float]]] = [[] for _ in processes]
        until = time.monotonic() + seconds
        while not _enough(times, until):
            _one_round(processes, runs, times)
            progress.advance(note=f"round {len(times[0])}")
        latencies = tuple(_latency(p, t, arrays) for p, t in zip(processes, times, strict=True))
    comparisons = tuple(_compare(latencies[0].label, latencies[i].label, times[0], times[i]) for i in range(1, len(processes)))
    return LatencyReport(latencies, comparisons, conditions.of_machine(), outputs)


def _runs_per_block(process: TimedProcess) -> int:
    """Warm up until the time is spent and the last block was no faster than the one before; then fill a block."""
    until = time.monotonic() + WARM_UP_SECONDS
    found = [float(np.median(process.time(1)))]
    runs = 1
    while time.monotonic() < until or len(found) < 3:
        runs = max(1, min(1000, math.ceil(BLOCK_MS / found[-1])))
        found.append(float(np.median(process.time(runs))))
    return max(3, math.ceil(BLOCK_MS / found[-1]))


def _one_round(processes: Sequence[TimedProcess], runs: Sequence[int], times: list[list[list[float]]]) -> None:
    """One round for N engines: 1 2 .. N N .. 2 1, the next one the other way round; two blocks each."""
    order = list(range(len(processes)))
    if len(times[0]) % 4 == 2:
        order.reverse()
    for index in (*order, *reversed(order)):
        times[index].append(processes[index].time(runs[index]))


def _enough(times: Sequence[Sequence[Sequence[float]]], until: float) -> bool:
    rounds = len(times[0]) // 2
    if rounds < MIN_ROUNDS:
        return False
    if rounds >= MAX_ROUNDS or time.monotonic() > until:
        return True
    if len(times) == 1 or rounds % MIN_ROUNDS:
        return False
    intervals = [_interval(times[0], other) for other in times[1:]]
    return all(high - low < WIDTH for _, low, high in intervals)


def _interval(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """(mean, low, high) of the logarithm of baseline / candidate, over groups of neighbouring rounds."""
    rounds = _log_ratios(baseline, candidate)
    groups = np.array_split(np.asarray(rounds), min(GROUPS, len(rounds)))
    return statistics.mean_interval([float(group.mean()) for group in groups])


def _log_ratios(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> list[float]:
    """One value per round, which is two blocks of each."""
    pairs = zip(baseline, candidate, strict=True)
    blocks = [math.log(statistics.percentile(a, 0.25) / statistics.percentile(b, 0.25)) for a, b in pairs]
    return [(first + second) / 2 for first, second in zip(blocks[::2], blocks[1::2], strict=True)]


def _compare(baseline: str, candidate: str, a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Comparison:
    mean, low, high = _interval(a, b)
    half = math.hypot((high - low) / 2, statistics.normal_half(PROCESS_SPREAD))
    low, high = mean - half, mean + half
    verdict = "no difference" if low <= 0 <= high else "faster" if mean > 0 else "slower"
    return Comparison(baseline, candidate, math.exp(mean), math.exp(low), math.exp(high), verdict, len(a) // 2)


def _latency(process: TimedProcess, blocks: Sequence[Sequence[float]], arrays: Sequence[NDArray[Any]]) -> Latency:
    samples = [value for block in blocks for value in block]
    median = statistics.percentile(samples, 0.5)
    batch = int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1
    step = max(1, len(samples) // KEPT_SAMPLES)
    return Latency(
        label=process.label,
        backend=process.backend,
        device=process.device,
        threads=process.threads,
        median_ms=median,
        p95_ms=statistics.percentile(samples, 0.95),
        p99_ms=statistics.percentile(samples, 0.99),
        throughput=1000 * batch / median,
        peak_memory_bytes=process.peak_memory(),
        settings=process.settings,
        samples=tuple(samples[::step]),
    )
