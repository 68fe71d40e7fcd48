"""VGG-11, after Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition" (2015).

Configuration A of the paper. What differs, as in the textbook "Dive into Deep Learning" (chapter "Networks using
blocks"): grey input and 10 classes; `vgg11-small` divides every width by 8 so that it trains without a GPU. The paper
had to copy first layers from a trained smaller network; He's first weights make that unnecessary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register
from deploykit.architectures._initialize import he_normal

INPUT = ImageInput(channels=1, height=224, width=224, mean=(0.5,), std=(0.5,))
# Three passes are enough for so wide a network, and each is ten minutes on two cores; changed images would need more.
RECIPE = Recipe(optimizer="adam", lr=2e-4, schedule="one-cycle", epochs=3, batch_size=32)
SMALL_RECIPE = Recipe(optimizer="adam", lr=1e-3, schedule="one-cycle", epochs=10, batch_size=32, augment="affine")

BLOCKS = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))  # (convolutions, channels)
HIDDEN = 4096


class VGG11(nn.Module):
    """Five blocks of 3x3 convolutions, each ending in max pooling, then three linear layers; widths divided by `divisor`."""

    def __init__(self, in_channels: int, classes: int, divisor: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for convolutions, wide in BLOCKS:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, wide // divisor, kernel_size=3, padding=1), nn.ReLU()]
                channels = wide // divisor
            layers.append(nn.MaxPool2d(kernel_size=2))
        hidden = HIDDEN // divisor
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )  # fmt: skip
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, 224, 224) -> logits (batch, classes)."""
        return self.classifier(torch.flatten(self.features(x), start_dim=1))


@register("vgg11", input=INPUT, recipe=RECIPE, params=128_806_154, macs=7_547_232_256)
def vgg11(in_channels: int = 1, classes: int = 10, divisor: int = 1, dropout: float = 0.5) -> nn.Module:
    """VGG-11 for grey images; 1x224x224 -> 10 logits."""
    return VGG11(in_channels, classes, divisor, dropout)


@register("vgg11-small", input=INPUT, recipe=SMALL_RECIPE, params=2_018_346, macs=121_091_072)
def vgg11_small(in_channels: int = 1, classes: int = 10, divisor: int = 8, dropout: float = 0.5) -> nn.Module:
    """VGG-11 with an eighth of its widths; 1x224x224 -> 10 logits."""
    return VGG11(in_channels, classes, divisor, dropout)
