"""What is done to training images so that a network learns the shape and not the place. Batches in, batches out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from deploykit.datasets import IGNORED

SHIFT = 1 / 8  # of the side, each way
TURN = math.radians(10)
SCALE = 0.1


def augment(images: Tensor, kind: str, fill: Tensor) -> Tensor:
    """Draw one random change per image from torch's global generator; `kind` is `Recipe.augment`.

    images: float (batch, channels, height, width). fill: (channels,), the value of the background, which comes in where an
    image moves away. Raises `ValueError` for an unknown kind.
    """
    grid = _drawn(images, kind)
    return images if grid is None else _moved(images, grid, fill)


def augment_pair(images: Tensor, masks: Tensor, kind: str, fill: Tensor) -> tuple[Tensor, Tensor]:
    """The same for images and their masks, int64 (batch, height, width) of the same size: both move alike.

    Where a mask moves away, pixels come in that do not count.
    """
    grid = _drawn(images, kind)
    if grid is None:
        return images, masks
    moved = F.grid_sample(masks[:, None].float() - IGNORED, grid, mode="nearest", align_corners=False) + IGNORED
    return _moved(images, grid, fill), moved[:, 0].round().long()


def _drawn(images: Tensor, kind: str) -> Tensor | None:
    """Where each pixel comes from, (batch, height, width, 2) as `grid_sample` takes it; `None` where nothing moves."""
    if kind == "none":
        return None
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
    return F.affine_grid(theta, list(images.shape), align_corners=False)


def _moved(images: Tensor, grid: Tensor, fill: Tensor) -> Tensor:
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
