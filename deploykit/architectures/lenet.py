"""LeNet with sigmoids, after LeCun et al. (1998), as the textbook "Dive into Deep Learning" has it (chapter "LeNet").

What differs from the paper: plain sigmoids for the scaled tanh, average pooling without weights, full connections in
the second convolution, a linear layer for the radial basis functions, and padding of 2 in place of a 32x32 input.

Trained as the textbook does (SGD at 0.1) the network stays at chance for many epochs: a sigmoid's slope is at most
1/4, so five of them shrink the gradient of the first layer a thousandfold. Adam divides that scale out, so the recipe
uses it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register

INPUT = ImageInput(channels=1, height=28, width=28, mean=(0.5,), std=(0.5,))
RECIPE = Recipe(optimizer="adam", lr=5e-3, schedule="one-cycle", epochs=40, batch_size=64, augment="none")


@register("lenet", input=INPUT, recipe=RECIPE, params=61_706, macs=416_520)
class LeNet(nn.Module):
    """LeNet with sigmoids and average pooling, Xavier-uniform weights; 1x28x28 -> 10 logits."""

    def __init__(self, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5, padding=2)
        self.pool2 = nn.AvgPool2d(kernel_size=2, stride=2)
        self.conv3 = nn.Conv2d(6, 16, kernel_size=5)
        self.pool4 = nn.AvgPool2d(kernel_size=2, stride=2)
        self.linear5 = nn.Linear(400, 120)
        self.linear6 = nn.Linear(120, 84)
        self.linear7 = nn.Linear(84, classes)
        for layer in (self.conv1, self.conv3, self.linear5, self.linear6, self.linear7):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, 28, 28) -> logits (batch, classes)."""
        x = self.pool2(torch.sigmoid(self.conv1(x)))
        x = self.pool4(torch.sigmoid(self.conv3(x)))
        x = torch.sigmoid(self.linear5(torch.flatten(x, start_dim=1)))
        x = torch.sigmoid(self.linear6(x))
        return self.linear7(x)
