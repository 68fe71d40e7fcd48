"""The networks that can be trained by name: one family per file, each file registers its networks.

A new architecture is one new file here::

    @register("toy", input=ImageInput(channels=1, height=28, width=28), recipe=Recipe(epochs=5))
    class Toy(nn.Module):
        \"\"\"A summary line for `deploykit list`.\"\"\"

        def __init__(self, classes: int = 10) -> None: ...

What there is, is read from the source of the files; PyTorch is loaded with the first network that is built.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from deploykit.architectures import _catalogue, _modules
from deploykit.architectures._catalogue import Entry
from deploykit.architectures._modules import using
from deploykit.architectures._recipe import Recipe
from deploykit.errors import UnknownName
from deploykit.lazy import attach
from deploykit.runtime.contract import ArrayInput, ImageInput

if TYPE_CHECKING:
    from deploykit.architectures._registry import Architecture as Architecture
    from deploykit.architectures._registry import register as register

__getattr__ = attach(__name__, {"_registry": ["Architecture", "register"]})[0]
__all__ = ["Architecture", "ArrayInput", "Entry", "ImageInput", "Recipe", "entry", "get", "names", "register", "using"]


def names() -> tuple[str, ...]:
    """Every registered architecture, sorted: those of the files in this folder, and what the program registered itself."""
    return tuple(sorted({*_catalogue.read().entries, *_registered()}))


def entry(name: str) -> Entry:
    """What a list says of the architecture of that name; nothing is built. Raises `UnknownName` with the nearest ones."""
    _require(name)
    return _catalogue.read().entries.get(name) or _registered()[name].entry


def get(name: str) -> Architecture:
    """The architecture of that name. Raises `UnknownName` with the nearest ones."""
    _require(name)
    if name in _catalogue.read().entries:
        import_module(_catalogue.read().entries[name].module)
    return _registered()[name]


def _require(name: str) -> None:
    if name not in names():
        raise UnknownName.among("architecture", name, names(), "`deploykit list architectures` shows all")


def _registered() -> dict[str, Architecture]:
    """What was registered so far in this process, by the user's own files, and by those whose source does not tell."""
    _modules.load()
    for module in _catalogue.read().unread:
        import_module(module)
    registry = sys.modules.get(f"{__name__}._registry")
    return {} if registry is None else registry.REGISTRY
