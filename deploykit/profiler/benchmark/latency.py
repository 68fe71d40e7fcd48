"""How long a forward pass takes, on one engine or on several side by side, with an interval that can be believed.

Each backend lives in a process of its own, two networks on one backend share it, and only one works at a time. They are
timed in rounds, A B B A, so that a machine that gets slower hits both alike. A block counts as its lower quartile: a run that
nothing disturbed, while p95 and p99 tell of those that something did. A round gives one ratio; of neighbouring rounds the
median counts, because what disturbs one often disturbs the next; the interval is over those medians, and widened by what two
copies of one and the same network differ by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.errors import InputError
from deploykit.profiler import statistics
from deploykit.profiler.benchmark import conditions
from deploykit.profiler.benchmark.device import require_device
from deploykit.profiler.benchmark.process import Timed, TimedProcess
from deploykit.profiler.subjects import Subject
from deploykit.progress import SILENT, Progress

BLOCK_MS = 8.0
FEWEST_RUNS, MOST_RUNS = 3, 1000
LONG_RUN_MS = 100.0  # runs that need no company in their block
MIN_ROUNDS, MAX_ROUNDS = 12, 240
FEWEST_ROUNDS = 6  # where rounds are so long that there is no time for more
PATIENCE = 2.0  # beyond the time that was asked for, until the fewest rounds are enough
GROUPS = 16
# Two processes of one network differ for reasons of their own, such as where their memory lies; two copies of it in one process
# much less. Standard deviations of the logarithm of their ratio, over pairs; no number of rounds takes them away.
PROCESS_SPREAD = 0.025
SPREAD = 0.007
WIDTH = 0.01  # stop when the interval, before it is widened, is this narrow
UNSTABLE = 2.0  # p95 over median
VAGUE = 1.25  # an interval that is wider tells little
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
        if self.verdict == "no difference" and self.high > VAGUE * self.low:
            return (
                f"no difference can be seen between {self.candidate} and {self.baseline} "
                f"[{self.low:.2f}, {self.high:.2f}]: the times vary too much to tell"
            )
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
    batch: int | None = None,
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


def inputs_of(subject: Subject, batch: int | None, seed: int = 0) -> list[NDArray[Any]]:
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
    for subject in subjects:
        require_device(device, subject.is_file)
    progress.start("timing", None)
    busy = conditions.load()
    with ExitStack() as stack:
        processes = {name: stack.enter_context(TimedProcess(name, arrays)) for name in {s.engine: 0 for s in subjects}}
        timed = [processes[subject.engine].open(subject, device, threads) for subject in subjects]
        runs = _runs_per_block(timed)
        times: list[list[list[float]]] = [[] for _ in timed]
        until = time.monotonic() + seconds
        while not _enough(times, until, until + PATIENCE * seconds):
            _one_round(timed, runs, times)
            progress.advance(note=f"round {len(times[0]) // 2}")
    latencies = tuple(_latency(entry, blocks, arrays) for entry, blocks in zip(timed, times, strict=True))
    comparisons = tuple(_compare(timed[0], other, times[0], times[i]) for i, other in enumerate(timed) if i > 0)
    return LatencyReport(latencies, comparisons, conditions.of_machine(busy), tuple(tuple(entry.outputs) for entry in timed))


def _runs_per_block(timed: Sequence[Timed]) -> int:
    """Warm everything up; then as many runs as fill a block on average, one if it is long.

    The same number for all: a busy machine disturbs long blocks and short ones differently, and equals must stay equal.
    """
    usual = [_warm(entry) for entry in timed]
    middle = math.exp(sum(math.log(milliseconds) for milliseconds in usual) / len(usual))
    return 1 if middle > LONG_RUN_MS else max(FEWEST_RUNS, min(MOST_RUNS, math.ceil(BLOCK_MS / middle)))


def _warm(entry: Timed) -> float:
    """The time of an undisturbed run in ms, after `WARM_UP_SECONDS`."""
    until = time.monotonic() + WARM_UP_SECONDS
    found = statistics.percentile(entry.time(1), 0.25)
    blocks = 1
    while time.monotonic() < until or (blocks < 3 and found < LONG_RUN_MS):
        found = statistics.percentile(entry.time(max(1, min(MOST_RUNS, math.ceil(BLOCK_MS / found)))), 0.25)
        blocks += 1
    return found


def _one_round(timed: Sequence[Timed], runs: int, times: list[list[list[float]]]) -> None:
    """One round for N engines: 1 2 .. N N .. 2 1, the next one the other way round; two blocks each."""
    order = list(range(len(timed)))
    if len(times[0]) % 4 == 2:
        order.reverse()
    for index in (*order, *reversed(order)):
        times[index].append(timed[index].time(runs))


def _enough(times: Sequence[Sequence[Sequence[float]]], until: float, latest: float) -> bool:
    rounds = len(times[0]) // 2
    if rounds < MIN_ROUNDS:
        return rounds >= FEWEST_ROUNDS and time.monotonic() > latest
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
    return statistics.mean_interval([float(np.median(group)) for group in groups])


def _log_ratios(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> list[float]:
    """One value per round, which is two blocks of each."""
    pairs = zip(baseline, candidate, strict=True)
    blocks = [math.log(statistics.percentile(a, 0.25) / statistics.percentile(b, 0.25)) for a, b in pairs]
    return [(first + second) / 2 for first, second in zip(blocks[::2], blocks[1::2], strict=True)]


def _compare(baseline: Timed, candidate: Timed, a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Comparison:
    spread = SPREAD if baseline.process is candidate.process else PROCESS_SPREAD
    return judge(baseline.label, candidate.label, a, b, spread)


def judge(baseline: str, candidate: str, a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], spread: float) -> Comparison:
    """The comparison of two engines from their blocks of run times, two blocks of each per round."""
    mean, low, high = _interval(a, b)
    half = math.hypot((high - low) / 2, statistics.normal_half(spread))
    low, high = mean - half, mean + half
    verdict = "no difference" if low <= 0 <= high else "faster" if mean > 0 else "slower"
    return Comparison(baseline, candidate, math.exp(mean), math.exp(low), math.exp(high), verdict, len(a) // 2)


def _settings(entry: Timed) -> dict[str, str]:
    """What the engine says of itself, and for a file its precision: the process that times it holds no library to read it."""
    if not entry.subject.is_file:
        return entry.settings
    from deploykit import onnx_file
    from deploykit.profiler.onnx import weight_type

    return {**entry.settings, "precision": weight_type.of(onnx_file.read(Path(entry.subject.target)))}


def _latency(entry: Timed, blocks: Sequence[Sequence[float]], arrays: Sequence[NDArray[Any]]) -> Latency:
    samples = [value for block in blocks for value in block]
    median = statistics.percentile(samples, 0.5)
    batch = int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1
    step = max(1, len(samples) // KEPT_SAMPLES)
    return Latency(
        label=entry.label,
        backend=entry.backend,
        device=entry.device,
        threads=entry.threads,
        median_ms=median,
        p95_ms=statistics.percentile(samples, 0.95),
        p99_ms=statistics.percentile(samples, 0.99),
        throughput=1000 * batch / median,
        peak_memory_bytes=entry.peak_memory,
        settings=_settings(entry),
        samples=tuple(samples[::step]),
    )
