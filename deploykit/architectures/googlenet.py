"""GoogLeNet, after Szegedy et al., "Going deeper with convolutions" (2015).

What differs from the paper, as in the textbook "Dive into Deep Learning" (chapter "Multi-branch networks"): no
auxiliary classifiers, no local response normalization, no dropout, no ReLU between the two convolutions of the second
stage, a grey 96x96 input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register
from deploykit.architectures._initialize import he_normal

INPUT = ImageInput(channels=1, height=96, width=96, mean=(0.5,), std=(0.5,))
RECIPE = Recipe(optimizer="adam", lr=5e-4, schedule="one-cycle", epochs=10, batch_size=32, augment="affine")


class Inception(nn.Module):
    """Four paths over the same input, side by side on the channels: 1x1; 1x1 then 3x3; 1x1 then 5x5; max pooling then 1x1."""

    def __init__(self, in_channels: int, path1: int, path2: tuple[int, int], path3: tuple[int, int], path4: int) -> None:
        super().__init__()
        self.path1 = _conv(in_channels, path1, 1)
        self.path2 = nn.Sequential(_conv(in_channels, path2[0], 1), _conv(path2[0], path2[1], 3))
        self.path3 = nn.Sequential(_conv(in_channels, path3[0], 1), _conv(path3[0], path3[1], 5))
        self.path4 = nn.Sequential(nn.MaxPool2d(kernel_size=3, stride=1, padding=1), _conv(in_channels, path4, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, h, w) -> (batch, sum of the paths' channels, h, w)."""
        return torch.cat([self.path1(x), self.path2(x), self.path3(x), self.path4(x)], dim=1)


@register("googlenet", input=INPUT, recipe=RECIPE, params=5_977_530, macs=276_066_304)
class GoogLeNet(nn.Module):
    """GoogLeNet for grey images, nine Inception blocks; 1x96x96 -> 10 logits."""

    def __init__(self, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3), nn.ReLU(), _halve())
        self.stage2 = nn.Sequential(
            nn.Conv2d(64, 64, kernel_size=1), nn.Conv2d(64, 192, kernel_size=3, padding=1), nn.ReLU(), _halve()
        )
        self.stage3 = nn.Sequential(
            Inception(192, 64, (96, 128), (16, 32), 32),
            Inception(256, 128, (128, 192), (32, 96), 64),
            _halve(),
        )
        self.stage4 = nn.Sequential(
            Inception(480, 192, (96, 208), (16, 48), 64),
            Inception(512, 160, (112, 224), (24, 64), 64),
            Inception(512, 128, (128, 256), (24, 64), 64),
            Inception(512, 112, (144, 288), (32, 64), 64),
            Inception(528, 256, (160, 320), (32, 128), 128),
            _halve(),
        )
        self.stage5 = nn.Sequential(
            Inception(832, 256, (160, 320), (32, 128), 128),
            Inception(832, 384, (192, 384), (48, 128), 128),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(1024, classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, h, w) -> logits (batch, classes)."""
        x = self.stage5(self.stage4(self.stage3(self.stage2(self.stage1(x)))))
        return self.fc(self.flatten(self.avgpool(x)))


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps the size, then ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2), nn.ReLU())


def _halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
