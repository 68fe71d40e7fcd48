"""What a network gives back, by its task: one class for each, with all that is needed to read an answer out of arrays."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from deploykit.errors import ContractError
from deploykit.runtime.contract.requirements import is_int, is_real, is_text, require, short
from deploykit.runtime.contract.words import Activation, Convention, Task, Units

MAX_LABELS = 100_000
MAX_DETECTIONS = 10_000  # of one image
LARGEST = 1e9  # a threshold


@dataclass(frozen=True)
class Output:
    """Classification: one number per label and sample, (batch, labels), turned into probabilities by `activation`.

    Without an activation and without `labels`: raw, an array that the application understands by itself. `name`: which output of
    the graph is meant, `None` for the first one.
    """

    activation: Activation = "none"
    labels: tuple[str, ...] | None = None
    _: KW_ONLY
    name: str | None = None

    # Where a class is that of one task alone.
    TASK: ClassVar[Task | None] = None

    def __post_init__(self) -> None:
        require(self.activation in ("softmax", "sigmoid", "none"), "activation", self.activation)
        if self.labels is not None:
            require(isinstance(self.labels, tuple), "labels", self.labels)
            require(1 <= len(self.labels) <= MAX_LABELS, f"number of labels (1 to {MAX_LABELS})", len(self.labels))
            require(all(is_text(x) for x in self.labels), "labels", "other than short texts")
        require(self.name is None or (is_text(self.name) and bool(self.name)), "name of an output", self.name)

    @property
    def task(self) -> Task:
        """The task; what says nothing of its numbers is "raw"."""
        if self.TASK is not None:
            return self.TASK
        return "raw" if self.labels is None and self.activation == "none" else "classification"

    @property
    def names(self) -> tuple[str | None, ...]:
        """The outputs of the graph that an answer is read from; `None` is the first one."""
        return (self.name,)


@dataclass(frozen=True)
class MultiLabelOutput(Output):
    """Any number of labels at once: one number per label and sample, (batch, labels), each turned into a probability by itself.

    A label is given where its score is at least `threshold`: one for all, or one for each label.
    """

    activation: Activation = "sigmoid"
    _: KW_ONLY
    threshold: float | tuple[float, ...] = 0.5

    TASK = "multilabel"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.activation != "softmax", "activation (of a multilabel output)", self.activation)
        several = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)
        require(all(map(_is_threshold, several)), "threshold", self.threshold)
        require(bool(several), "number of thresholds", 0)
        if isinstance(self.threshold, tuple) and self.labels is not None:
            require(len(several) == len(self.labels), f"number of thresholds ({len(self.labels)} labels)", len(several))


@dataclass(frozen=True)
class SegmentationOutput(Output):
    """A label for every pixel.

    `class_axis`: the axis of the output, batch included, along which the labels lie: 1 for (batch, labels, height, width), 3 for
    (batch, height, width, labels); the label of a pixel is the best one. `None` for (batch, height, width), with an axis of 1 at
    the second place or without: the output is the index of the label. An output with a single number per pixel means two labels,
    the second one where its score is at least `threshold`. Height and width may be smaller than those of the input.
    """

    _: KW_ONLY
    class_axis: int | None = 1
    threshold: float = 0.5

    TASK = "segmentation"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.class_axis is None or (is_int(self.class_axis) and self.class_axis in (1, 3)), "class_axis", self.class_axis)
        require(self.class_axis is not None or self.activation == "none", "activation (of indices)", self.activation)
        require(_is_threshold(self.threshold), "threshold", self.threshold)


@dataclass(frozen=True)
class DetectionOutput(Output):
    """Boxes with a score and a label each.

    `boxes`: the output of four numbers per box, (batch, boxes, 4), or (boxes, 4) of one image: by `convention` two corners (left,
    top, right, bottom), a corner and a size, or the centre and a size; in `units` of the input's pixels, or relative to its width
    and height, 0..1. `scores`: the output of scores, (batch, boxes, labels), or (batch, boxes) where the output `classes` has the
    index of each box's label, or where there is one label alone; turned into probabilities by `activation`. `background`: the
    index of the label that stands for nothing, which is never given.

    A box is given where its score is at least `threshold`. With `iou_threshold` the application then drops every box that
    overlaps a better one (of the same label, if `class_wise`) by more than this share of their union; without it the network did
    so itself. At most `max_detections` are given, best first.
    """

    _: KW_ONLY
    boxes: str
    scores: str
    classes: str | None = None
    convention: Convention = "xyxy"
    units: Units = "pixels"
    background: int | None = None
    threshold: float = 0.5
    iou_threshold: float | None = None
    max_detections: int = 100
    class_wise: bool = True

    TASK = "detection"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.name is None, "name (a detection names its boxes and scores)", self.name)
        for key in ("boxes", "scores", "classes"):
            value = getattr(self, key)
            require(
                (value is None and key == "classes") or (is_text(value) and bool(value)), f"{key} (the name of an output)", value
            )
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            problem = f"boxes, scores and classes cannot be one output, {short(twice)}"
            raise ContractError(problem, 'let forward() return its parts: {"boxes": x[..., :4], "scores": x[..., 4:]}')
        require(self.convention in ("xyxy", "xywh", "cxcywh"), "convention", self.convention)
        require(self.units in ("pixels", "relative"), "units", self.units)
        most = len(self.labels) if self.labels is not None else MAX_LABELS
        require(self.background is None or (is_int(self.background) and 0 <= self.background < most), "background", self.background)
        require(_is_threshold(self.threshold), "threshold", self.threshold)
        iou = self.iou_threshold
        require(iou is None or (is_real(iou) and 0 <= iou <= 1), "iou_threshold (0 to 1)", iou)
        most = self.max_detections
        require(is_int(most) and 1 <= most <= MAX_DETECTIONS, f"max_detections (1 to {MAX_DETECTIONS})", most)
        require(isinstance(self.class_wise, bool), "class_wise", self.class_wise)

    @property
    def names(self) -> tuple[str | None, ...]:
        """Boxes, scores, and classes where there are such."""
        return (self.boxes, self.scores) if self.classes is None else (self.boxes, self.scores, self.classes)


@dataclass(frozen=True)
class EmbeddingOutput(Output):
    """A vector per sample, (batch, numbers), whose distances mean something.

    With `normalize` the application divides it by its length.
    """

    _: KW_ONLY
    normalize: bool = False

    TASK = "embedding"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.activation == "none", "activation (of an embedding)", self.activation)
        require(self.labels is None, "labels (of an embedding)", self.labels)
        require(isinstance(self.normalize, bool), "normalize", self.normalize)


@dataclass(frozen=True)
class RegressionOutput(Output):
    """Numbers that measure something, (batch, numbers) or (batch,): `labels` are their names, `units` theirs, in the same order."""

    _: KW_ONLY
    units: tuple[str, ...] | None = None

    TASK = "regression"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.activation != "softmax", "activation (of a regression)", self.activation)
        if self.units is not None:
            require(isinstance(self.units, tuple) and 1 <= len(self.units) <= MAX_LABELS, "units", self.units)
            require(all(is_text(x) for x in self.units), "units", "other than short texts")
            if self.labels is not None:
                require(len(self.units) == len(self.labels), f"number of units ({len(self.labels)} names)", len(self.units))


TASKS: dict[Task, type[Output]] = {
    "classification": Output,
    "multilabel": MultiLabelOutput,
    "segmentation": SegmentationOutput,
    "detection": DetectionOutput,
    "embedding": EmbeddingOutput,
    "regression": RegressionOutput,
    "raw": Output,
}


def _is_threshold(value: object) -> bool:
    return is_real(value) and abs(float(value)) <= LARGEST  # type: ignore[arg-type]
