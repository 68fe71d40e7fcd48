"""A convolution kernel that is learned from one image: where black and white meet, and in which direction.

After the textbook "Dive into Deep Learning" (chapter "Convolutions for images", "Learning a kernel"): the targets are
the image's cross-correlation with [1, -1], which gradient descent has to find again. What differs: the squared error
is averaged, not summed, so the learning rate is larger.
"""

from __future__ import annotations

from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register

# The error shrinks by (1 - 0.5 * 2/7) per step in its slowest direction, so a hundred steps leave 2e-7 of it.
RECIPE = Recipe(
    dataset="edge-image", loss="mse", optimizer="sgd", lr=0.5, momentum=0.0, schedule="constant", epochs=100, batch_size=1
)


@register("edge-kernel", input=ImageInput(channels=1, height=6, width=8), recipe=RECIPE, params=2, macs=84)
class EdgeKernel(nn.Module):
    """One 1x2 convolution that learns to find vertical edges; 1x6x8 -> 1x6x7."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 1, h, w) -> edges (batch, 1, h, w - 1): 1 from white to black, -1 from black to white."""
        return self.conv(x)
