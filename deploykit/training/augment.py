"""What is done to training images so that a network learns the shape and not the place. Batches in, batches out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 1 / 8  # of the side, each way
TURN = math.radians(10)
SCALE = 0.1


def augment(images: Tensor, kind: str, fill: Tensor) -> Tensor:
    """Draw one random change per image from torch's global generator; `kind` is `Recipe.augment`.

    images: float (batch, channels, height, width). fill: (channels,), the value of the background, which comes in where an
    image moves away. Raises `ValueError` for an unknown kind.
    """
    if kind == "none":
        return images
    if kind not in ("shift", "affine", "crop-flip"):
        raise ValueError(f"unknown augmentation {kind!r}")
    batch = images.shape[0]
    turn, scale = torch.zeros(batch), torch.ones(batch)
    if kind == "affine":
        turn = _uniform(batch, TURN)
        scale = 1 + _uniform(batch, SCALE)
    mirror = torch.ones(batch)
    if kind == "crop-flip":
        mirror = torch.where(torch.rand(batch) < 0.5, -1.0, 1.0)
    shift = torch.stack([_uniform(batch, 2 * SHIFT), _uniform(batch, 2 * SHIFT)], dim=1)
    theta = _affine(turn, scale, mirror, shift).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    background = fill.to(images).view(1, -1, 1, 1)
    # grid_sample pads with zeros, so the background is moved to zero and back.
    return F.grid_sample(images - background, grid, align_corners=False) + background


def _affine(turn: Tensor, scale: Tensor, mirror: Tensor, shift: Tensor) -> Tensor:
    """(batch, 2, 3) matrices in the coordinates of `affine_grid`, where the image spans -1..1."""
    cos, sin = torch.cos(turn) * scale, torch.sin(turn) * scale
    rows = [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)]
    return torch.stack(rows, dim=1)


def _uniform(count: int, bound: float) -> Tensor:
    return (2 * torch.rand(count) - 1) * bound
