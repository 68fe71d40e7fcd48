"""What a training run made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingResult:
    """What a run made. `metrics`: of train, validation and test, accuracies in 0..1 or mean squared errors, as `metric` says."""

    name: str
    checkpoint: Path
    epochs: int
    seconds: float
    metric: str
    metrics: Mapping[str, float]
    history: list[dict[str, float]] = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {**asdict(self), "checkpoint": str(self.checkpoint)}
