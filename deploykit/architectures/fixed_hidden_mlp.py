"""A network whose path depends on its values: a loop that runs as often as the numbers ask for.

After the textbook "Dive into Deep Learning" (chapter "Layers and modules", "Executing code in the forward propagation
method"): one linear layer used twice around a fixed random matrix, then the result is halved while its absolute sum
exceeds 1, and summed.

What differs: the textbook halves a whole batch by the batch's sum and returns one number for it, so that a sample's
result depends on its neighbours. Here every sample has its own sum, and its own number of halvings: a deployed file
gives the same answer for a sample in whatever batch it comes. For a batch of one the two are the same. And a sample
with an infinite value is given back as it is: halved, it would stay infinite for ever.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import ArrayInput, Recipe, register

INPUT = ArrayInput(shape=(20,))
RECIPE = Recipe(dataset="tanh-sum", loss="mse", optimizer="adam", lr=2e-2, schedule="cosine", epochs=60, batch_size=64)


@register("fixed-hidden-mlp", input=INPUT, recipe=RECIPE, params=420, macs=1_200)
class FixedHiddenMLP(nn.Module):
    """One linear layer twice around a fixed random one, then halved while its absolute sum exceeds 1; 20 numbers -> 1."""

    fixed: Tensor

    def __init__(self, width: int = 20) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("fixed", torch.rand(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) -> (batch, 1), between -1 and 1."""
        x = F.relu(self.linear(x) @ self.fixed + 1)
        return halve_while_large(self.linear(x)).sum(dim=1, keepdim=True)


def halve_while_large(x: Tensor) -> Tensor:
    """Halve each row of `x` (batch, width) while the sum of its absolute values exceeds 1.

    A plain loop, through which gradients flow; in an export it becomes `torch.while_loop`, which is an ONNX `Loop` in
    the file. Both run `_is_large` and `_halve_large`, so they are the same function.
    """
    if torch.compiler.is_exporting():
        # An exported graph is for inference: without gradients, which while_loop would only carry along.
        return torch.while_loop(_is_any_large, _halve_large, (x.detach(),))[0]
    while _is_any_large(x):
        (x,) = _halve_large(x)
    return x


def _is_large(x: Tensor) -> Tensor:
    """(batch, 1): which rows are to be halved. NaN compares false, so it ends the loop too."""
    magnitude = x.abs()
    return (magnitude.sum(dim=1, keepdim=True) > 1) & (magnitude.amax(dim=1, keepdim=True) < math.inf)


def _is_any_large(x: Tensor) -> Tensor:
    return _is_large(x).any()


def _halve_large(x: Tensor) -> tuple[Tensor]:
    return (torch.where(_is_large(x), x / 2, x),)
