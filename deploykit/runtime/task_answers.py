"""Raw outputs of a network -> one result per sample, task by task, as the contract says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from deploykit.errors import ModelFileError
from deploykit.runtime.contract import (
    DetectionOutput,
    EmbeddingOutput,
    MultiLabelOutput,
    Output,
    RegressionOutput,
    SegmentationOutput,
)
from deploykit.runtime.geometry import Placed
from deploykit.runtime.masks import label_of_indices, label_of_scores
from deploykit.runtime.prediction import NOT_FINITE, Candidate, Prediction, answers, frozen, probabilities
from deploykit.runtime.results import (
    Area,
    Detection,
    Detections,
    Embedding,
    MultiLabel,
    Quantity,
    Regression,
    Segmentation,
)
from deploykit.runtime.suppression import MAX_CANDIDATES, suppress

if TYPE_CHECKING:
    from numpy.typing import NDArray

Places = Sequence[Placed | None]


def task_answers(raw: Sequence[NDArray[Any]], output: Output, top: int, places: Places) -> list[Prediction]:
    """The outputs that `output.names` names, each with the batch first -> one result per sample.

    `places`: where the image of each sample lies in the input, `None` for what is no image. A sample whose numbers are not finite
    becomes an error. Raises `ModelFileError` where the arrays have other shapes than the contract says.
    """
    read = _READERS.get(type(output))
    if read is None:
        return answers(raw[0], output, top)
    return cast("list[Prediction]", read(raw, output, top, places))


def _multilabel(raw: Sequence[NDArray[Any]], output: MultiLabelOutput, top: int, places: Places) -> list[Prediction]:
    del places
    scores = probabilities(_require(raw[0], (None, None if output.labels is None else len(output.labels))), output.activation)
    threshold = np.asarray(output.threshold, np.float64)
    if threshold.ndim and len(threshold) != scores.shape[1]:
        raise _other_shape(scores, f"(batch, {len(threshold)})")
    found: list[Prediction] = []
    for row in scores:
        order = np.argsort(-row, kind="stable").tolist()
        candidates = [Candidate(_name(output, index), float(row[index]), index) for index in order]
        reached = (row >= threshold).tolist()
        chosen = tuple(candidate for candidate in candidates if reached[candidate.index])
        fine = np.isfinite(row).all()
        found.append(MultiLabel(top=tuple(candidates[:top]), labels=chosen, scores=frozen(row)) if fine else NOT_FINITE)
    return found


def _segmentation(raw: Sequence[NDArray[Any]], output: SegmentationOutput, top: int, places: Places) -> list[Prediction]:
    del top
    whole = raw[0]
    named = None if output.labels is None else len(output.labels)
    if output.class_axis is None:
        if whole.ndim == 4:
            whole = _require(whole, (None, 1, None, None))[:, 0]
        whole = _require(whole, (None, None, None))
        return [_mask(label_of_indices(each, place, named), output) for each, place in zip(whole, places, strict=True)]
    scores = np.moveaxis(_require(whole, (None, None, None, None)), output.class_axis, 1)
    single = scores.shape[1] == 1 and named in (None, 2)
    if not single and scores.shape[1] != (named or scores.shape[1]):
        raise _other_shape(whole, f"{named} labels along axis {output.class_axis}")
    if single and output.activation == "sigmoid":
        scores = probabilities(scores, "sigmoid")
    found = []
    for each, place in zip(scores, places, strict=True):
        fine = np.isfinite(each).all()
        found.append(_mask(label_of_scores(each, place, output.threshold if single else None), output) if fine else NOT_FINITE)
    return found


def _mask(mask: NDArray[Any], output: SegmentationOutput) -> Prediction:
    indices, counts = np.unique(mask, return_counts=True)
    unseen = np.iinfo(mask.dtype).max
    areas = [
        Area(_name(output, index), index, count / mask.size)
        for index, count in zip(indices.tolist(), counts.tolist(), strict=True)
        if index != unseen
    ]
    return Segmentation(mask=mask, areas=tuple(sorted(areas, key=lambda area: (-area.share, area.index))), names=output.labels)


def _detection(raw: Sequence[NDArray[Any]], output: DetectionOutput, top: int, places: Places) -> list[Prediction]:
    del top
    boxes = _require(raw[0], (len(places), None, 4))
    scores = probabilities(raw[1], output.activation)
    classes = raw[2] if len(raw) > 2 else None
    flat = (len(places), boxes.shape[1])
    if scores.ndim == 3 and classes is None:
        scores = _require(scores, (*flat, None))
    else:
        scores, classes = _require(scores, flat), np.zeros(flat) if classes is None else _require(classes, flat)
    found = []
    for row, place in enumerate(places):
        found.append(_detections(boxes[row], scores[row], None if classes is None else classes[row], output, place))
    return found


def _detections(
    boxes: NDArray[Any], scores: NDArray[np.float64], classes: NDArray[Any] | None, output: DetectionOutput, place: Placed | None
) -> Prediction:
    """`boxes` (boxes, 4), `scores` (boxes, labels), or (boxes,) with `classes` -> those that are good enough, in the image."""
    if np.isnan(scores).any():
        return NOT_FINITE
    if classes is None:
        if output.background is not None and output.background < scores.shape[1]:
            scores = scores.copy()
            scores[:, output.background] = -np.inf
        labels = scores.argmax(axis=1) if scores.shape[1] else np.zeros(len(scores), np.intp)
        scores = scores.max(axis=1, initial=-np.inf)
    else:
        labels = np.nan_to_num(classes, nan=-1, posinf=-1, neginf=-1).round().astype(np.int64)
    good = np.flatnonzero((scores >= output.threshold) & (labels != (-1 if output.background is None else output.background)))
    good = good[np.argsort(-scores[good], kind="stable")][:MAX_CANDIDATES]
    chosen = corners(boxes[good].astype(np.float64), output.convention)
    if not np.isfinite(chosen).all():
        return NOT_FINITE
    if output.units == "relative" and place is not None:
        chosen = chosen * np.array([*place.input, *place.input], np.float64)
    if output.iou_threshold is None:
        kept = np.arange(min(len(good), output.max_detections))
    else:
        groups = labels[good] if output.class_wise else None
        kept = suppress(chosen, scores[good], groups, output.iou_threshold, output.max_detections)
    places = _in_the_image(chosen[kept], place)
    detections = tuple(
        Detection(_name(output, label), score, label, (left, top, right, bottom))
        for label, score, (left, top, right, bottom) in zip(
            labels[good][kept].tolist(), scores[good][kept].tolist(), places.tolist(), strict=True
        )
    )
    return Detections(detections=detections, size=None if place is None else place.image)


def corners(boxes: NDArray[np.float64], convention: str) -> NDArray[np.float64]:
    """(boxes, 4) by a convention -> left, top, right, bottom."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if convention == "xyxy":
        return boxes
    start = first - second / 2 if convention == "cxcywh" else first
    return np.concatenate([start, start + second], axis=1)


def _in_the_image(boxes: NDArray[np.float64], place: Placed | None) -> NDArray[np.float64]:
    """From pixels of the input to those of the image, cut off at its edges."""
    if place is None:
        return boxes
    found = np.empty_like(boxes)
    for column in range(4):
        axis = column % 2
        found[:, column] = np.clip(place.to_image(boxes[:, column], axis), 0, place.image[axis])
    return found


def _embedding(raw: Sequence[NDArray[Any]], output: EmbeddingOutput, top: int, places: Places) -> list[Prediction]:
    del top, places
    found: list[Prediction] = []
    for row in _require(raw[0], (None, None)):
        vector = row
        if output.normalize:
            length = float(np.linalg.norm(row.astype(np.float64)))
            vector = (row / length).astype(row.dtype) if length > 0 else row
        found.append(Embedding(values=frozen(vector)) if np.isfinite(row).all() else NOT_FINITE)
    return found


def _regression(raw: Sequence[NDArray[Any]], output: RegressionOutput, top: int, places: Places) -> list[Prediction]:
    del top, places
    rows = raw[0][:, None] if raw[0].ndim == 1 else raw[0]
    named = output.labels if output.labels is not None else output.units
    rows = _require(rows, (None, None if named is None else len(named)))
    if output.activation == "sigmoid":
        rows = probabilities(rows, "sigmoid")
    units = output.units
    found: list[Prediction] = []
    for row in rows:
        quantities = tuple(
            Quantity(_name(output, index), value, None if units is None else units[index])
            for index, value in enumerate(row.tolist())
        )
        found.append(Regression(values=frozen(row), quantities=quantities) if np.isfinite(row).all() else NOT_FINITE)
    return found


_READERS: dict[type[Output], Callable[..., Any]] = {
    MultiLabelOutput: _multilabel,
    SegmentationOutput: _segmentation,
    DetectionOutput: _detection,
    EmbeddingOutput: _embedding,
    RegressionOutput: _regression,
}


def _name(output: Output, index: int) -> str:
    """The label of an index; "7" where the file names none."""
    labels = output.labels
    return labels[index] if labels is not None and 0 <= index < len(labels) else str(index)


def _require(array: NDArray[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
    """The array, which must have this shape, `None` where any size goes."""
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        raise _other_shape(array, "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")")
    return array


def _other_shape(array: NDArray[Any], wanted: str) -> ModelFileError:
    return ModelFileError(f"the network's output has shape {array.shape}, its contract says {wanted}", "export the file again")
