"""The callables that make networks: found by `package.module:callable`, called with arguments, one line where that fails."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from deploykit.errors import CheckpointError, InputError, kind_of
from deploykit.network import ready_made
from deploykit.network.request import Target


@contextlib.contextmanager
def current_folder_importable() -> Iterator[None]:
    """Modules in the current folder come before all others within the block.

    Not longer: a file there would stand in for any library of that name which is imported later. What a network imports from
    beside it while it runs is for the process to make importable, as the command line does.
    """
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:  # the user's code may have taken it off
            sys.path.remove(here)


def import_callable(found: Target, target: str) -> Any:
    """The callable of a TARGET, from the current folder or wherever else Python finds its module."""
    module_name, attribute = found.package, found.name
    _require_name(module_name, attribute, target)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if missing == module_name or module_name.startswith(f"{missing}."):
            hint = "is the file in this folder or installed?"
            if module_name.endswith(".py"):
                module_name = module_name.removesuffix(".py").replace("/", ".")
                hint = f"give the name of the module, without the ending: {module_name}:{attribute}"
            raise InputError(f"cannot import {found.package!r} for {target}", hint) from error
        raise InputError(f"{target} needs the package {missing!r}, which is not installed", f"pip install {missing}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"importing {module_name!r} for {target} raised {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        near = difflib.get_close_matches(attribute, public, n=3)
        raise InputError(f"{module_name!r} has no {attribute!r}", f"did you mean {', '.join(near)}?" if near else "")
    return getattr(module, attribute)


def _require_name(module: str, attribute: str, target: str) -> None:
    """Raise `InputError` for a path where the name of a module belongs; one that ends in ``.py`` is told apart later."""
    if module.endswith(".py") or not ("/" in module or "\\" in module or module.startswith(".")):
        return
    path = Path(module)
    place = f" in the folder {path.parent}" if path.parent != Path() else ""
    hint = f"give {path.name.lstrip('.')}:{attribute}{place}, where its file lies"
    raise InputError(f"cannot import {module!r} for {target}: that is no name of a module", hint)


def call(factory: Any, arguments: Mapping[str, Any], target: str) -> nn.Module:
    """The module that `factory` makes of `arguments`, out of its wrappers. Raises `InputError` for whatever it raises."""
    if not callable(factory):
        raise InputError(f"{target} is no callable but {kind_of(factory)}", "name a class or function that returns a module")
    try:
        module = factory(**arguments)
    except CheckpointError:  # of the guard within which a stranger's network is built
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"calling {target} raised {type(error).__name__}: {error}", "pass arguments with --arg key=value"
        ) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{target} returned {kind_of(module)}, not a torch.nn.Module")
    return ready_made.unwrapped(module, target)
