"""How a network is trained: plain data, which needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How a network is trained unless the user says otherwise. It must really learn.

    `augment` names what is done to training samples: "none", "shift" (by up to an eighth of the side), "affine" (shift, turn
    by up to 10 degrees, scale by up to 10 %), "crop-flip" (shift by up to an eighth, mirror half of them).
    `schedule` is per optimizer step: "constant", "cosine" (to 0), "one-cycle" (up for 30 % of the steps, then down to 0).
    """

    dataset: str = "digits"
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    epochs: int = 10
    batch_size: int = 64
    augment: Literal["none", "shift", "affine", "crop-flip"] = "none"
    clip_norm: float | None = None
