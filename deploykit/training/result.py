"""What a training run made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from deploykit.shown import Shown


@dataclass(frozen=True, repr=False)
class TrainingResult(Shown):
    """What a run made. `metrics`: of train, validation and test, accuracies in 0..1 or mean squared errors, as `metric` says.

    `previous`: the folder in which the files of an earlier run in the same folder were kept, if there was one.
    `notes`: remarks for the user, such as that images in colour were found.
    """

    _view: ClassVar[str] = "training"

    name: str
    checkpoint: Path
    epochs: int
    seconds: float
    metric: str
    metrics: Mapping[str, float]
    history: list[dict[str, float]] = field(repr=False)
    previous: Path | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<TrainingResult {self.name} -> {self.checkpoint}: test {self.metric} {self.metrics.get('test', math.nan):.4g}>"

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        paths = {"checkpoint": str(self.checkpoint), "previous": str(self.previous) if self.previous else None}
        return {**asdict(self), **paths, "notes": list(self.notes)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TrainingResult:
        """The result back from its JSON form. Raises `TypeError` or `KeyError` for another document."""
        previous = document.get("previous")
        paths = {"checkpoint": Path(document["checkpoint"]), "previous": Path(previous) if previous else None}
        return cls(**{**document, **paths, "notes": tuple(document.get("notes", ()))})
