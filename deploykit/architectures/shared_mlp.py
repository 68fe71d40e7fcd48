"""Tied parameters: one layer that is used twice, and learns from both places.

After the textbook "Dive into Deep Learning" (chapter "Parameter management", "Tied parameters"). What differs: the
shared layer is one attribute, so that its weights have one name and are saved and counted once; first weights are He's.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import ArrayInput, Recipe, register
from deploykit.architectures._initialize import he_normal

RECIPE = Recipe(dataset="friedman", loss="mse", optimizer="adam", lr=3e-2, schedule="one-cycle", epochs=60, batch_size=64)


@register("shared-mlp", input=ArrayInput(shape=(4,)), recipe=RECIPE, params=121, macs=168)
class SharedMLP(nn.Module):
    """Four linear layers, of which the second and third are one and the same; 4 numbers -> 1."""

    def __init__(self, inputs: int = 4, hidden: int = 8, outputs: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.shared = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, outputs)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, outputs)."""
        x = F.relu(self.first(x))
        x = F.relu(self.shared(x))
        x = F.relu(self.shared(x))
        return self.last(x)
