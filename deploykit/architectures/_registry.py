"""What an architecture is, and how its file registers it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from deploykit.architectures import _catalogue
from deploykit.architectures._catalogue import Entry
from deploykit.architectures._recipe import Recipe
from deploykit.errors import InputError, UnknownName
from deploykit.runtime.contract import ArrayInput, ImageInput


@dataclass(frozen=True)
class Architecture:
    """One trainable network: `build(**arguments)` makes it with fresh weights."""

    name: str
    build: Callable[..., nn.Module]
    input: ImageInput | ArrayInput
    recipe: Recipe
    summary: str
    params: int | None = None
    macs: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Without the batch: (channels, height, width) for images."""
        return self.entry.input_shape

    @property
    def entry(self) -> Entry:
        """What a list says of it."""
        return Entry(self.name, self.build.__module__, self.summary, self.input, self.recipe, self.params, self.macs)

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
    recipe: Recipe | None = None,
    params: int | None = None,
    macs: int | None = None,
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Decorate a function or class that builds a network; its keyword defaults become the arguments that users may set.

    The first line of its docstring is the summary in `deploykit list architectures`, and `params` and `macs` (elements of all
    parameters, multiply-accumulates for one sample) are its figures there; without them they are counted, which takes PyTorch and
    seconds. A name can be registered once.
    """

    def decorate(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        shipped = _catalogue.read().entries.get(name)
        if name in REGISTRY or (shipped is not None and shipped.module != build.__module__):
            other = REGISTRY[name].build if name in REGISTRY else shipped
            raise ValueError(f"the architecture {name!r} is registered twice: {other} and {build}")
        parameters = inspect.signature(build).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        summary = (inspect.getdoc(build) or "").split("\n")[0]
        REGISTRY[name] = Architecture(name, build, input, recipe or Recipe(), summary, params, macs, defaults)
        return build

    return decorate
