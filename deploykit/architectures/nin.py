"""Network in Network, after Lin, Chen and Yan (2014).

What differs from the paper, as in the textbook "Dive into Deep Learning" (chapter "Network in Network"): the widths and
strides are those of AlexNet, the input is a grey 224x224 image, and there is dropout before the last block only.

The logits are means of ReLU outputs. A class whose ReLU is below zero everywhere gets no gradient and is lost for good,
which is what happens to some classes, or all, from ordinary first weights. So the last biases start well above zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register
from deploykit.architectures._initialize import he_normal

INPUT = ImageInput(channels=1, height=224, width=224, mean=(0.5,), std=(0.5,))
# Small batches and digits that stay in place: many steps and little to learn in an epoch, each of which is dear at this size.
RECIPE = Recipe(optimizer="adam", lr=5e-4, schedule="one-cycle", epochs=8, batch_size=8, augment="none", clip_norm=1.0)


@register("nin", input=INPUT, recipe=RECIPE, params=1_992_166, macs=762_297_352)
class NiN(nn.Module):
    """Four convolutions, each followed by two 1x1 ones, and no linear layer at all; 1x224x224 -> 10 logits."""

    def __init__(self, in_channels: int = 1, classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        self.block1 = nin_block(in_channels, 96, kernel_size=11, stride=4, padding=0)
        self.pool1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.block2 = nin_block(96, 256, kernel_size=5, stride=1, padding=2)
        self.pool2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.block3 = nin_block(256, 384, kernel_size=3, stride=1, padding=1)
        self.pool3 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.dropout = nn.Dropout(dropout)
        self.block4 = nin_block(384, classes, kernel_size=3, stride=1, padding=1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        he_normal(self)
        _open(self.block4)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, channels, h, w) -> logits (batch, classes)."""
        x = self.pool1(self.block1(x))
        x = self.pool2(self.block2(x))
        x = self.dropout(self.pool3(self.block3(x)))
        return self.flatten(self.avgpool(self.block4(x)))


def nin_block(in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """A convolution and two 1x1 convolutions (a small network at every pixel), ReLU after each."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding), nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1), nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1), nn.ReLU(),
    )  # fmt: skip


def _open(block: nn.Sequential) -> None:
    """Room to fall before a ReLU shuts: 1 for the narrow layers inside, 5 for the classes, which start out nearly equal.

    The softmax sees differences only, so what all classes have in common changes nothing else.
    """
    first, second, last = (layer for layer in block if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        for layer, bias in ((first, 1.0), (second, 1.0), (last, 5.0)):
            layer.state_dict()["bias"].fill_(bias)
        last.weight.mul_(0.3)
