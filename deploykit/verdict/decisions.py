"""Do both sides decide alike? Agreement on labelled samples, and how well either does on them, task by task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets import IGNORED, Split, as_image
from deploykit.errors import DatasetError, ModelFileError
from deploykit.onnx_file import sessions
from deploykit.runtime.contract import ArrayInput, ImageInput, MultiLabelOutput, Output
from deploykit.runtime.geometry import Placed, placed
from deploykit.runtime.prediction import probabilities
from deploykit.runtime.results import Segmentation
from deploykit.runtime.task_answers import task_answers
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Decisions

Kind = Literal["classification", "multilabel", "segmentation", "regression"]
Pair = tuple[Split, NDArray[Any], NDArray[Any]]  # samples, what the network says of them, what the file says

MAX_SAMPLES = 1000
MAX_PIXELS = 1 << 26  # of masks, all together
BATCH, MASKS = 50, 8  # samples at once
FLIPS_SHOWN = 10
NEAR = 0.01  # of the spread of the true values: a value that is no farther off is the same one
OTHER = 255  # the class of a pixel that has no number among those of masks


def kind_of(output: Output | None, split: Split, has_classes: bool) -> Kind | None:
    """What both can be asked about these samples; `None` where their labels are not what the network tells.

    `has_classes`: whether the targets of the split are numbers of classes.
    """
    if output is not None and output.name is not None:
        return None  # another output than the first
    task = "raw" if output is None else output.task
    if split.masks is not None:
        return "segmentation" if task == "segmentation" else None
    if has_classes:
        return "classification" if task in ("classification", "raw") else None
    if task == "multilabel" and split.targets.size and np.isin(split.targets, (0, 1)).all():
        return "multilabel"
    return "regression" if task == "regression" else None


def decide(
    deployed: Deployed,
    device: str,
    logits: Callable[[NDArray[Any]], NDArray[Any]],
    rules: ImageInput | ArrayInput,
    split: Split,
    kind: Kind = "classification",
    output: Output | None = None,
) -> Decisions:
    """The file, run on `device`, and the network behind `logits` on at most `MAX_SAMPLES` samples.

    `output`: how their numbers are read. A flip is reported with its index and the network's margin. Raises `DatasetError` for
    targets that are not as many as the network's numbers.
    """
    split = split.take(MAX_SAMPLES)
    pairs = _pairs(deployed, device, logits, rules, split, MASKS if kind == "segmentation" else BATCH)
    if kind == "segmentation" and output is not None:
        return _of_pixels(pairs, rules, output)
    ours, theirs = (np.concatenate(parts) for parts in zip(*((own, found) for _, own, found in pairs), strict=True))
    if kind == "classification":
        return _of_classes(ours, theirs, split.targets)
    ours, theirs, targets = (_rows(values) for values in (ours, theirs, split.targets))
    if targets.shape != ours.shape:
        problem = f"the dataset has {targets.shape[1]} targets for each sample, the network gives {ours.shape[1]} numbers"
        raise DatasetError(problem, "choose another --data")
    if theirs.shape != ours.shape:
        theirs = np.full_like(ours, np.nan)
    if output is not None and output.activation == "sigmoid":
        ours, theirs = probabilities(ours, "sigmoid"), probabilities(theirs, "sigmoid")
    if isinstance(output, MultiLabelOutput):
        return _of_labels(ours, theirs, targets == 1, np.asarray(output.threshold, np.float64))
    return _of_values(ours, theirs, targets)


def _pairs(
    deployed: Deployed,
    device: str,
    logits: Callable[[NDArray[Any]], NDArray[Any]],
    rules: ImageInput | ArrayInput,
    split: Split,
    batch: int,
) -> Iterator[Pair]:
    """What both say, some samples at a time."""
    session = deployed.answering(device)
    size = deployed.fixed_batch or batch
    name = session.get_inputs()[0].name
    for start in range(0, len(split), size):
        part = split.only(*range(start, min(start + size, len(split))))
        inputs = part.arrays(rules)
        # The last batch is filled up for a file that takes whole batches only.
        missing = size - len(inputs) if deployed.fixed_batch else 0
        padded = np.concatenate([inputs, np.repeat(inputs[-1:], missing, axis=0)]) if missing else inputs
        yield part, logits(inputs), sessions.run(session, {name: padded})[0][: len(inputs)]


def _rows(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.reshape(len(values), -1).astype(np.float64)


def _of_classes(ours: NDArray[Any], theirs: NDArray[Any], targets: NDArray[Any]) -> Decisions:
    expected, found = ours.argmax(axis=1), theirs.argmax(axis=1)
    best = np.sort(ours, axis=1)
    flips = np.flatnonzero(expected != found)[:FLIPS_SHOWN]
    return Decisions(
        samples=len(targets),
        agreement=float(np.mean(expected == found)),
        torch_accuracy=float(np.mean(expected == targets)),
        onnx_accuracy=float(np.mean(found == targets)),
        flipped=tuple((int(i), _margin(best[i])) for i in flips),
    )


def _margin(ascending: NDArray[Any]) -> float:
    """How far the best of at least two logits is above the next; the largest finite number where that one is -inf."""
    second, first = float(ascending[-2]), float(ascending[-1])
    return 0.0 if first == second else float(np.nan_to_num(first - second))


def _of_labels(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], truth: NDArray[np.bool_], threshold: NDArray[np.float64]
) -> Decisions:
    """Every label of every sample is a decision; the margin is that of the nearest score that flipped."""
    expected, found = ours >= threshold, theirs >= threshold
    apart = expected != found
    margins = np.where(apart, np.abs(ours - threshold), np.inf).min(axis=1)
    flips = np.flatnonzero(apart.any(axis=1))[:FLIPS_SHOWN]
    return Decisions(
        samples=len(truth),
        agreement=float(np.mean(~apart)),
        torch_accuracy=float(np.mean(expected == truth)),
        onnx_accuracy=float(np.mean(found == truth)),
        flipped=tuple((int(i), float(np.nan_to_num(margins[i]))) for i in flips),
        task="multilabel",
    )


def _of_values(ours: NDArray[np.float64], theirs: NDArray[np.float64], truth: NDArray[np.float64]) -> Decisions:
    """Values that differ by at most `NEAR` of the spread of the true ones are alike."""
    spread = truth.std(axis=0)
    spread = np.where(spread > 0, spread, np.maximum(np.abs(truth).max(axis=0), np.finfo(np.float64).tiny))
    with np.errstate(invalid="ignore"):
        alike = (np.abs(ours - theirs) <= NEAR * spread).all(axis=1)
        errors = [float(np.abs(values - truth).mean()) for values in (ours, theirs)]
    network, file = (error if np.isfinite(error) else None for error in errors)
    return Decisions(len(truth), float(np.mean(alike)), None, None, task="regression", torch_error=network, onnx_error=file)


def _of_pixels(pairs: Iterator[Pair], rules: ImageInput | ArrayInput, output: Output) -> Decisions:
    """Masks at the size of the images, as an application gets them. Pixels that a crop cut off count nowhere."""
    samples = alike = seen = 0
    counts = np.zeros((2, 256, 256), np.int64)
    for part, ours, theirs in pairs:
        places = [placed(as_image(sample).size, rules) if isinstance(rules, ImageInput) else None for sample in part.samples]
        answers = (_masks(values, output, places) for values in (ours, theirs))
        for expected, found, truth in zip(*answers, part.masks or (), strict=True):
            if expected is None or found is None or expected.shape != found.shape:
                seen += truth.size
                continue
            shown = expected != OTHER
            alike, seen = alike + int(((expected == found) & shown).sum()), seen + int(shown.sum())
            if expected.shape == truth.shape:
                counts += np.stack([_confusion(truth, mask) for mask in (expected, found)])
        samples += len(part)
        if seen >= MAX_PIXELS:
            break
    network, file = map(_mean_iou, counts)
    return Decisions(samples, alike / max(seen, 1), network, file, task="segmentation")


def _masks(values: NDArray[Any], output: Output, places: list[Placed | None]) -> list[NDArray[np.uint8] | None]:
    """The classes of the pixels of each image, `OTHER` where none is told; `None` where the scores are not finite."""
    try:
        found = task_answers([values], output, 1, places)
    except ModelFileError:  # of another shape than the network's; the outputs were compared before
        return [None] * len(places)
    return [_small(answer) if isinstance(answer, Segmentation) else None for answer in found]


def _small(answer: Segmentation) -> NDArray[np.uint8]:
    return np.where(answer.mask == answer.unseen, OTHER, np.minimum(answer.mask, OTHER)).astype(np.uint8)


def _confusion(truth: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256, 256): how often the class of the row was taken for that of the column."""
    counted = (truth != IGNORED) & (mask != OTHER)
    pairs = truth[counted].astype(np.int64) * 256 + mask[counted]
    return np.bincount(pairs, minlength=256 * 256).reshape(256, 256)


def _mean_iou(counts: NDArray[np.int64]) -> float | None:
    """The mean over the classes that occur; `None` where none does."""
    both = np.diag(counts)
    unions = counts.sum(axis=0) + counts.sum(axis=1) - both
    return float(np.mean(both[unions > 0] / unions[unions > 0])) if unions.any() else None
