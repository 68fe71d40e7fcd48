"""LeNet-5, after LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition" (1998).

What differs from the paper, as in the PaddlePaddle practice book's version: ReLU for the scaled tanh, max pooling then
average pooling without weights for the trainable subsampling, full connections in the second convolution, and a linear
layer for the radial basis functions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register

INPUT = ImageInput(channels=1, height=32, width=32, mean=(0.5,), std=(0.5,))
RECIPE = Recipe(optimizer="adam", lr=2e-3, schedule="one-cycle", epochs=25, batch_size=64, augment="affine")


@register("lenet5", input=INPUT, recipe=RECIPE, params=61_706, macs=416_520)
class LeNet5(nn.Module):
    """LeNet-5 with ReLU, max pooling then average pooling; 1x32x32 -> 10 logits."""

    def __init__(self, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.pool2 = nn.MaxPool2d(kernel_size=2, stride=2)
        self.conv3 = nn.Conv2d(6, 16, kernel_size=5)
        self.pool4 = nn.AvgPool2d(kernel_size=2, stride=2)
        self.conv5 = nn.Conv2d(16, 120, kernel_size=5)
        self.linear6 = nn.Linear(120, 84)
        self.linear7 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, 32, 32) -> logits (batch, classes)."""
        x = self.pool2(F.relu(self.conv1(x)))
        x = self.pool4(F.relu(self.conv3(x)))
        x = F.relu(self.conv5(x))
        x = F.relu(self.linear6(torch.flatten(x, start_dim=1)))
        return self.linear7(x)
