"""What the files of this folder register, read from their source: a list of networks needs no PyTorch, none of their code is run.

A file that says it in another way than with plain values, such as a loop around `register`, is imported instead.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from deploykit import plugins
from deploykit.architectures._recipe import Recipe
from deploykit.runtime.contract import ArrayInput, ImageInput

PACKAGE = __name__.rpartition(".")[0]
Made = TypeVar("Made")
_MAKERS: dict[str, Any] = {"ImageInput": ImageInput, "ArrayInput": ArrayInput, "Recipe": Recipe}


@dataclass(frozen=True)
class Entry:
    """One network. `module`: the name of its file in Python. `params` and `macs`: `None` where the file does not say them."""

    name: str
    module: str
    summary: str
    input: ImageInput | ArrayInput
    recipe: Recipe
    params: int | None = None
    macs: int | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Without the batch: (channels, height, width) for images."""
        if isinstance(self.input, ImageInput):
            return (self.input.channels, self.input.height, self.input.width)
        return tuple(size or 1 for size in self.input.shape)


class _NotPlain(Exception):
    """The source says it in another way than with plain values."""


@dataclass(frozen=True)
class Catalogue:
    """`entries`: the networks of this folder's files by name. `unread`: the modules that have to be imported to know theirs."""

    entries: Mapping[str, Entry]
    unread: tuple[str, ...] = ()


@cache
def read() -> Catalogue:
    """What the files of this folder register."""
    found: dict[str, Entry] = {}
    unread: list[str] = []
    for plugin in plugins.names(PACKAGE):
        module = f"{PACKAGE}.{plugin.replace('-', '_')}"
        try:
            entries = list(_entries(module))
        except (_NotPlain, OSError, SyntaxError, UnicodeError, RecursionError):
            entries = []
        found |= {entry.name: entry for entry in entries}
        if not entries:
            unread.append(module)
    return Catalogue(found, tuple(unread))


def _entries(module: str) -> Iterator[Entry]:
    """What the functions and classes at the top of a file are registered as."""
    tree = _parsed(module)
    scope = _scope(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register":
                    words = {word.arg or "": _value(word.value, scope) for word in call.keywords}
                    name = _value(call.args[0], scope) if call.args else words.pop("name")
                    summary = (ast.get_docstring(node) or "").split("\n")[0]
                    yield _called(Entry, {"name": name, "module": module, "summary": summary, "recipe": Recipe(), **words})


def _parsed(module: str) -> ast.Module:
    return ast.parse(Path(__file__).with_name(f"{module.rpartition('.')[2]}.py").read_text("utf-8"))


def _scope(tree: ast.Module) -> dict[str, Callable[[], Any]]:
    """The names at the top of a file whose values can be told: assigned there, or taken from another file of this folder."""
    scope: dict[str, Callable[[], Any]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            scope[node.targets[0].id] = partial(_value, node.value, scope)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            for alias in node.names:
                scope[alias.asname or alias.name] = partial(_elsewhere, node.module or "", alias.name)
    return scope


def _elsewhere(module: str, name: str) -> Any:
    scope = _scope(_parsed(module))
    if name not in scope:
        raise _NotPlain(name)
    return scope[name]()


def _value(node: ast.expr, scope: Mapping[str, Callable[[], Any]]) -> Any:
    """What an expression of literals, of names for such expressions, and of `ImageInput`, `ArrayInput` and `Recipe` comes to."""
    if isinstance(node, ast.Name) and node.id in scope:
        return scope[node.id]()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _MAKERS and not node.args:
        return _called(_MAKERS[node.func.id], {word.arg or "": _value(word.value, scope) for word in node.keywords})
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise _NotPlain(ast.dump(node)) from error


def _called(make: Callable[..., Made], words: Mapping[str, Any]) -> Made:
    try:
        return make(**words)
    except TypeError as error:  # a word that it does not know
        raise _NotPlain(str(error)) from error
