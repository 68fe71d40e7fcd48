"""A fixed edge detector: 8 in the middle, -1 around, the Laplacian over all eight neighbours.

A classic of image processing (Gonzalez and Woods, "Digital image processing", chapter "Intensity transformations and
spatial filtering"). Nothing is learned: `train` writes a checkpoint of the fixed weights, and measures them on real
photographs. It takes images of any size; the one given here is the shape of a photograph, small.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register

KERNEL = ((-1.0, -1.0, -1.0), (-1.0, 8.0, -1.0), (-1.0, -1.0, -1.0))
RECIPE = Recipe(dataset="photo-edges", loss="mse", epochs=0, batch_size=1)


@register("laplacian", input=ImageInput(channels=1, height=200, width=300), recipe=RECIPE, params=9, macs=531_036)
class Laplacian(nn.Module):
    """A fixed 3x3 edge detector for photographs; 1x200x300 -> 1x198x298."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, kernel_size=3, bias=False)
        self.conv.weight.requires_grad_(False)
        self.conv.weight.copy_(torch.tensor(KERNEL)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Grey images (batch, 1, h, w), values 0..1 -> edges (batch, 1, h - 2, w - 2): 0 where it is even, -8..8 at edges."""
        return self.conv(x)
