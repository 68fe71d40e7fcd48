"""What the search asks of the world: make a file, time it beside the others, compare its answers. `Bench` is the real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx

from deploykit import backends, onnx_file
from deploykit.backends import Engine
from deploykit.errors import DeploykitError
from deploykit.onnx_file import external_data
from deploykit.profiler.benchmark.latency import MIN_ROUNDS_OVERTIME, measure_latency
from deploykit.profiler.subjects import Subject
from deploykit.progress import Progress
from deploykit.tuner.answers import answers_of, are_apart
from deploykit.tuner.journal import Journal
from deploykit.tuner.result import Candidate, Timing
from deploykit.tuner.samples import Part, Parts
from deploykit.verdict.same_decisions import Answers, Budget, Judged, Rule, judge

FIRST, RUNS = 8, 3  # samples, and runs on them, by which it is found out how long answers take
RUNS_OF_A_GO = 4 * MIN_ROUNDS_OVERTIME  # at least: two blocks per round, of one run that counts and one before it
# The most of the seconds that the given file may take to answer all samples of a part, and the least samples that stay.
SHARES = {"calibration": (0.05, 16), "selection": (0.05, 16), "proof": (0.15, 32)}
Build = Callable[[], onnx.ModelProto]
BEST = Rule()


class Instruments(Protocol):
    """What a search can ask."""

    def now(self) -> float:
        """Seconds since the tuning began, those before a kill included."""

    def late(self, latest: float) -> bool:
        """Whether it is later than that: after a kill, as it was when this was asked for the first time."""

    def make(self, build: str, how: Build) -> None:
        """Make the file of that name, unless it is there. Raises what `how` raises."""

    def size(self, build: str) -> int:
        """The bytes of a file that was made."""

    def time(self, baseline: Candidate, candidates: Sequence[Candidate], seconds: float) -> list[Timing]:
        """All of them interleaved for about so many seconds; the baseline first in the answer."""

    def judge(self, candidate: Candidate, part: str) -> Judged:
        """The answers of a candidate to the samples of "selection" or "proof", compared with those of the given file."""

    def answering(self, part: str) -> float:
        """About how many seconds the given file takes to answer all samples of a part."""

    def going(self, candidates: int) -> float:
        """About how many seconds it takes at least to time so many candidates beside the baseline."""


class Bench:
    """The real instruments. Every answer is kept in a journal, so that a run that was killed goes on where it was."""

    def __init__(
        self, file: Path, folder: Path, parts: Parts, baseline: Candidate, budget: Budget, journal: Journal, device: str,
        progress: Progress, rule: Rule = BEST, began: float | None = None,
    ) -> None:  # fmt: skip
        self._file, self._folder, self.parts, self._baseline, self._rule = file, folder, parts, baseline, rule
        self._each, self._looks = 0.0, 0
        self._budget, self._journal, self._device, self._progress = budget, journal, device, progress
        self._began = time.monotonic() if began is None else began
        self._replayed: float | None = 0.0 if journal.resumed else None  # the time of the last answer from the journal
        self._expected: dict[tuple[str, int | None], Answers] = {}  # by part, and by how many samples were asked at once

    def now(self) -> float:
        """See `Instruments.now`."""
        return time.monotonic() - self._began if self._replayed is None else self._replayed

    def late(self, latest: float) -> bool:
        """See `Instruments.late`."""
        self._looks += 1
        return bool(self.remember(["late", str(self._looks)], lambda: self.now() > latest))

    def remember(self, question: Sequence[str], find: Callable[[], Any]) -> Any:
        """The answer from the journal; what is not there is found and kept. After a kill, the clock goes on with the first such."""
        kept = self._journal.get(question)
        if kept is not None:
            if self._replayed is not None:
                self._replayed = kept[1]
            return kept[0]
        if self._replayed is not None:
            self._began, self._replayed = time.monotonic() - self._replayed, None
        found = find()
        self._journal.put(question, found, self.now())
        return found

    def fit(self, seconds: float) -> None:
        """Leave out samples for which so many seconds are not enough, by how long the given file takes."""
        self._each = found = float(self.remember(["each"], self._seconds_per_sample))
        kept: dict[str, Any] = {}
        for name, (share, least) in SHARES.items():
            part: Part = getattr(self.parts, name)
            most = max(least, int(share * seconds / max(found, 1e-9)))
            kept[name] = part if len(part) <= most else part.only(np.arange(most))
        self.parts = replace(self.parts, **kept)

    def keep_labels_that_tell(self) -> bool:
        """Whether the given file is right on the selection more often than whoever always says its most frequent label.

        Else the labels are not those of its classes, or it has learnt nothing: that fewer answers are right would not be seen. They
        are forgotten.
        """
        tell = bool(self.remember(["labels"], self._labels_tell))
        if not tell:
            self.parts = self.parts.without_labels()
            self._expected.clear()
        return tell

    def answering(self, part: str) -> float:
        """See `Instruments.answering`."""
        return self._each * len(getattr(self.parts, part))

    def going(self, candidates: int) -> float:
        """See `Instruments.going`; as if all were as fast as the given file."""
        return RUNS_OF_A_GO * self._each * self._baseline.batch * (candidates + 1)

    def path(self, build: str) -> Path:
        """Where the file of that name lies."""
        return self._file if build == "fp32" else self._folder / f"{build}.onnx"

    def make(self, build: str, how: Build) -> None:
        """See `Instruments.make`."""
        if build == "fp32" or self.path(build).is_file():
            return
        self._progress.advance(0, note=f"making {build}")
        onnx_file.write(how(), self.path(build))

    def size(self, build: str) -> int:
        """See `Instruments.size`; with the weights that lie beside it."""
        return self.path(build).stat().st_size + (self._given[2] if build == "fp32" else 0)

    @cached_property
    def _given(self) -> tuple[list[str], tuple[bool, ...], int]:
        """Of the given file, which may be large and is read once: its outputs, which are whole numbers, and the bytes beside it."""
        model = onnx_file.read(self._file)
        outputs = model.graph.output
        outside = external_data.bytes_outside(model, self._file)
        return [value.name for value in outputs], tuple(map(_is_whole, outputs)), outside

    def time(self, baseline: Candidate, candidates: Sequence[Candidate], seconds: float) -> list[Timing]:
        """See `Instruments.time`. What cannot run has a ratio of 0."""
        key = ["time", baseline.name, *(candidate.name for candidate in candidates)]
        kept = self.remember(key, lambda: [asdict(timing) for timing in self._timed(baseline, candidates, seconds)])
        return [Timing(**entry) for entry in kept]

    def judge(self, candidate: Candidate, part: str) -> Judged:
        """See `Instruments.judge`."""
        return Judged(**self.remember(["judge", candidate.name, part], lambda: asdict(self._judged(candidate, part))))

    def _timed(self, baseline: Candidate, candidates: Sequence[Candidate], seconds: float) -> list[Timing]:
        running = [candidate for candidate in candidates if self._runs(candidate)]
        subjects = [self._subject(candidate) for candidate in (baseline, *running)]
        arrays = self.parts.calibration.cycled(max(candidate.batch for candidate in (baseline, *running)))
        report = measure_latency(
            subjects, arrays, device=self._device, threads=baseline.threads, seconds=seconds, progress=self._progress
        )
        medians = [latency.median_ms for latency in report.latencies]
        found = {baseline.name: Timing(medians[0], 1.0, 1.0, 1.0)}
        for candidate, median, comparison in zip(running, medians[1:], report.comparisons, strict=True):
            more = candidate.batch / baseline.batch  # samples per run: what counts is the time of each
            found[candidate.name] = Timing(median, *(more * value for value in (comparison.ratio, comparison.low, comparison.high)))
        return [found.get(candidate.name, Timing(0.0, 0.0, 0.0, 0.0)) for candidate in (baseline, *candidates)]

    def _runs(self, candidate: Candidate) -> bool:
        try:
            with self._engine(candidate) as engine:
                engine.run(self.parts.calibration.cycled(candidate.batch))
        except DeploykitError:
            return False
        return True

    def _subject(self, candidate: Candidate) -> Subject:
        return Subject(
            str(self.path(candidate.build)), backend=candidate.engine, label=candidate.name, threads=candidate.threads,
            options=candidate.options, rows=candidate.batch,
        )  # fmt: skip

    def _engine(self, candidate: Candidate) -> Engine:
        file = self.path(candidate.build)
        return backends.start(candidate.engine, file, device=self._device, threads=candidate.threads, options=candidate.options)

    def _judged(self, candidate: Candidate, part: str) -> Judged:
        self._progress.advance(0, note=f"answers of {candidate.name}")
        samples: Part = getattr(self.parts, part)
        rows = _rows_at_once(candidate)
        given = None if rows is None or self._apart else rows  # rows that share a run may change each other
        if (part, given) not in self._expected:
            self._expected[part, given] = self._answers(self._baseline, samples, given)
        found = self._answers(candidate, samples, rows)
        planned = len(self.parts.proof) if part == "selection" else None
        return judge(self._expected[part, given], found, self._budget, planned)

    @cached_property
    def _apart(self) -> bool:
        """See `are_apart`, of the given file."""

        def asked() -> bool:
            samples = self.parts.calibration.only(np.arange(min(FIRST, len(self.parts.calibration))))
            with self._engine(self._baseline) as engine:
                return len(samples) > 1 and are_apart(engine, samples)

        return bool(self.remember(["apart"], asked))

    def _answers(self, candidate: Candidate, samples: Part, rows: int | None) -> Answers:
        """`rows`: samples at once, `None` for as many as are quick."""
        with self._engine(candidate) as engine:
            outputs = answers_of(engine, samples, rows)
        names, whole, _ = self._given
        place = names.index(self._rule.name) if self._rule.name in names else 0
        return Answers(_first(outputs, place), samples.labels, self._rule, _first(whole, place))

    def _labels_tell(self) -> bool:
        if not self.parts.labelled:
            return True
        expected = self._expected["selection", None] = self._answers(self._baseline, self.parts.selection, None)
        labels = expected.labels
        if labels is None or not expected.labelled:
            return True
        return bool(expected.right(expected).sum() > np.unique(labels, return_counts=True)[1].max())

    def _seconds_per_sample(self) -> float:
        """Of the given file; the shortest of some runs on few samples, after one that does not count."""
        samples = self.parts.calibration.only(np.arange(min(FIRST, len(self.parts.calibration))))
        with self._engine(self._baseline) as engine:
            answers_of(engine, samples)
            found = []
            for _ in range(RUNS):
                began = time.perf_counter()
                answers_of(engine, samples)
                found.append(time.perf_counter() - began)
        return min(found) / len(samples)


def _rows_at_once(candidate: Candidate) -> int | None:
    """For how many samples its engine compiles the file; `None` where that is not so."""
    rows = candidate.options.get("fixed_batch")
    return None if rows is None else int(rows)


def _first(values: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    """That one, which the contract means, before the others."""
    return (values[place], *values[:place], *values[place + 1 :])


def _is_whole(value: onnx.ValueInfoProto) -> bool:
    """Whether an output is whole numbers or truth values."""
    kind = value.type.tensor_type.elem_type
    return bool(kind) and onnx.helper.tensor_dtype_to_np_dtype(kind).kind in "iub"
