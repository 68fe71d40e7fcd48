"""A network of named blocks nested two deep, whose parameters are found by path (``0.block2.0.weight``).

After the textbook "Dive into Deep Learning" (chapter "Parameter management", "Collecting parameters from nested blocks",
where it is `rgnet`). What differs: biases start above zero, so that eight ReLU layers, every other only four units wide,
let something through from the start.
"""

from __future__ import annotations

import math

from torch import nn

from deploykit.architectures import ArrayInput, Recipe, register

RECIPE = Recipe(dataset="friedman", loss="mse", optimizer="adam", lr=2e-2, schedule="one-cycle", epochs=60, batch_size=64)


@register("rgnet", input=ArrayInput(shape=(4,)), recipe=RECIPE)
def rgnet(blocks: int = 4) -> nn.Module:
    """Four copies of a small block, nested by name, then one linear layer; 4 numbers -> 1."""
    nested = nn.Sequential()
    for index in range(blocks):
        nested.add_module(f"block{index}", nn.Sequential(_linear(4, 8), nn.ReLU(), _linear(8, 4), nn.ReLU()))
    return nn.Sequential(nested, nn.Linear(4, 1))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=1 / math.sqrt(inputs))
    nn.init.constant_(layer.bias, 0.5)
    return layer
