"""`Score`: how well a network does on a split, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Confusion = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Score:
    """`value`: accuracy (0..1) or mean squared error. `loss`: the mean of the recipe's loss.

    `confusion`: of a classifier, how many samples of the class of the row were taken for the class of the column.
    """

    value: float
    loss: float
    confusion: Confusion = ()


def pairs(targets: Tensor, answers: Tensor, classes: int) -> Tensor:
    """How often each pair came: int64 (classes * classes,), at ``target * classes + answer``. Both are int64 of one shape."""
    return torch.bincount((targets * classes + answers).flatten(), minlength=classes * classes)


def confusion(counts: Sequence[float], classes: int) -> Confusion:
    """The sums of `pairs` as rows."""
    return tuple(tuple(round(count) for count in counts[row * classes : (row + 1) * classes]) for row in range(classes))
