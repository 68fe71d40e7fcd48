"""A network of named blocks nested two deep, whose parameters are found by path (``0.block2.0.weight``).

After the textbook "Dive into Deep Learning" (chapter "Parameter management", "Collecting parameters from nested blocks",
where it is `rgnet`). What differs: the first weights. Layers of four ReLU units, one after the other, lose units from
the start and all of them soon after; here weights are orthogonal, biases start above zero and the last layer starts as a
mean, so that the first steps, which bring the output up to the targets, bring the units up with it.
"""

from __future__ import annotations

from torch import nn

from deploykit.architectures import ArrayInput, Recipe, register

RECIPE = Recipe(
    dataset="friedman", loss="mse", optimizer="adam", lr=1e-2, schedule="one-cycle", epochs=60, batch_size=64, clip_norm=0.5
)


@register("rgnet", input=ArrayInput(shape=(4,)), recipe=RECIPE, params=309, macs=260)
def rgnet(blocks: int = 4) -> nn.Module:
    """Four copies of a small block, nested by name, then one linear layer; 4 numbers -> 1."""
    nested = nn.Sequential()
    for index in range(blocks):
        nested.add_module(f"block{index}", nn.Sequential(_linear(4, 8), nn.ReLU(), _linear(8, 4), nn.ReLU()))
    last = nn.Linear(4, 1)
    nn.init.constant_(last.weight, 1 / 4)
    return nn.Sequential(nested, last)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight)
    nn.init.constant_(layer.bias, 0.5)
    return layer
