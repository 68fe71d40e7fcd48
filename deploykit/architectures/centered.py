"""A layer without parameters: it subtracts the mean.

After the textbook "Dive into Deep Learning" (chapter "Custom layers", "Layers without parameters"). What differs: the
textbook subtracts one mean of the whole batch; here each sample's own mean is subtracted, so that a sample's result
does not depend on its neighbours.
"""

from __future__ import annotations

from torch import Tensor, nn

from deploykit.architectures import ArrayInput, Recipe, register

RECIPE = Recipe(dataset="waveforms", loss="mse", optimizer="adam", lr=1e-2, schedule="cosine", epochs=20, batch_size=64)


class CenteredLayer(nn.Module):
    """Subtracts from each sample its mean over the last dimension."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) -> (batch, width), every row with mean 0."""
        return x - x.mean(dim=-1, keepdim=True)


@register("centered", input=ArrayInput(shape=(8,)), recipe=RECIPE, params=1_152, macs=1_024)
def centered(inputs: int = 8, outputs: int = 128) -> nn.Module:
    """A linear layer, then one without parameters that subtracts the mean; 8 numbers -> 128."""
    return nn.Sequential(nn.Linear(inputs, outputs), CenteredLayer())
