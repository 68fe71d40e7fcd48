"""Optimizer, learning-rate schedule and order of the samples, as a recipe asks for them, and the step that uses them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler

from deploykit.architectures import Recipe
from deploykit.errors import InputError


class Order(Sampler[list[int]]):
    """Batches of indices in an order that (seed, epoch) decides. A last batch of one is left out: BatchNorm needs two.

    Of several processes each gets its equal share of every batch; a last batch that is smaller is filled up from the beginning
    of the order, so that all of them take as many steps with as many samples.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.samples, self.batch_size, self.seed, self.epoch = samples, min(batch_size, samples), seed, 0
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (1 if rest > 1 or (rest == 1 and self.batch_size == 1) else 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(self.samples)
        for step in range(len(self)):
            yield self._share(order[step * self.batch_size : (step + 1) * self.batch_size], order).tolist()

    def _share(self, batch: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.world_size == 1:
            return batch
        each = -(-self.batch_size // self.world_size)
        filled = np.concatenate([batch, np.resize(order, each * self.world_size - len(batch))])
        return filled[self.rank * each : (self.rank + 1) * each]


@dataclass(frozen=True)
class Optimization:
    """What changes the weights in a step, and what it remembers from step to step."""

    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR
    scaler: torch.amp.GradScaler

    def step(self, loss: Tensor, clip_norm: float | None, frozen: Sequence[nn.Parameter] = ()) -> None:
        """Backward pass, gradients clipped to the norm `clip_norm` over all parameters, one step of the optimizer.

        `frozen`: parameters that stay as they are. Their gradients are made and dropped, for several processes have to agree on
        which ones there are; without a gradient no optimizer touches a parameter or what it remembers of it.
        Where gradients overflow in float16 the scaler skips the optimizer's step, and so does the schedule.
        """
        self.scaler.scale(loss).backward()
        for parameter in frozen:
            parameter.grad = None
        if clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], clip_norm)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # it shrinks where a step was skipped, and only there
            self.scheduler.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, for `torch.save`."""
        parts = ("optimizer", "scheduler", "scaler")
        return {name: getattr(self, name).state_dict() for name in parts}

    def load_state_dict(self, kept: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave. States from before the scaler was kept have none: it begins anew."""
        self.optimizer.load_state_dict(kept["optimizer"])
        self.scheduler.load_state_dict(kept["scheduler"])
        if kept.get("scaler"):
            self.scaler.load_state_dict(kept["scaler"])


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
