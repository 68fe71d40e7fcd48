"""Files of the user's own that register architectures: `--module FILE`. Such a file is code, and is run like any script.

The files stand in an environment variable while they are used, so that the processes that deploykit starts know the same networks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

from deploykit.errors import InputError, first_line

VARIABLE = "DEPLOYKIT_MODULE"
REGISTRY = f"{__name__.rpartition('.')[0]}._registry"
PREFIX = "deploykit_module_"
HOW = "it has to be a Python file that uses deploykit.architectures.register"

_loaded: dict[Path, list[str]] = {}  # the names that each file registered


@contextlib.contextmanager
def using(file: Path) -> Iterator[None]:
    """Within the block the architectures that `file` registers are known, here and in processes that are started.

    Raises `InputError` for a file that is not there, is no Python, raises, or registers nothing.
    """
    before = os.environ.get(VARIABLE)
    path = file.resolve()
    mine = path not in _loaded
    _load(path, str(file))
    os.environ[VARIABLE] = str(path) if not before else os.pathsep.join([before, str(path)])
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
        if mine:
            _forget(path)


def load() -> None:
    """Run the files that the environment names, each once. Raises `InputError` as `using` does."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        _load(Path(name).resolve(), name)


def _load(path: Path, shown: str) -> None:
    if path in _loaded:
        return
    if not path.is_file():
        raise InputError(f"the module {shown} is not there", HOW)
    from deploykit.architectures import _registry

    known = set(_registry.REGISTRY)
    name = f"{PREFIX}{path.stem}"
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise InputError(f"the module {shown} cannot be loaded", HOW)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _loaded[path] = []  # what it imports may ask for the architectures, too
    sys.path.insert(0, str(path.parent))
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _loaded[path] = [each for each in _registry.REGISTRY if each not in known]
        _forget(path)
        raise InputError(f"running the module {shown} raised {type(error).__name__}: {first_line(error)}", HOW) from error
    finally:
        if str(path.parent) in sys.path:
            sys.path.remove(str(path.parent))
    _loaded[path] = [each for each in _registry.REGISTRY if each not in known]
    if not _loaded[path]:
        _forget(path)
        raise InputError(f"the module {shown} registers no architecture", "decorate a class or function in it with @register")


def _forget(path: Path) -> None:
    registry = getattr(sys.modules.get(REGISTRY), "REGISTRY", {})
    for name in _loaded.pop(path, []):
        registry.pop(name, None)
    sys.modules.pop(f"{PREFIX}{path.stem}", None)
