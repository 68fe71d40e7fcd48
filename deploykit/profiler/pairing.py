"""`pair` gives two spellings of one network the same weights; `agreement` is the largest difference of two networks' outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deploykit.errors import CheckpointError
from deploykit.profiler import subjects
from deploykit.profiler.subjects import Subject


@dataclass(frozen=True)
class Paired:
    """One of the two; `note` says what was done about its weights."""

    subject: Subject
    note: str = ""


def other_of(mine: Subject, other: Subject) -> Subject:
    """What `mine` is compared with, made as it is: its seed, arguments and inputs, but its own weights, under a name of its own."""
    target = f"the other {other.target}" if other.module is not None and other.target == mine.target else other.target
    return replace(mine, target=target, module=other.module, checkpoint=None, arguments=None if other.module else mine.arguments)


def pair(mine: Subject, other: Subject, folder: Path) -> tuple[Paired, Paired]:
    """The two subjects, with one set of weights where they are two spellings of one network.

    Two architectures whose tensors have the same names and shapes (`lenet5` and `lenet5-handwritten`) are compared with the
    same weights: those of the first that has a checkpoint. Networks that are named by their checkpoint keep their own, and a
    file has its own. The shared weights are written into `folder`.
    """
    if mine.target == other.target or not all(each.kind == "architecture" for each in (mine, other)):
        return Paired(mine), Paired(other)
    shapes = [_shapes(subject) for subject in (mine, other)]
    if shapes[0] != shapes[1]:
        return Paired(mine), Paired(other)
    for giver, taker in ((mine, other), (other, mine)):
        try:
            network = subjects.network(giver)
        except CheckpointError:
            if giver is mine and mine.checkpoint is not None:
                raise
            continue
        weights = folder / "weights.pt"
        torch.save(network.module.state_dict(), weights)
        note = f"{taker.target} was given the weights of {giver.target}, so that their outputs can be compared"
        return Paired(replace(mine, checkpoint=weights), note), Paired(replace(other, checkpoint=weights))
    raise CheckpointError(
        f"neither {mine.target} nor {other.target} has a checkpoint", f"run `deploykit train {mine.target}`, or add --untrained"
    )


def agreement(outputs: Sequence[Sequence[NDArray[Any]]]) -> float | None:
    """The largest difference of two networks' outputs over the largest output; `None` where their shapes differ."""
    first, second = outputs
    if [a.shape for a in first] != [b.shape for b in second]:
        return None
    scale = max((float(np.max(np.abs(a), initial=0)) for a in first), default=0.0)
    apart = max((float(np.max(np.abs(a - b), initial=0)) for a, b in zip(first, second, strict=True)), default=0.0)
    return apart / scale if scale else apart


def _shapes(subject: Subject) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors; built without memory."""
    with torch.device("meta"):
        network = subjects.network(replace(subject, untrained=True, checkpoint=None))
    return {name: tuple(tensor.shape) for name, tensor in network.module.state_dict().items()}
