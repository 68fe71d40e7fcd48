"""A ResNet-18 for colour images of 96x96, after He, Zhang, Ren and Sun, "Deep residual learning for image recognition"
(2016).

What differs from the paper: the stem is not padded and has a bias, its batch normalization uses eps 1e-3; a unit has
a ReLU before the shortcut is added as well as after; the shortcut, where the stride is 2, is a 1x1 convolution with a
bias and without normalization. Made for CIFAR-10 enlarged to 96x96 and scaled to [-1, 1] (``--data cifar10``).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register

INPUT = ImageInput(channels=3, height=96, width=96, mean=(0.5,), std=(0.5,))
RECIPE = Recipe(optimizer="sgd", lr=0.01, schedule="cosine", epochs=6, batch_size=64)


class Unit(nn.Module):
    """conv3, BN, ReLU, conv3, BN, ReLU, add the shortcut, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1:
            self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, h, w) -> (batch, out_channels, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


@register("resnet18-cifar", input=INPUT, recipe=RECIPE, params=11_180_810, macs=323_552_960)
class ResNet18Cifar(nn.Module):
    """ResNet-18 for small colour photographs; 3x96x96 -> 10 logits."""

    def __init__(self, in_channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2)
        self.bn1 = nn.BatchNorm2d(64, eps=1e-3)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Unit(64, 64, 1), Unit(64, 64, 1))
        self.layer2 = nn.Sequential(Unit(64, 128, 2), Unit(128, 128, 1))
        self.layer3 = nn.Sequential(Unit(128, 256, 2), Unit(256, 256, 1))
        self.layer4 = nn.Sequential(Unit(256, 512, 2), Unit(512, 512, 1))
        self.avgpool = nn.AvgPool2d(kernel_size=3)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, 96, 96) -> logits (batch, classes)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.flatten(self.avgpool(x)))
