"""The networks that can be trained by name: one family per file, each file registers its networks.

A new architecture is one new file here::

    @register("toy", input=ImageInput(channels=1, height=28, width=28), recipe=Recipe(epochs=5))
    class Toy(nn.Module):
        \"\"\"A summary line for `deploykit list`.\"\"\"

        def __init__(self, classes: int = 10) -> None: ...
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from deploykit import plugins
from deploykit.architectures._registry import REGISTRY, Architecture, Recipe, register
from deploykit.errors import UnknownName
from deploykit.runtime.contract import ArrayInput, ImageInput

__all__ = ["Architecture", "ArrayInput", "ImageInput", "Recipe", "get", "names", "register"]


@cache
def names() -> tuple[str, ...]:
    """Every registered architecture, sorted; imports every file of this folder."""
    for module in plugins.names(__name__):
        import_module(f"{__name__}.{module.replace('-', '_')}")
    return tuple(sorted(REGISTRY))


def get(name: str) -> Architecture:
    """The architecture of that name. Raises `UnknownName` with the nearest ones."""
    if name not in names():
        raise UnknownName.among("architecture", name, names(), "`deploykit list architectures` shows all")
    return REGISTRY[name]
