"""Refuse contracts whose output is not the graph's, task by task, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from deploykit.errors import ContractError
from deploykit.runtime.contract import (
    DetectionOutput,
    EmbeddingOutput,
    MultiLabelOutput,
    Output,
    RegressionOutput,
    SegmentationOutput,
)
from deploykit.runtime.session import TensorSpec


def at_odds(contract: str, graph: str) -> NoReturn:
    """Raise `ContractError`: the contract says one thing, the graph has another."""
    raise ContractError(
        f"the contract and the graph are at odds: the contract says {contract}, the graph has {graph}", "export the file again"
    )


def check_output(output: Output, outputs: Sequence[TensorSpec]) -> None:
    """Raise `ContractError` where the outputs that an answer is read from have other types, ranks or sizes than the task needs."""
    found = []
    for name in output.names:
        spec = outputs[0] if name is None else next((spec for spec in outputs if spec.name == name), None)
        if spec is None:
            at_odds(f"an output {name!r:.80}", ", ".join(spec.name for spec in outputs)[:200])
        found.append(spec)
    if output.task != "raw":
        _CHECKS[type(output)](output, *found)


def _check_scores(output: Output, spec: TensorSpec) -> None:
    """One row of scores per sample."""
    _require_float(spec, "scores as output")
    if spec.shape is None:
        return
    if len(spec.shape) != 2:
        at_odds("one row of scores per sample", f"{spec}")
    _require_labels(output, spec, spec.shape[1])


def _check_multilabel(output: MultiLabelOutput, spec: TensorSpec) -> None:
    _check_scores(output, spec)
    count = spec.shape[1] if spec.shape is not None else None
    if isinstance(output.threshold, tuple) and count not in (None, len(output.threshold)):
        at_odds(f"{len(output.threshold)} thresholds", f"{spec}")


def _check_segmentation(output: SegmentationOutput, spec: TensorSpec) -> None:
    axis = output.class_axis
    if axis is None:
        if spec.dtype is None or spec.dtype.kind not in "iub":
            at_odds("indices of labels as output", f"{spec}")
        if spec.shape is not None and not (len(spec.shape) == 3 or (len(spec.shape) == 4 and spec.shape[1] in (None, 1))):
            at_odds("one index per pixel, (batch, height, width)", f"{spec}")
        return
    _require_float(spec, "scores of pixels as output")
    if spec.shape is None:
        return
    if len(spec.shape) != 4:
        at_odds("a score per pixel and label, in four axes", f"{spec}")
    count = spec.shape[axis]
    if not (count == 1 and output.labels is not None and len(output.labels) == 2):
        _require_labels(output, spec, count)


def _check_detection(output: DetectionOutput, boxes: TensorSpec, scores: TensorSpec, classes: TensorSpec | None = None) -> None:
    _require_float(boxes, "boxes as output")
    _require_float(scores, "scores as output")
    if boxes.shape is not None and (len(boxes.shape) not in (2, 3) or boxes.shape[-1] not in (None, 4)):
        at_odds("boxes of four numbers, (batch, boxes, 4)", f"{boxes}")
    _check_classes(output, boxes, scores, classes)
    counts = [part.shape[len(boxes.shape or ()) - 2] for part in (boxes, scores, classes) if part is not None and part.shape]
    if len({count for count in counts if count is not None}) > 1:
        at_odds("a score for each box", f"{boxes} and {scores}" + ("" if classes is None else f" and {classes}"))


def _check_classes(output: DetectionOutput, boxes: TensorSpec, scores: TensorSpec, classes: TensorSpec | None) -> None:
    """Where the label of a box stands: among the scores, in an output of its own, or nowhere if there is one alone."""
    if boxes.shape is None or scores.shape is None:
        return
    rank, flat = len(boxes.shape), len(boxes.shape) - 1
    if classes is not None:
        if classes.dtype is None or classes.dtype.kind not in "iuf":
            at_odds("indices of labels as classes", f"{classes}")
        if len(scores.shape) != flat or (classes.shape is not None and len(classes.shape) != flat):
            at_odds("one score and one class per box", f"{scores} and {classes}")
    elif len(scores.shape) == rank:
        _require_labels(output, scores, scores.shape[-1])
        if output.background is not None and (scores.shape[-1] or output.background + 1) <= output.background:
            at_odds(f"the background label {output.background}", f"{scores}")
    elif len(scores.shape) != flat or (output.labels is not None and len(output.labels) != 1):
        at_odds("scores of each box, (batch, boxes, labels) or one per box and its class", f"{scores}")


def _check_embedding(output: EmbeddingOutput, spec: TensorSpec) -> None:
    del output
    _require_float(spec, "a vector as output")
    if spec.shape is not None and len(spec.shape) != 2:
        at_odds("one vector per sample", f"{spec}")


def _check_regression(output: RegressionOutput, spec: TensorSpec) -> None:
    _require_float(spec, "numbers as output")
    if spec.shape is None:
        return
    if len(spec.shape) not in (1, 2):
        at_odds("one row of numbers per sample", f"{spec}")
    count = spec.shape[1] if len(spec.shape) == 2 else 1
    _require_labels(output, spec, count)
    if output.units is not None and count not in (None, len(output.units)):
        at_odds(f"{len(output.units)} units", f"{spec}")


_CHECKS: dict[type[Output], Callable[..., Any]] = {
    Output: _check_scores,
    MultiLabelOutput: _check_multilabel,
    SegmentationOutput: _check_segmentation,
    DetectionOutput: _check_detection,
    EmbeddingOutput: _check_embedding,
    RegressionOutput: _check_regression,
}


def _require_float(spec: TensorSpec, what: str) -> None:
    if spec.dtype is None or spec.dtype.kind != "f":
        at_odds(what, f"{spec}")


def _require_labels(output: Output, spec: TensorSpec, count: int | None) -> None:
    if output.labels is not None and count not in (None, len(output.labels)):
        at_odds(f"{len(output.labels)} labels", f"{spec}")
