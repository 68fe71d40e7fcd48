"""`compare_latency` and `measure_latency`: milliseconds of a forward pass on each engine, and the ratio of two with its interval.

Each backend lives in a process of its own, two networks on one backend share it, and only one works at a time.

1. A *block* is a number of runs in a row of one engine. It counts as its lower quartile: a run that nothing disturbed.
2. A *round* is two blocks of every engine, A B B A, so that a machine that gets slower hits both alike. It gives one ratio.
3. Of neighbouring rounds, a *group*, the median ratio counts, because what disturbs one often disturbs the next.
4. The confidence interval is over those medians, and widened by what two copies of one and the same network differ by.

p50, p95 and p99 are over all runs, disturbed ones included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deploykit import arguments as read
from deploykit.errors import InputError
from deploykit.lazy import naming_extras
from deploykit.network.request import Asked
from deploykit.profiler import statistics, subjects
from deploykit.profiler.benchmark import conditions
from deploykit.profiler.benchmark.device import require_device
from deploykit.profiler.benchmark.process import ThisProcess, Timed, TimedProcess
from deploykit.profiler.subjects import Subject
from deploykit.progress import SILENT, Progress
from deploykit.shown import Shown

BLOCK_MS = 8.0  # the length of a block, on average over the engines
MIN_RUNS, MAX_RUNS = 3, 1000  # per block
LONG_RUN_MS = 100.0  # an engine whose runs take longer has one run per block
MIN_ROUNDS, MAX_ROUNDS = 12, 240
MIN_ROUNDS_OVERTIME = 6  # enough where MIN_ROUNDS would take longer than (1 + OVERTIME) times the seconds that were asked for
OVERTIME = 2.0
MAX_GROUPS = 16
# Standard deviation of log(time of one / time of the other) for two copies of one network, over many pairs of copies: in two
# processes, whose memory lies differently, and in one. More rounds do not make it smaller.
STDEV_BETWEEN_PROCESSES = 0.025
STDEV_WITHIN_PROCESS = 0.007
TARGET_WIDTH = 0.01  # of the interval of log(ratio), before it is widened: measuring ends when it is this narrow
UNSTABLE_RATIO = 2.0  # p95 / median above which the report says that the machine was busy
INCONCLUSIVE_RATIO = 1.25  # high / low above which "no difference" is reported as "vary too much to tell"
SECONDS = 10.0
ENERGY_SECONDS = 1.0  # that each engine runs by itself where the machine counts joules: its counters are too slow for blocks
WARM_UP_SECONDS = 0.5  # per engine
MAX_SAMPLES = 4096  # run times kept per engine for the histogram


@dataclass(frozen=True)
class Latency:
    """One engine. Times are of one run on the whole batch, host to host; `throughput` is samples per second at the median.

    `peak_memory_bytes`: of the whole process; `None` where that is the caller's own, which holds more. `samples`: run times in ms,
    in the order they were taken. `cold_start_ms`: opening the file or building the network, and its first run, with the libraries
    loaded. `weight_bytes`: of all that is stored: the parameters and buffers of a network, the tensors of a file. `energy_joules`:
    per run, of all CPUs or of the GPU, with what they use when they idle; `None` where the machine does not tell.
    """

    label: str
    backend: str
    device: str
    threads: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    throughput: float
    peak_memory_bytes: int | None
    settings: Mapping[str, str] = field(default_factory=dict)
    samples: tuple[float, ...] = field(default=(), repr=False)
    cold_start_ms: float | None = None
    weight_bytes: int | None = None
    energy_joules: float | None = None

    @property
    def unstable(self) -> bool:
        """Whether p95 is more than `UNSTABLE_RATIO` times the median: something else was at work on this machine."""
        return self.p95_ms > UNSTABLE_RATIO * self.median_ms

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
        if self.verdict == "no difference" and self.high > INCONCLUSIVE_RATIO * self.low:
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


@dataclass(frozen=True, repr=False)
class LatencyReport(Shown):
    """Every engine, every comparison with the first one, and the conditions they were taken under."""

    _view: ClassVar[str] = "latency"

    latencies: tuple[Latency, ...]
    comparisons: tuple[Comparison, ...]
    conditions: Mapping[str, str]
    outputs: tuple[tuple[NDArray[Any], ...], ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return f"<LatencyReport: {'; '.join(map(str, self.comparisons)) or ', '.join(entry.label for entry in self.latencies)}>"

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {
            "latency": [entry.document() for entry in self.latencies],
            "comparisons": [entry.document() for entry in self.comparisons],
            "conditions": dict(self.conditions),
        }


def compare_latency(
    baseline: Subject | Asked,
    candidate: Subject | Asked,
    *,
    batch: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> LatencyReport:
    """Is `candidate` faster than `baseline`? Both are TARGETs, paths, modules (or `Subject`s, which say more), on the same inputs.

    `threads`: of both; `None` is every core this process may use. `seconds`: about how long to measure; it ends sooner when
    the interval is narrow. Raises what resolving the targets raises, `DeviceUnavailable`, and `InputError` for two networks
    with different inputs, `DependencyMissing` where the extra `export` is not installed.
    """
    with naming_extras():
        both = [each if isinstance(each, Subject) else Subject.of(each) for each in (baseline, candidate)]
        arrays = subjects.random_arrays(both[0], read.whole(batch, "batch", 1, 1 << 20))
    return measure_latency(
        both, arrays, device=read.text(device, "device", "cpu"), threads=read.whole(threads, "threads", 1, 1024),
        seconds=read.real(seconds, "seconds"), progress=read.progress(progress),
    )  # fmt: skip


def measure_latency(
    subjects: Sequence[Subject],
    arrays: Sequence[NDArray[Any]],
    *,
    device: str = "cpu",
    threads: int | None = None,
    seconds: float = SECONDS,
    most_rounds: int = MAX_ROUNDS,
    progress: Progress = SILENT,
) -> LatencyReport:
    """Time the subjects on `arrays`, one input each, with the batch; the first is the baseline of every comparison.

    It ends after `seconds`, after `most_rounds`, or when all intervals are narrow.
    """
    if not subjects:
        raise InputError("there is nothing to time")
    for subject in subjects:
        require_device(device, subject.is_file)
    progress.start("timing", None)
    busy = conditions.load()
    with ExitStack() as stack:
        processes: dict[tuple[str, bool], TimedProcess | ThisProcess] = {}
        for place in map(_place, subjects):
            if place not in processes:
                process = ThisProcess(place[0], arrays) if place[1] else TimedProcess(place[0], arrays)
                processes[place] = process
                stack.callback(process.close)
        timed = [processes[_place(subject)].open(subject, device, threads) for subject in subjects]
        runs = _runs_per_block(timed)
        times: list[list[list[float]]] = [[] for _ in timed]
        until = time.monotonic() + seconds
        while not _enough(times, until, until + OVERTIME * seconds, most_rounds):
            _one_round(timed, runs, times)
            progress.advance(note=f"round {len(times[0]) // 2}")
        joules = [entry.energy(ENERGY_SECONDS) for entry in timed]
    latencies = tuple(_latency(*each[:2], arrays, each[2]) for each in zip(timed, times, joules, strict=True))
    comparisons = tuple(_compare(timed[0], other, times[0], times[i]) for i, other in enumerate(timed) if i > 0)
    return LatencyReport(latencies, comparisons, conditions.of_machine(busy), tuple(tuple(entry.outputs) for entry in timed))


def _place(subject: Subject) -> tuple[str, bool]:
    """Which process a subject runs in: that of its backend, and for a module, which exists in this process alone, this one."""
    return subject.engine, subject.module is not None


def _runs_per_block(timed: Sequence[Timed]) -> int:
    """Warm up every engine; gives the number of runs per block: as many as take `BLOCK_MS` on average, one if they are long.

    The same number for all: a busy machine disturbs long blocks and short ones differently, and equals must stay equal.
    """
    milliseconds = [_warm(entry) for entry in timed]
    middle = math.exp(sum(map(math.log, milliseconds)) / len(milliseconds))
    return 1 if middle > LONG_RUN_MS else max(MIN_RUNS, min(MAX_RUNS, math.ceil(BLOCK_MS / middle)))


def _warm(entry: Timed) -> float:
    """The time of an undisturbed run in ms, after `WARM_UP_SECONDS`."""
    until = time.monotonic() + WARM_UP_SECONDS
    found = statistics.percentile(entry.time(1), 0.25)
    blocks = 1
    while time.monotonic() < until or (blocks < 3 and found < LONG_RUN_MS):
        found = statistics.percentile(entry.time(max(1, min(MAX_RUNS, math.ceil(BLOCK_MS / found)))), 0.25)
        blocks += 1
    return found


def _one_round(timed: Sequence[Timed], runs: int, times: list[list[list[float]]]) -> None:
    """One round for N engines: 1 2 .. N N .. 2 1, the next one the other way round; two blocks each."""
    order = list(range(len(timed)))
    if len(times[0]) % 4 == 2:
        order.reverse()
    for index in (*order, *reversed(order)):
        times[index].append(timed[index].time(runs))


def _enough(times: Sequence[Sequence[Sequence[float]]], until: float, latest: float, most_rounds: int = MAX_ROUNDS) -> bool:
    """Whether to stop after these blocks. `until`: the clock at the end of the seconds asked for; `latest`: at that of overtime."""
    rounds = len(times[0]) // 2
    if rounds < MIN_ROUNDS:
        return rounds >= MIN_ROUNDS_OVERTIME and time.monotonic() > latest
    if rounds >= most_rounds or time.monotonic() > until:
        return True
    if len(times) == 1 or rounds % MIN_ROUNDS:
        return False
    intervals = [_interval(times[0], other) for other in times[1:]]
    return all(high - low < TARGET_WIDTH for _, low, high in intervals)


def _interval(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """(mean, low, high) of the logarithm of baseline / candidate, over groups of neighbouring rounds."""
    rounds = _log_ratios(baseline, candidate)
    groups = np.array_split(np.asarray(rounds), min(MAX_GROUPS, len(rounds)))
    return statistics.mean_interval([float(np.median(group)) for group in groups])


def _log_ratios(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> list[float]:
    """One value per round, which is two blocks of each."""
    pairs = zip(baseline, candidate, strict=True)
    blocks = [math.log(statistics.percentile(a, 0.25) / statistics.percentile(b, 0.25)) for a, b in pairs]
    return [(first + second) / 2 for first, second in zip(blocks[::2], blocks[1::2], strict=True)]


def _compare(baseline: Timed, candidate: Timed, a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Comparison:
    stdev = STDEV_WITHIN_PROCESS if baseline.process is candidate.process else STDEV_BETWEEN_PROCESSES
    return compare_blocks(baseline.label, candidate.label, a, b, stdev)


def compare_blocks(
    baseline: str, candidate: str, a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], stdev: float
) -> Comparison:
    """The comparison of two engines from their blocks of run times in ms (`a`: of the baseline), two blocks of each per round.

    `stdev`: by how much log(ratio) differs between copies of one network; the interval is widened by it.
    """
    mean, low, high = _interval(a, b)
    half = math.hypot((high - low) / 2, statistics.normal_half(stdev))
    low, high = mean - half, mean + half
    verdict = "no difference" if low <= 0 <= high else "faster" if mean > 0 else "slower"
    return Comparison(baseline, candidate, math.exp(mean), math.exp(low), math.exp(high), verdict, len(a) // 2)


def _of_file(entry: Timed) -> tuple[dict[str, str], int | None]:
    """What the engine says of itself, and the bytes of the weights.

    Those of a file, and its precision, are read here: the process that times it holds no library to read it.
    """
    if not entry.subject.is_file:
        return entry.settings, entry.weights
    from deploykit import onnx_file
    from deploykit.profiler.onnx import weight_type

    model = onnx_file.read(Path(entry.subject.target))
    return {**entry.settings, "precision": weight_type.of(model)}, weight_type.stored_bytes(model)


def _latency(entry: Timed, blocks: Sequence[Sequence[float]], arrays: Sequence[NDArray[Any]], energy: float | None) -> Latency:
    settings, weights = _of_file(entry)
    samples = [value for block in blocks for value in block]
    median = statistics.percentile(samples, 0.5)
    batch = entry.subject.rows or (int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1)
    step = max(1, len(samples) // MAX_SAMPLES)
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
        settings=settings,
        samples=tuple(samples[::step]),
        cold_start_ms=entry.cold_start,
        weight_bytes=weights,
        energy_joules=energy,
    )
