"""First weights for deep networks that have no normalization layers."""

from __future__ import annotations

from torch import nn


def he_normal(network: nn.Module) -> None:
    """Normal weights of variance 2 / (inputs of a unit), zero biases: He et al., "Delving deep into rectifiers" (2015).

    The signal keeps its size through any number of ReLU layers. torch's default has a sixth of that variance, with
    which eleven layers without normalization start out with a constant output and hardly any gradient.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
