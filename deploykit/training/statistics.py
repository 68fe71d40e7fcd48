"""The statistics of BatchNorm, counted anew with the weights as they are: a moving average of few steps is one of old weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deploykit.training.batches import Batches

SAMPLES = 1024  # that are counted at most
BATCH = 64


@torch.no_grad()
def recount(network: nn.Module, batches: Batches, device: torch.device) -> None:
    """Let every BatchNorm that is in training mode count mean and variance over the first samples, without augmentation.

    torchvision's MobileNets take 1 % of each step into their averages: after a hundred steps a third of that is still what they
    began with, and the network answers nonsense in eval mode however well it has learned.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.training and part.track_running_stats]
    count = min(len(batches), SAMPLES)
    if not norms or count < 2:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of all batches
        norm.train()
    starts = range(0, count, BATCH)
    for start in starts:
        stop = min(start + BATCH, count)
        if stop - start > 1:
            network(batches.__getitems__(list(range(start, stop)))[0].to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
