"""What a tuning is made of, as plain data: a candidate, what was measured of it, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from deploykit.shown import Shown
from deploykit.verdict.outlook import LIKELY
from deploykit.verdict.same_decisions import Judged

Goal = Literal["latency", "throughput", "size"]
_JUDGED = ("samples", "error", "agreement", "agreement_low", "accuracy", "drop", "drop_low", "drop_high")
Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Candidate:
    """A file on an engine. `build`: which of the files that were made; "fp32" is the one that was given.

    `precision`: in which most of the arithmetic is done. `threads`: within one run. `batch`: samples per run. `options`: of the
    engine, as `backends.start` takes them. `floats`: layers that were left in float32, and why.
    """

    name: str
    engine: str
    precision: Precision
    threads: int
    batch: int = 1
    build: str = "fp32"
    options: Mapping[str, str] = field(default_factory=dict)
    floats: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_float(self) -> bool:
        """Whether it computes what the given file says, up to the rounding of float32."""
        return self.precision == "fp32"

    def but(self, name: str, **changes: Any) -> Candidate:
        """The same with other values, under another name."""
        return replace(self, name=name, **changes)


@dataclass(frozen=True)
class Timing:
    """`median_ms` of one run. `ratio` = time of the baseline / time of this one, and the ends of its interval."""

    median_ms: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """A candidate with all that is known of it. `bytes`: of its file. `timing`, `judged`: `None` where that was not asked.

    `kept`: whether it could be chosen; `reason`: why not, or what is to be said of it. `proven`: `judged` is of the proof.
    """

    candidate: Candidate
    bytes: int = 0
    timing: Timing | None = None
    judged: Judged | None = None
    kept: bool = False
    reason: str = ""
    proven: bool = False

    @property
    def likely(self) -> bool:
        """Whether its proof will probably hold, or none is needed."""
        return self.kept and (self.judged is None or self.judged.chance is None or self.judged.chance >= LIKELY)

    @property
    def flawless(self) -> bool:
        """Whether no sample that was looked at has lost anything: what is more exact could not be told from it."""
        return self.kept and self.judged is not None and self.judged.agreement == 1

    def document(self) -> dict[str, Any]:
        """The public JSON form; `ratio` = baseline time / candidate time, accuracies and drops in 0..1."""
        c, t, j = self.candidate, self.timing, self.judged
        return {
            "name": c.name, "engine": c.engine, "precision": c.precision, "threads": c.threads, "batch": c.batch,
            "options": dict(c.options), "bytes": self.bytes,
            **{key: getattr(t, key, None) for key in ("median_ms", "ratio", "low", "high")},
            **{key: getattr(j, key, None) for key in _JUDGED},
            "kept": self.kept, "proven": self.proven, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True)
class LayerChoice:
    """A layer of the chosen file. `path`: its name. `fp32_ms` and `int8_ms`: its time with what follows up to the next layer, and
    with the conversions at its borders, in onnxruntime; `None`: not measured. `error`: what quantizing everything up to here did to
    its output, relative to the output's own size. `precision`: what it was left in; `reason`: why.
    """  # fmt: skip

    path: str
    type: str
    fp32_ms: float | None
    int8_ms: float | None
    error: float | None
    precision: Precision
    reason: str

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return asdict(self)


@dataclass(frozen=True, repr=False)
class TuneResult(Shown):
    """What a tuning found. `file`: what was written; `chosen` is what it holds and is to run on.

    `test`: what the interval of the proof is by.
    `verdict`: "faster", "float32", which says that nothing else was faster and kept the decisions, or "not proven", which says that
    something was and could not be proven to; the file then is the one that was given, perhaps with other settings. `speedup`: the
    ratio of `chosen` with its interval. `data`: what was measured on. `script`: the file that repeats the run.
    """

    _view: ClassVar[str] = "tune"

    target: str
    file: Path
    goal: Goal
    verdict: Literal["faster", "float32", "not proven"]
    baseline: Measured
    chosen: Measured
    candidates: tuple[Measured, ...]
    layers: tuple[LayerChoice, ...] = ()
    data: str = ""
    labelled: bool = False
    budget: str = ""
    test: str = ""
    notes: tuple[str, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    script: Path | None = None

    def __repr__(self) -> str:
        return f"<TuneResult {self.target} -> {self.file}: {self.verdict}, {self.chosen.candidate.name}>"

    @property
    def speedup(self) -> Timing | None:
        """How the chosen file was timed beside the given one; `None` where it was not timed."""
        return self.chosen.timing

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        timing = self.chosen.timing
        return {
            "target": self.target,
            "file": str(self.file),
            "goal": self.goal,
            "verdict": self.verdict,
            "baseline": self.baseline.document(),
            "chosen": self.chosen.document(),
            "speedup": None if timing is None else {"ratio": timing.ratio, "low": timing.low, "high": timing.high},
            "candidates": [entry.document() for entry in self.candidates],
            "layers": [entry.document() for entry in self.layers],
            "data": self.data,
            "labelled": self.labelled,
            "budget": self.budget,
            "test": self.test,
            "notes": list(self.notes),
            "conditions": dict(self.conditions),
            "seconds": round(self.seconds, 1),
            "script": None if self.script is None else str(self.script),
        }
