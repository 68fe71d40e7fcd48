"""What is learned: the loss of a batch, and how well a network does on a split, for classes, classes per pixel and values.

Nothing here knows of epochs or processes: `Sums` of any parts of a split add up to the sums of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deploykit.datasets import IGNORED, Task
from deploykit.training import score
from deploykit.training.score import Score

METRICS: dict[Task, str] = {"classification": "accuracy", "segmentation": "mean_iou", "regression": "mae"}
HIGHER_IS_BETTER = ("accuracy", "mean_iou")
SHARES = HIGHER_IS_BETTER  # metrics from 0 to 1, which are shown in percent


@dataclass(frozen=True)
class Goal:
    """What a run learns and is measured by.

    `weights`: of each class in the loss. `spread`: of each output of a regression, the unit in which its error counts in the loss;
    without it the metric of a regression is the mean squared error itself.
    """

    task: Task
    weights: tuple[float, ...] | None = None
    spread: tuple[float, ...] | None = None

    @property
    def metric(self) -> str:
        """The name of what is measured on a split: "accuracy" or "mean_iou" (0..1), "mae" (in the target's unit) or "mse"."""
        return "mse" if self.task == "regression" and self.spread is None else METRICS[self.task]

    @property
    def higher_is_better(self) -> bool:
        """Of the metric."""
        return self.metric in HIGHER_IS_BETTER

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over a batch, with a gradient."""
        weights = None if self.weights is None else outputs.new_tensor(self.weights, dtype=torch.float32)
        if self.task == "classification":
            return F.cross_entropy(outputs.float(), targets, weight=weights)
        if self.task == "segmentation":
            return _per_pixel(outputs, targets, weights)
        errors = outputs.float() - targets.reshape(outputs.shape)
        if self.spread is None:
            return F.mse_loss(outputs.float(), targets.reshape(outputs.shape))
        return (errors.reshape(len(errors), -1) / errors.new_tensor(self.spread)).square().mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What a batch adds to `score`: float32 (numbers,); NaN where an output is NaN, which `argmax` would take for a class."""
        if self.task == "classification":
            right = torch.where(outputs.isnan().any(), torch.nan, (outputs.argmax(dim=1) == targets).sum().float())
            return torch.stack([right, F.cross_entropy(outputs, targets, reduction="sum")])
        if self.task == "segmentation":
            fitted = resized(outputs, targets)
            counts = (targets != IGNORED).sum().float()
            lost = F.cross_entropy(fitted, targets, ignore_index=IGNORED, reduction="sum")
            return torch.stack([lost + 0 * fitted.sum(), counts])
        errors = (outputs - targets.reshape(outputs.shape)).reshape(len(outputs), -1)
        if self.spread is None:
            squared = (errors**2).mean(dim=1).sum()
            return torch.stack([squared, squared])
        return torch.stack([errors.abs().mean(dim=1).sum(), (errors / errors.new_tensor(self.spread)).square().mean(dim=1).sum()])

    def pairs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How often each class was taken for each: int64 (classes * classes,); see `score.pairs`."""
        if self.task == "classification":
            return score.pairs(targets, outputs.argmax(dim=1), outputs.shape[1])
        answers, counted = resized(outputs, targets).argmax(dim=1), targets != IGNORED
        return score.pairs(targets[counted], answers[counted], outputs.shape[1])


def score_of(goal: Goal, totals: tuple[float, float], samples: int, found: score.Confusion) -> Score:
    """The `Score` of a split, from the sums over all of it: two of `Goal.sums`, and what `Goal.pairs` counted."""
    count = max(samples, 1)
    if goal.task != "segmentation":
        return Score(totals[0] / count, totals[1] / count, found)
    lost, pixels = totals
    return Score(mean_iou(found) if math.isfinite(lost) else math.nan, lost / max(pixels, 1), found)


def mean_iou(confusion: score.Confusion) -> float:
    """The mean of `ious` over the classes that occur; 0 where none does."""
    found = [value for value in ious(confusion) if value is not None]
    return sum(found) / len(found) if found else 0.0


def ious(confusion: score.Confusion) -> list[float | None]:
    """Of each class the pixels that are it and were taken for it, by those that are or were (0..1); `None` where there are none."""
    columns = [sum(row[index] for row in confusion) for index in range(len(confusion))]
    unions = [sum(row) + columns[index] - row[index] for index, row in enumerate(confusion)]
    return [row[index] / unions[index] if unions[index] else None for index, row in enumerate(confusion)]


def resized(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs (batch, classes, h, w) at the size of the masks, which networks need not give themselves."""
    size = targets.shape[-2:]
    if outputs.shape[-2:] == size:
        return outputs
    return F.interpolate(outputs, size=size, mode="bilinear", align_corners=False)


def _per_pixel(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over the pixels that count; 0 where none does."""
    summed = F.cross_entropy(resized(outputs.float(), targets), targets, weights, ignore_index=IGNORED, reduction="sum")
    counted = (targets != IGNORED).sum()
    return summed / counted.clamp(min=1)
