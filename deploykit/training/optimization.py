"""Optimizer, learning-rate schedule and order of the samples, as a recipe asks for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Sampler

from deploykit.architectures import Recipe
from deploykit.errors import InputError


class Order(Sampler[list[int]]):
    """Batches of indices in an order that (seed, epoch) decides. A last batch of one is left out: BatchNorm needs two."""

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        self.samples, self.batch_size, self.seed, self.epoch = samples, min(batch_size, samples), seed, 0
        self.drop_last = False

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (1 if rest > 1 or (rest == 1 and self.batch_size == 1) else 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(self.samples)
        for step in range(len(self)):
            yield order[step * self.batch_size : (step + 1) * self.batch_size].tolist()


def optimizer_of(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer | None:
    """`None` where there is nothing to learn."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if not parameters:
        return None
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    raise InputError(f"unknown optimizer {recipe.optimizer!r}", "choose sgd, adam or adamw")


def schedule(recipe: Recipe, steps_per_epoch: int) -> Any:
    """The factor on the learning rate at each step; see `Recipe.schedule`."""
    total = max(1, recipe.epochs * steps_per_epoch)

    def factor(step: int) -> float:
        done = min(step / total, 1.0)
        if recipe.schedule == "constant":
            return 1.0
        if recipe.schedule == "one-cycle":
            if done < 0.3:
                return 0.04 + 0.96 * (1 - math.cos(math.pi * done / 0.3)) / 2
            done = (done - 0.3) / 0.7
        return (1 + math.cos(math.pi * done)) / 2

    return factor


def mix(*parts: int) -> int:
    """One seed out of several numbers, far apart for neighbours."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
