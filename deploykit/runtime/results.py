"""What a network of each task answers: frozen, typed, each a `Prediction`, so that one list may hold any of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deploykit.runtime.prediction import Candidate, Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_MASK: NDArray[Any] = np.zeros((0, 0), np.uint8)
_NO_NUMBERS: NDArray[Any] = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MultiLabel(Prediction):
    """Any number of labels: `labels` are those whose score reaches the threshold, best first; `scores` are those of all labels.

    `top` holds the best candidates whether they reach it or not.
    """

    _called: ClassVar[str] = "MultiLabel"

    labels: tuple[Candidate, ...] = ()
    scores: NDArray[np.float64] = field(default_factory=lambda: _NO_NUMBERS)

    def as_dict(self) -> dict[str, Any]:
        """The public JSON form: that of a `Prediction`, with `task`, and `labels` with their scores."""
        labels = [{"label": each.label, "score": each.score} for each in self.labels]
        return {**Prediction.as_dict(self), "task": "multilabel", "labels": labels}

    def _said(self) -> dict[str, str | None]:
        return {"labels": repr([each.label for each in self.labels])}

    def _key(self) -> tuple[object, ...]:
        return (*Prediction._key(self), self.labels)

    def _arrays(self) -> tuple[NDArray[Any] | None, ...]:
        return (self.scores,)


@dataclass(frozen=True, slots=True)
class Area:
    """One label of a mask: `index` is what stands in the mask, `share` how much of the image it covers, 0..1."""

    label: str
    index: int
    share: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Segmentation(Prediction):
    """A label for every pixel: `mask` is (height, width) of the image itself, upright, and holds the index of each pixel's label.

    Its dtype is uint8, or uint16 or int32 where there are more labels than that can count; the dtype's largest number stands for
    pixels that the network did not see (a center-crop cuts them off). `areas`: the labels that occur, largest first. `names`: all
    labels in the order of their indices, `None` where the file names none; then they are called "0", "1", ...
    """

    _called: ClassVar[str] = "Segmentation"

    mask: NDArray[Any] = field(default_factory=lambda: _NO_MASK)
    areas: tuple[Area, ...] = ()
    names: tuple[str, ...] | None = None

    @property
    def unseen(self) -> int:
        """The number in `mask` for pixels that the network did not see."""
        return int(np.iinfo(self.mask.dtype).max)

    def runs(self) -> list[list[int]]:
        """The mask from left to right and from top to bottom as [index, how many pixels follow each other with it]."""
        flat = self.mask.reshape(-1)
        if not flat.size:
            return []
        starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
        return np.stack([flat[starts].astype(np.int64), np.diff(starts, append=flat.size)], axis=1).tolist()

    def as_dict(self) -> dict[str, Any]:
        """The public JSON form: that of a `Prediction`, with `task`, `areas`, and the `mask` as its size and `runs`."""
        areas = [{"label": each.label, "index": each.index, "share": each.share} for each in self.areas]
        mask = {"height": self.mask.shape[0], "width": self.mask.shape[1], "unseen": self.unseen, "runs": self.runs()}
        return {**Prediction.as_dict(self), "task": "segmentation", "areas": areas, "mask": mask}

    def _said(self) -> dict[str, str | None]:
        height, width = self.mask.shape
        return {"mask": f"{self.mask.dtype} {width}x{height}", "areas": repr([each.label for each in self.areas[:4]])}

    def _key(self) -> tuple[object, ...]:
        return (*Prediction._key(self), self.areas, self.names)

    def _arrays(self) -> tuple[NDArray[Any] | None, ...]:
        return (self.mask,)


@dataclass(frozen=True, slots=True)
class Detection:
    """One box: (left, top, right, bottom) in pixels of the image itself, upright, from its left upper corner."""

    label: str
    score: float
    index: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Detections(Prediction):
    """Boxes with a label and a score each, best first.

    `size`: (width, height) of the image, `None` where the input was no image.
    """

    _called: ClassVar[str] = "Detections"

    detections: tuple[Detection, ...] = ()
    size: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The public JSON form: that of a `Prediction`, with `task`, `detections` and the image's `width` and `height`."""
        found = [{"label": d.label, "score": d.score, "index": d.index, "box": list(d.box)} for d in self.detections]
        width, height = self.size or (None, None)
        return {**Prediction.as_dict(self), "task": "detection", "detections": found, "width": width, "height": height}

    def _said(self) -> dict[str, str | None]:
        return {"detections": repr([f"{each.label} {each.score:.3g}" for each in self.detections[:4]])}

    def _key(self) -> tuple[object, ...]:
        return (*Prediction._key(self), self.detections, self.size)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Embedding(Prediction):
    """A vector: `values`, (numbers,), of length 1 where the file asks for that."""

    _called: ClassVar[str] = "Embedding"

    values: NDArray[Any] = field(default_factory=lambda: _NO_NUMBERS)

    @property
    def vector(self) -> NDArray[Any]:
        """The same as `values`."""
        return self.values

    def as_dict(self) -> dict[str, Any]:
        """The public JSON form: that of a `Prediction`, with `task`; the vector is `values`."""
        return {**Prediction.as_dict(self), "task": "embedding"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of a regression, its name ("0", "1", ... where the file names none) and its unit."""

    name: str
    value: float
    unit: str | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Regression(Prediction):
    """Numbers that measure something: `values`, (numbers,), and the same as `quantities` with names and units."""

    _called: ClassVar[str] = "Regression"

    values: NDArray[Any] = field(default_factory=lambda: _NO_NUMBERS)
    quantities: tuple[Quantity, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The public JSON form: that of a `Prediction`, with `task`, and `quantities` with names, values and units."""
        found = [{"name": each.name, "value": each.value, "unit": each.unit} for each in self.quantities]
        return {**Prediction.as_dict(self), "task": "regression", "quantities": found}

    def _said(self) -> dict[str, str | None]:
        shown = [f"{each.name} {each.value:.4g}{f' {each.unit}' if each.unit else ''}" for each in self.quantities[:4]]
        return {"quantities": repr(shown)}

    def _key(self) -> tuple[object, ...]:
        return (*Prediction._key(self), self.quantities)
