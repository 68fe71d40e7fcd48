"""ResNet-18, after He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2016).

What differs from the paper, as in the PaddlePaddle practice book's version: the first convolution has a bias, and the
input is a 32x32 grey image. In-channels, classes and the shortcuts are arguments. `resnet18-plain` is the paper's own
comparison: the same layers without shortcuts (and without their 1x1 convolutions, which nothing would use).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register

INPUT = ImageInput(channels=1, height=32, width=32, mean=(0.5,), std=(0.5,))


class ResidualUnit(nn.Module):
    """conv3, BN, ReLU, conv3, BN, add the shortcut, ReLU.

    The shortcut is the input itself, or a 1x1 convolution with BN where channels or stride change; none if not `residual`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Sequential | None = None
        if residual and (stride != 1 or in_channels != out_channels):
            conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, h, w) -> (batch, out_channels, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.residual:
            y = y + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y)


class ResNet18(nn.Module):
    """A 7x7 stem, four stages of two residual units (64, 128, 256, 512 channels), global average pooling, one linear layer."""

    def __init__(self, in_channels: int, classes: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = self._stage(64, 64, 1, residual)
        self.layer2 = self._stage(64, 128, 2, residual)
        self.layer3 = self._stage(128, 256, 2, residual)
        self.layer4 = self._stage(256, 512, 2, residual)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512, classes)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, stride: int, residual: bool) -> nn.Sequential:
        first = ResidualUnit(in_channels, out_channels, stride, residual)
        return nn.Sequential(first, ResidualUnit(out_channels, out_channels, 1, residual))

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, in_channels, h, w) -> logits (batch, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.flatten(self.avgpool(x)))


@register(
    "resnet18",
    input=INPUT,
    recipe=Recipe(optimizer="sgd", lr=0.01, schedule="cosine", epochs=6, batch_size=64),
    params=11_175_434,
    macs=35_410_944,
)
def resnet18(in_channels: int = 1, classes: int = 10, residual: bool = True) -> nn.Module:
    """ResNet-18 with a biased stem; 1x32x32 -> 10 logits."""
    return ResNet18(in_channels, classes, residual)


@register(
    "resnet18-plain",
    input=INPUT,
    recipe=Recipe(optimizer="sgd", lr=0.005, schedule="cosine", epochs=6, batch_size=64),
    params=11_001_610,
    macs=35_017_728,
)
def resnet18_plain(in_channels: int = 1, classes: int = 10) -> nn.Module:
    """ResNet-18 without its shortcuts: what they are worth; 1x32x32 -> 10 logits."""
    return ResNet18(in_channels, classes, residual=False)
