"""AlexNet, after Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks"
(2012).

What differs from the paper, as in the textbook "Dive into Deep Learning" (chapter "AlexNet"): one device instead of
two halves, no local response normalization, a grey 224x224 input. One hidden fully connected layer instead of two by
default; the argument `second_hidden` adds the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register
from deploykit.architectures._initialize import he_normal

INPUT = ImageInput(channels=1, height=224, width=224, mean=(0.5,), std=(0.5,))
RECIPE = Recipe(optimizer="adam", lr=3e-4, schedule="one-cycle", epochs=8, batch_size=64, augment="affine")


@register("alexnet", input=INPUT, recipe=RECIPE, params=29_983_434, macs=921_368_960)
class AlexNet(nn.Module):
    """AlexNet for grey images with one hidden linear layer; 1x224x224 -> 10 logits."""

    def __init__(
        self, in_channels: int = 1, classes: int = 10, hidden: int = 4096, dropout: float = 0.5, second_hidden: bool = False
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, kernel_size=11, stride=4), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(96, 256, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(256, 384, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 384, kernel_size=3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2),
        )  # fmt: skip
        head: list[nn.Module] = [nn.Linear(256 * 5 * 5, hidden), nn.ReLU(), nn.Dropout(dropout)]
        if second_hidden:
            head += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)]
        self.classifier = nn.Sequential(*head, nn.Linear(hidden, classes))
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, 224, 224) -> logits (batch, classes)."""
        return self.classifier(torch.flatten(self.features(x), start_dim=1))
