"""Two plain convolutional networks of the kind that tutorials train on MNIST: two and four blocks, then one linear
layer.

They follow no paper. A block is convolution 5x5 (padding 2), batch normalization after Ioffe and Szegedy (2015),
ReLU, max pooling 2; the first block has no normalization.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register

INPUT = ImageInput(channels=1, height=28, width=28, mean=(0.5,), std=(0.5,))
RECIPE = Recipe(optimizer="adam", lr=2e-3, schedule="one-cycle", epochs=15, batch_size=64, augment="affine")


class PlainCNN(nn.Module):
    """Blocks of `width`, 2 * width, 4 * width ... channels, each halving the side of a 28x28 image, then one linear layer."""

    def __init__(self, blocks: int, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        channels = [width << index for index in range(blocks)]
        sources = [in_channels, *channels[:-1]]
        layers = [_block(i, o, normalize=index > 0) for index, (i, o) in enumerate(zip(sources, channels, strict=True))]
        self.blocks = nn.Sequential(*layers)
        side = 28 >> blocks
        self.fc = nn.Linear(channels[-1] * side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, 28, 28) -> logits (batch, classes)."""
        return self.fc(torch.flatten(self.blocks(x), start_dim=1))


def _block(in_channels: int, out_channels: int, normalize: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size=5, padding=2)]
    if normalize:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.ReLU(), nn.MaxPool2d(kernel_size=2))


@register("cnn2", input=INPUT, recipe=RECIPE, params=29_002, macs=2_838_080)
def cnn2(in_channels: int = 1, classes: int = 10, width: int = 16) -> nn.Module:
    """Two convolutional blocks (16, 32 channels) and a linear layer; 1x28x28 -> 10 logits."""
    return PlainCNN(2, in_channels, classes, width)


@register("cnn4", input=INPUT, recipe=RECIPE, params=271_178, macs=7_175_680)
def cnn4(in_channels: int = 1, classes: int = 10, width: int = 16) -> nn.Module:
    """Four convolutional blocks (16 to 128 channels) and a linear layer; 1x28x28 -> 10 logits."""
    return PlainCNN(4, in_channels, classes, width)
