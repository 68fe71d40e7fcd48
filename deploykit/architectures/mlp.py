"""A multilayer perceptron, twice: from torch's own parts and with a hand-written container.

After the textbook "Dive into Deep Learning" (chapter "Builders' guide", "Layers and modules"). What differs: lazy
layers are given their sizes, and the data are generated (dataset `blobs`), since the chapter only feeds in random
numbers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deploykit.architectures import ArrayInput, Recipe, register

INPUT = ArrayInput(shape=(20,))
RECIPE = Recipe(dataset="blobs", optimizer="adam", lr=3e-3, schedule="cosine", epochs=20, batch_size=64)


@register("mlp", input=INPUT, recipe=RECIPE, params=7_946, macs=7_680)
class MLP(nn.Module):
    """A multilayer perceptron with one hidden layer; 20 numbers -> 10 logits."""

    def __init__(self, inputs: int = 20, hidden: int = 256, classes: int = 10) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) -> logits (batch, classes)."""
        return self.out(F.relu(self.hidden(x)))


class HandwrittenSequential(nn.Module):
    """Runs modules one after the other; each is registered under its place, so its weights are found and saved."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        for index, module in enumerate(modules):
            self.add_module(str(index), module)

    def forward(self, x: Tensor) -> Tensor:
        """What the last module gives for what the one before it gives, and so on."""
        for module in self.children():
            x = module(x)
        return x


@register("mlp-sequential", input=INPUT, recipe=RECIPE, params=7_946, macs=7_680)
def mlp_sequential(inputs: int = 20, hidden: int = 256, classes: int = 10) -> nn.Module:
    """The same perceptron in a hand-written sequential container; 20 numbers -> 10 logits."""
    return HandwrittenSequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
