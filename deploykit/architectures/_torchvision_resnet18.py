"""torchvision's ResNet-18 weights for our `resnet18`, and ours for torchvision's.

The two networks differ in names (`downsample` is `shortcut` here) and in one tensor: ours has a bias in the first
convolution. Batch normalization follows it, which subtracts a mean: m' = m - bias says the same without a bias, so
nothing is lost in either direction.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deploykit.errors import CheckpointError

BIAS = "conv1.bias"
MEAN = "bn1.running_mean"


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's `resnet18().state_dict()` -> weights for `ResNet18` of as many channels and classes, its first bias
    zero.

    Raises `CheckpointError` for a state dict of another network (resnet34 and deeper have more units).
    """
    _require_resnet18(state, "downsample")
    renamed = {name.replace("downsample", "shortcut"): tensor for name, tensor in state.items()}
    return {**renamed, BIAS: torch.zeros_like(state[MEAN])}


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`ResNet18(...).state_dict()`, with shortcuts -> weights for torchvision's `resnet18`; the bias goes into the
    running mean.

    Raises `CheckpointError` for a state dict of another network.
    """
    _require_resnet18(state, "shortcut")
    if BIAS not in state:
        raise CheckpointError(f"the weights have no tensor {BIAS!r}", "are they torchvision's already?")
    renamed = {name.replace("shortcut", "downsample"): tensor for name, tensor in state.items() if name != BIAS}
    return {**renamed, MEAN: state[MEAN] - state[BIAS]}


def _require_resnet18(state: Mapping[str, Tensor], shortcut: str) -> None:
    blocks = [f"layer{stage}.{unit}" for stage in range(1, 5) for unit in range(2)]
    layers = [
        "conv1",
        "fc",
        *(f"{b}.{c}" for b in blocks for c in ("conv1", "conv2")),
        *(f"layer{s}.0.{shortcut}.0" for s in (2, 3, 4)),
    ]
    missing = [f"{layer}.weight" for layer in layers if f"{layer}.weight" not in state]
    if MEAN not in state:
        missing.append(MEAN)
    units = {name.split(".")[1] for name in state if name.startswith("layer")}
    if missing or units != {"0", "1"}:
        found = f"it has no tensor {missing[0]!r}" if missing else f"it has units {', '.join(sorted(units))} in a stage"
        raise CheckpointError(f"these are not the weights of a resnet18 with shortcuts: {found}", "give a state dict of resnet18")
