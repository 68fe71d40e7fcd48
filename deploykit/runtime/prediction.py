"""Raw outputs of a network -> one frozen `Prediction` per input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from deploykit.errors import ModelFileError
from deploykit.runtime.reading import shown
from deploykit.shown import Shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploykit.runtime.contract import Output

SHOWN = 3  # predictions of a list that its short form names


@dataclass(frozen=True, slots=True)
class Candidate:
    """One possible label: `score` is a probability (softmax, sigmoid) or the raw output, `index` its place in the output."""

    label: str
    score: float
    index: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prediction(Shown):
    """The answer for one input.

    A classifier gives `label`, `score` and `index` of the best candidate, and the `top` candidates, best first; a file
    without class names calls its classes "0", "1", ... A network of which nothing is known gives `values`, its output for this
    input without the batch, and no label. `path` is the path or text that was asked about. Where `error` is set there is no
    answer.

    Networks of other tasks give their own kinds of `Prediction`: see `Classification`, and `MultiLabel`, `Segmentation`,
    `Detections`, `Embedding` and `Regression` in `results`; `isinstance` tells them apart, for type checkers too.
    """

    _view: ClassVar[str] = "predictions"
    _called: ClassVar[str] = "Prediction"

    label: str | None = None
    score: float | None = None
    index: int | None = None
    top: tuple[Candidate, ...] = ()
    values: NDArray[Any] | None = None
    path: str | None = None
    error: str | None = None

    def __repr__(self) -> str:
        """What there is of an answer, in a line; `top` and `values` in full are attributes."""
        said = {
            **self._said(),
            "path": None if self.path is None else repr(self.path),
            "error": None if self.error is None else repr(self.error),
        }
        return f"{self._called}({', '.join(f'{name}={text}' for name, text in said.items() if text is not None)})"

    def _said(self) -> dict[str, str | None]:
        return {
            "label": None if self.label is None else repr(self.label),
            "score": None if self.score is None else f"{self.score:.4g}",
            "top": f"{len(self.top)} candidates" if len(self.top) > 1 else None,
            "values": None if self.values is None else f"{self.values.dtype} {self.values.shape}",
        }

    def __str__(self) -> str:
        """The same line: apps print and log one after the other."""
        return repr(self)

    def _report(self) -> Any:
        return Predictions([self])._report()

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def at(self, path: str | None) -> Self:
        """The same answer, for `path`."""
        return self if path is None else replace(self, path=path)

    def as_dict(self) -> dict[str, Any]:
        """The public JSON form: path, label, score, top, error, and values (nested lists, or `None` for a classifier)."""
        return {
            "path": None if self.path is None else shown(self.path),
            "label": self.label,
            "score": self.score,
            "top": [{"label": candidate.label, "score": candidate.score} for candidate in self.top],
            "error": self.error,
            "values": None if self.values is None else self.values.tolist(),
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        if self._key() != other._key():
            return False
        return all(_equal(ours, theirs) for ours, theirs in zip(self._arrays(), other._arrays(), strict=True))

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (self._called, self.label, self.score, self.index, self.top, self.path, self.error)

    def _arrays(self) -> tuple[NDArray[Any] | None, ...]:
        """What is compared number by number."""
        return (self.values,)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Classification(Prediction):
    """The answer of a classifier: a `Prediction` whose `label`, `score` and `index` are there."""

    label: str = ""
    score: float = 0.0
    index: int = 0


class Predictions(Shown, list[Prediction]):
    """What `predict` gives: a list with one `Prediction` per input. `print` shows a table, a notebook too."""

    _view: ClassVar[str] = "predictions"

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self[:SHOWN]))
        return f"[{first}{f', ... {len(self) - SHOWN:,} more' if len(self) > SHOWN else ''}]"


NOT_FINITE = Prediction(error="the network's output is not finite")


def answers(raw: NDArray[Any], output: Output, top: int) -> list[Prediction]:
    """The first output (batch, ...) -> one `Prediction` per row; a row that is not finite becomes an error.

    With labels, or with an activation, `raw` must be (batch, classes). Raises `ModelFileError` where it is not.
    """
    good = np.isfinite(raw).reshape(len(raw), -1).all(axis=1)
    if output.labels is None and output.activation == "none":
        found = [Prediction(values=frozen(row)) for row in raw]
    else:
        found = _classes(raw, output, top)
    if good.all():
        return found
    return [answer if fine else NOT_FINITE for answer, fine in zip(found, good, strict=True)]


def probabilities(raw: NDArray[Any], activation: str) -> NDArray[np.float64]:
    """Raw outputs (batch, classes) -> float64 scores of the same shape; rows of a softmax add up to 1."""
    scores = raw.astype(np.float64)
    with np.errstate(all="ignore"):  # rows that are not finite are reported by the caller
        if activation == "softmax":
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            return scores / scores.sum(axis=-1, keepdims=True)
        if activation == "sigmoid":
            return np.exp(-np.logaddexp(0, -scores))
    return scores


def _classes(raw: NDArray[Any], output: Output, top: int) -> list[Prediction]:
    labels = output.labels
    if raw.ndim != 2 or raw.shape[1] == 0 or (labels is not None and raw.shape[1] != len(labels)):
        wanted = f"(batch, {len(labels)})" if labels is not None else "(batch, classes)"
        raise ModelFileError(f"the network's output has shape {raw.shape}, its contract says {wanted}", "export the file again")
    scores = probabilities(raw, output.activation)
    order = scores.argmax(axis=1)[:, None] if top == 1 else np.argsort(-scores, axis=1, kind="stable")[:, :top]
    best = np.take_along_axis(scores, order, axis=1)
    found: list[Prediction] = []
    for indices, row in zip(order.tolist(), best.tolist(), strict=True):
        candidates = tuple(
            Candidate(str(index) if labels is None else labels[index], score, index)
            for index, score in zip(indices, row, strict=True)
        )
        first = candidates[0]
        found.append(Classification(first.label, first.score, first.index, candidates))
    return found


def _equal(ours: NDArray[Any] | None, theirs: NDArray[Any] | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return np.array_equal(ours, theirs)


def frozen(row: NDArray[Any]) -> NDArray[Any]:
    """A copy that cannot be written."""
    row = np.array(row)  # a copy: one row must not keep its whole batch alive
    row.flags.writeable = False
    return row
