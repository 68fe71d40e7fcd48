"""What a run over a cluster has come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ClusterPrediction:
    """`out`: the folder with the answers, a file per part. `rows` and `errors` are those of the whole folder.

    `resumed`: how many of the rows an earlier run had answered. `seconds` and `rows_per_second` are this run's, without the start
    of Ray; `actors`: how many predictors worked at the same time. `lost`: how many of them were lost; what they were at
    was asked again.
    """

    file: str
    out: str
    rows: int
    errors: int
    parts: int
    resumed: int = 0
    seconds: float = 0.0
    actors: int = 0
    lost: int = 0

    @property
    def rows_per_second(self) -> float | None:
        """Of this run; `None` where it had nothing to do."""
        return (self.rows - self.resumed) / self.seconds if self.seconds > 0 and self.rows > self.resumed else None

    def document(self) -> dict[str, Any]:
        """The public JSON form."""
        return {
            "file": self.file, "out": self.out, "rows": self.rows, "errors": self.errors, "parts": self.parts,
            "resumed": self.resumed, "seconds": self.seconds, "rows_per_second": self.rows_per_second,
            "actors": self.actors, "lost": self.lost,
        }  # fmt: skip
