"""A verdict, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from deploykit.shown import Shown

Word = Literal["same", "same decisions", "different", "not proven", "invalid"]


@dataclass(frozen=True)
class Check:
    """One question that was asked of the file, and its answer in a line."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Parting:
    """How the answers of a file differ from the network's on one batch, in a line, and whether NaN is among the file's."""

    detail: str
    has_nan: bool = False


@dataclass(frozen=True)
class Errors:
    """Largest absolute differences on the batch and output that came closest to their tolerance, or went farthest beyond it.

    Each is relative to the scale (largest absolute value) of the float64 output of its sample.
    """

    torch32_vs_64: float
    onnx_vs_64: float
    onnx_vs_torch32: float
    tolerance: float
    cosine: float
    worst: str

    def document(self) -> dict[str, float | None]:
        """The three errors of the public JSON form; `None` for what is no finite number, which JSON does not have."""
        figures = {
            "torch32_vs_64": self.torch32_vs_64,
            "onnx_vs_64": self.onnx_vs_64,
            "onnx_vs_torch32": self.onnx_vs_torch32,
            "tolerance": self.tolerance,
            "cosine": self.cosine,
        }
        return {name: value if math.isfinite(value) else None for name, value in figures.items()}


@dataclass(frozen=True)
class Decisions:
    """What both sides decide on labelled samples. Accuracies and agreement in 0..1; margins are differences of logits.

    `task`: what was decided. Of a "classification" `agreement` is the share of samples, of a "multilabel" network that of labels,
    whose margins are differences of scores; of a "segmentation" that of pixels, and the accuracies are mean IoUs. A "regression"
    has errors instead, mean absolute ones in the unit of its values, and agrees on samples whose values are within a hundredth of
    the spread of the true ones.
    """

    samples: int
    agreement: float
    torch_accuracy: float | None
    onnx_accuracy: float | None
    flipped: tuple[tuple[int, float], ...] = ()
    task: Literal["classification", "multilabel", "segmentation", "regression"] = "classification"
    torch_error: float | None = None
    onnx_error: float | None = None


@dataclass(frozen=True, repr=False)
class Verdict(Shown):
    """Is the file still the same network? The evidence, and who is to blame if it is not.

    `witness`: of a file that is different, inputs on which both part, by name, and what each answered: ``network/NAME`` and
    ``file/NAME``; `None` where no inputs show it. `sizes`: per open axis, the smallest and the largest size at which the file was
    seen to be right.
    """

    _view: ClassVar[str] = "verdict"

    file: str
    against: str
    verdict: Word
    checks: tuple[Check, ...]
    errors: Errors | None = None
    decisions: Decisions | None = None
    layers_compared: int = 0
    blamed_step: str | None = None
    first_divergent_layer: str | None = None
    notes: tuple[str, ...] = field(default=())
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    witness: Mapping[str, NDArray[Any]] | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        failed = "".join(f"; {check.name}: {check.detail}" for check in self.checks if not check.passed)
        return f"<Verdict {self.file} against {self.against}: {self.verdict}{failed[:200]}>"

    @property
    def passed(self) -> bool:
        """Whether the file may stand for the network: it is the same, or was tuned and makes the same decisions."""
        return self.verdict in ("same", "same decisions")

    @property
    def same(self) -> bool:
        """Whether the verdict is "same"."""
        return self.verdict == "same"

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {
            "file": self.file,
            "against": self.against,
            "verdict": self.verdict,
            "checks": [asdict(check) for check in self.checks],
            "errors": self.errors.document() if self.errors else None,
            "top1_agreement": self.decisions.agreement if self.decisions and self.decisions.task == "classification" else None,
            "decisions": asdict(self.decisions) if self.decisions else None,
            "layers_compared": self.layers_compared,
            "blamed_step": self.blamed_step,
            "first_divergent_layer": self.first_divergent_layer,
            "notes": list(self.notes),
            "sizes": {name: list(ends) for name, ends in self.sizes.items()},
        }

    def summary(self) -> dict[str, Any]:
        """What goes into the file: the word and the figures, rounded so that equal runs give equal bytes."""
        errors = self.errors.document() if self.errors else {}
        found: dict[str, Any] = {
            "verdict": self.verdict,
            "errors": {k: None if v is None else float(f"{v:.2g}") for k, v in errors.items() if k != "cosine"},
            "layers_compared": self.layers_compared,
            "checks": {check.name: check.passed for check in self.checks},
        }
        if self.decisions:
            found["decisions"] = {k: v for k, v in asdict(self.decisions).items() if k != "flipped" and v is not None}
        return found
