"""Blocks inside blocks: a perceptron nested in a network, and that network in a larger one.

After the textbook "Dive into Deep Learning" (chapter "Layers and modules", where they are `NestMLP` and the
"chimera"). What differs: sizes are given in place of lazy layers, and the last part of the chimera treats every
sample by itself (see `fixed-hidden-mlp`).
"""

from __future__ import annotations

from torch import Tensor, nn

from deploykit.architectures import ArrayInput, Recipe, register
from deploykit.architectures.fixed_hidden_mlp import FixedHiddenMLP

INPUT = ArrayInput(shape=(20,))
NEST_RECIPE = Recipe(dataset="tanh-map", loss="mse", optimizer="adam", lr=3e-3, schedule="cosine", epochs=30, batch_size=64)
CHIMERA_RECIPE = Recipe(
    dataset="tanh-sum", loss="mse", optimizer="adam", lr=5e-3, schedule="one-cycle", epochs=40, batch_size=64, clip_norm=1.0
)


@register("nest-mlp", input=INPUT, recipe=NEST_RECIPE, params=3_952, macs=3_840)
class NestMLP(nn.Module):
    """A perceptron nested in a block, then one more linear layer; 20 numbers -> 16."""

    def __init__(self, inputs: int = 20, outputs: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.linear = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) -> (batch, outputs)."""
        return self.linear(self.net(x))


@register("chimera", input=INPUT, recipe=CHIMERA_RECIPE, params=4_712, macs=5_360)
def chimera() -> nn.Module:
    """`nest-mlp`, a linear layer, then `fixed-hidden-mlp` with its loop; 20 numbers -> 1."""
    return nn.Sequential(NestMLP(), nn.Linear(16, 20), FixedHiddenMLP())
