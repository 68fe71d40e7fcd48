"""What forward passes leave behind in a network's Python: a table that has grown, a counter, a flag that says that it is set up.

A file is made from what a network was before anybody called it: a table of positions that is made on the first call, for as many
positions as are there, would be one of a fixed length otherwise. Weights that only the first call writes are not the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn.parameter import is_lazy

_OWN = frozenset(vars(nn.Module()))  # what every module has
_ABSENT = object()
_Place = tuple[str, str]  # path of the part, name of its attribute


@dataclass
class _Left:
    """`before`: what attributes were before the first pass that changed them. `written`: parameters and buffers."""

    before: dict[_Place, Any] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)


_LEFT: WeakKeyDictionary[nn.Module, _Left] = WeakKeyDictionary()


@contextmanager
def watched(module: nn.Module) -> Iterator[None]:
    """Keep what a forward pass within the block changes, where it succeeds; a pass that gives weights their shapes is none."""
    if module.training or any(map(is_lazy, module.parameters())):
        yield
        return
    before, known = _attributes(module), versions(module)
    yield
    left = _LEFT.setdefault(module, _Left())
    after = _attributes(module)
    for place in before.keys() | after.keys():
        if not _same(before.get(place, _ABSENT), after.get(place, _ABSENT)):
            left.before.setdefault(place, before.get(place, _ABSENT))
    left.written |= {name for name, version in versions(module).items() if known.get(name, version) != version}


def written(module: nn.Module) -> set[str]:
    """The parameters and buffers that forward passes wrote to so far."""
    left = _LEFT.get(module)
    return set(left.written) if left else set()


@contextmanager
def uncalled(module: nn.Module) -> Iterator[bool]:
    """The attributes of a network are within the block what they were before its first pass; gives whether any is another one."""
    left = _LEFT.get(module)
    parts = dict(module.named_modules())
    places = {place: value for place, value in left.before.items() if place[0] in parts} if left else {}
    now = {(path, name): vars(parts[path]).get(name, _ABSENT) for path, name in places}
    try:
        for (path, name), value in places.items():
            _set(parts[path], name, _copied(value))
        yield bool(places)
    finally:
        for (path, name), value in now.items():
            _set(parts[path], name, value)


def _attributes(module: nn.Module) -> dict[_Place, Any]:
    return {
        (path, name): _copied(value)
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if name not in _OWN
    }


def _copied(value: Any) -> Any:
    """A container as it is now, whatever is put into it later; anything else itself."""
    return value.copy() if type(value) in (dict, list, set) else value


def _same(left: Any, right: Any) -> bool:
    if left is right:
        return True
    if type(left) is not type(right) or type(left) not in (dict, list, set):
        return False
    return len(left) == len(right) and list(map(id, _parts(left))) == list(map(id, _parts(right)))


def _parts(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else list(container)


def _set(part: nn.Module, name: str, value: Any) -> None:
    if value is _ABSENT:
        vars(part).pop(name, None)
    else:
        vars(part)[name] = value


def versions(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Per parameter and buffer: which tensor it is, and how often that was written to."""
    stored = (*module.named_parameters(), *module.named_buffers())
    return {name: (id(tensor), 0 if tensor.is_inference() else tensor._version) for name, tensor in stored}
