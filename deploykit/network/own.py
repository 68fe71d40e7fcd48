"""Networks that are not deploykit's own, by name: `torchvision:NAME` and `package.module:callable`, to be trained and rebuilt.

A checkpoint names the network that it belongs to, and it may be a stranger's. So a file alone gets a callable called only if that
is a class of `torch.nn.Module`, or a function whose annotation says that it returns one; and its module imported only if the
source, which is read first, defines something of that name. Whatever else makes a network has to be named by the user.
"""

from __future__ import annotations

import ast
import sys
import tokenize
import typing
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from typing import Any

from torch import nn

from deploykit.architectures import Architecture, Recipe
from deploykit.errors import CheckpointError, DependencyMissing, InputError, UnknownName, kind_of
from deploykit.network import heads
from deploykit.network.factories import call, current_folder_importable, import_callable
from deploykit.network.heads import Head
from deploykit.network.request import Target
from deploykit.runtime.contract import ArrayInput, ImageInput

Factory = Callable[..., Any]


def is_own(name: str) -> bool:
    """Whether a name is that of a network that deploykit does not register itself."""
    return Target.parse(name).kind in ("torchvision", "callable")


def factory_of(name: str) -> Factory:
    """What makes the network that the user named. Raises `UnknownName`, `InputError`, `DependencyMissing`."""
    target = Target.parse(name)
    if target.kind == "torchvision":
        return _torchvision(target.name)
    with current_folder_importable():
        found = import_callable(target, name)
    if isinstance(found, nn.Module) or not callable(found):
        kind = "a network already" if isinstance(found, nn.Module) else kind_of(found)
        raise InputError(f"{name} is {kind}, and fresh ones are needed", "name the class or function that makes it")
    factory: Factory = found
    return factory


def known_as(name: str, factory: Factory) -> str:
    """`name` by the module in which its callable is defined, if it can be imported from there: what checkpoints record."""
    module, attribute = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if Target.parse(name).kind == "torchvision" or not isinstance(module, str) or not isinstance(attribute, str):
        return name
    there = getattr(sys.modules.get(module), attribute, None) is factory
    return f"{module}:{attribute}" if there else name


def architecture(
    name: str, factory: Factory, rules: ImageInput | ArrayInput, recipe: Recipe, arguments: Mapping[str, Any], head: Head | None
) -> Architecture:
    """A network of the user's own as if it were registered: built with `arguments`, with `head` in the place of its own."""

    def build(**given: Any) -> nn.Module:
        with current_folder_importable():
            module = call(factory, given, name)
        if head is not None:
            heads.replace(module, head)
        return module

    return Architecture(name, build, rules, recipe, "", defaults=dict(arguments))


def rebuilt(
    name: str, rules: ImageInput | ArrayInput, arguments: Mapping[str, Any], head: Head | None, factory: Factory | None
) -> Architecture:
    """The network that a checkpoint names; `factory` is what the user named, if anything. Raises `CheckpointError`."""
    if factory is None:
        with current_folder_importable():
            factory = _vouched_for(name)
    return architecture(name, factory, rules, Recipe(), arguments, head)


def _torchvision(name: str) -> Factory:
    try:
        from torchvision import models
    except ImportError as error:
        raise DependencyMissing.of("torchvision", "export") from error
    known = list(models.list_models(module=models))
    if name not in known:
        raise UnknownName.among("torchvision network", name, known)
    builder: Factory = models.get_model_builder(name)
    return builder


def _vouched_for(name: str) -> Factory:
    """The callable that a checkpoint names, if it may be called. Raises `CheckpointError`."""
    target = Target.parse(name)
    if target.kind == "torchvision":
        return _torchvision(target.name)
    hint = f"name it, if you trust it: {name[:80]} as TARGET, and the file with --checkpoint"
    if target.package not in sys.modules and not _defines(target.package, target.name):
        problem = f"the checkpoint is of {name[:80]!r}, and there is no such class or function here"
        raise CheckpointError(problem, "run this where it was trained, in the folder with that file")
    try:
        found = import_callable(target, name)
    except InputError as error:
        raise CheckpointError(f"the checkpoint is of {name[:80]!r}: {error.problem}", error.hint) from error
    if not _makes_modules(found):
        raise CheckpointError(
            f"the checkpoint is of {name[:80]!r}, which does not say that it makes networks; a file may not choose what code runs",
            hint,
        )
    factory: Factory = found
    return factory


def _defines(module: str, attribute: str) -> bool:
    """Whether the source of a module, which is not imported for it, has a class or function of that name; never of Python's own."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return False
    spec = _located(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return False
    try:
        with tokenize.open(spec.origin) as stream:
            tree = ast.parse(stream.read())
    except (OSError, SyntaxError, UnicodeError, ValueError, RecursionError):
        return False
    return any(isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == attribute for node in tree.body)


def _located(module: str) -> ModuleSpec | None:
    """Where a module lies, without importing the packages around it."""
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        path = None if spec is None else spec.submodule_search_locations
        if depth > 1 and path is None:
            return None
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        try:
            spec = next(filter(None, (finder.find_spec(".".join(parts[:depth]), path) for finder in finders)), None)
        except (ImportError, ValueError, AttributeError, OSError):
            spec = None
        if spec is None:
            return None
    return spec


def _makes_modules(found: object) -> bool:
    if isinstance(found, type):
        return issubclass(found, nn.Module)
    if not callable(found) or str(getattr(found, "__module__", "torch")).partition(".")[0] == "torch":
        return False
    try:
        made = typing.get_type_hints(found).get("return")
    except Exception:  # annotations are somebody's code
        return False
    return isinstance(made, type) and issubclass(made, nn.Module)
