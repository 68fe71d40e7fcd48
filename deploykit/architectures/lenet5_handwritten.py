"""LeNet-5 again, from hand-written operators: the definition of a convolution and of pooling, and nothing of torch's
own.

The layers are those of `lenet5`, which names the paper and what differs from it; the operators are in
`_handwritten.py`. The weights of the two networks have the same names and shapes, so a checkpoint of one can be
loaded into the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import register
from deploykit.architectures._handwritten import AveragePooling2d, CrossCorrelation2d, MaxPooling2d
from deploykit.architectures.lenet5 import INPUT, RECIPE


@register("lenet5-handwritten", input=INPUT, recipe=RECIPE, params=61_706, macs=416_520)
class LeNet5Handwritten(nn.Module):
    """LeNet-5 built from hand-written convolution and pooling; 1x32x32 -> 10 logits."""

    def __init__(self, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = CrossCorrelation2d(in_channels, 6, kernel_size=5)
        self.pool2 = MaxPooling2d(kernel_size=2)
        self.conv3 = CrossCorrelation2d(6, 16, kernel_size=5)
        self.pool4 = AveragePooling2d(kernel_size=2)
        self.conv5 = CrossCorrelation2d(16, 120, kernel_size=5)
        self.linear6 = nn.Linear(120, 84)
        self.linear7 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, 32, 32) -> logits (batch, classes)."""
        x = self.pool2(F.relu(self.conv1(x)))
        x = self.pool4(F.relu(self.conv3(x)))
        x = F.relu(self.conv5(x))
        x = F.relu(self.linear6(torch.flatten(x, start_dim=1)))
        return self.linear7(x)
