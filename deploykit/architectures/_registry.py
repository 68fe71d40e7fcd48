"""What an architecture is, and how its file registers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn

from deploykit.errors import InputError, UnknownName
from deploykit.runtime.contract import ArrayInput, ImageInput


@dataclass(frozen=True)
class Recipe:
    """How a network is trained unless the user says otherwise. It must really learn.

    `augment` names what is done to training samples: "none", "shift" (by up to an eighth of the side), "affine" (shift, turn
    by up to 10 degrees, scale by up to 10 %), "crop-flip" (shift by up to an eighth, mirror half of them).
    `schedule` is per optimizer step: "constant", "cosine" (to 0), "one-cycle" (up for 30 % of the steps, then down to 0).
    """

    dataset: str = "digits"
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    epochs: int = 10
    batch_size: int = 64
    augment: Literal["none", "shift", "affine", "crop-flip"] = "none"
    clip_norm: float | None = None


@dataclass(frozen=True)
class Architecture:
    """One trainable network: `build(**arguments)` makes it with fresh weights."""

    name: str
    build: Callable[..., nn.Module]
    input: ImageInput | ArrayInput
    recipe: Recipe
    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Without the batch: (channels, height, width) for images."""
        if isinstance(self.input, ImageInput):
            return (self.input.channels, self.input.height, self.input.width)
        return tuple(s or 1 for s in self.input.shape)

    def input_for(self, arguments: Mapping[str, Any]) -> ImageInput | ArrayInput:
        """The preprocessing for a network built with `arguments`: an argument `in_channels` of 1 or 3 decides the channels."""
        channels = arguments.get("in_channels")
        if not isinstance(self.input, ImageInput) or channels in (None, self.input.channels):
            return self.input
        rules = self.input
        return replace(rules, channels=channels, mean=_first_of(rules.mean), std=_first_of(rules.std))

    def create(self, arguments: Mapping[str, Any] | None = None) -> nn.Module:
        """Build it with `arguments` over the defaults. Raises `InputError` for an unknown one or an unusable value."""
        arguments = dict(arguments or {})
        for name in arguments:
            if name not in self.defaults:
                raise UnknownName.among(f"argument of {self.name}", name, self.defaults)
        try:
            return self.build(**{**self.defaults, **arguments})
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"cannot build {self.name} with {arguments}: {error}", "see its file for what the arguments mean"
            ) from error


def _first_of(values: tuple[float, ...]) -> tuple[float, ...]:
    """One value for every channel, since per-channel values of other channels mean nothing."""
    return values[:1]


REGISTRY: dict[str, Architecture] = {}


def register(
    name: str,
    *,
    input: ImageInput | ArrayInput,  # noqa: A002
    recipe: Recipe = Recipe(),
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Decorate a function or class that builds a network; its keyword defaults become the arguments that users may set.

    The first line of its docstring is the summary in `deploykit list architectures`. A name can be registered once.
    """

    def decorate(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in REGISTRY:
            raise ValueError(f"the architecture {name!r} is registered twice: {REGISTRY[name].build} and {build}")
        parameters = inspect.signature(build).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        summary = (inspect.getdoc(build) or "").split("\n")[0]
        REGISTRY[name] = Architecture(name, build, input, recipe, summary, defaults)
        return build

    return decorate
