"""How plug-ins are found: one file each, in the package of their kind; the name of the file is the name of the plug-in.

Datasets, backends, report formats and commands are found this way (``fashion_mnist.py`` is ``fashion-mnist``). A file
that starts with an underscore is plumbing. Looking up the names and what each is imports nothing.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from deploykit.errors import UnknownName


@cache
def names(package: str) -> tuple[str, ...]:
    """The plug-ins of a package such as ``"deploykit.datasets"``, sorted; nothing of them is imported."""
    files = (file.stem for file in _folder(package).glob("*.py"))
    return tuple(sorted(stem.replace("_", "-") for stem in files if not stem.startswith("_")))


def summary(package: str, name: str) -> str:
    """What one plug-in is: the first line of its docstring, and so of its file, which is not imported."""
    source = (_folder(package) / f"{name.replace('-', '_')}.py").read_text("utf-8")
    first = source.partition("\n")[0].strip()
    if not first.startswith('"""'):  # a comment comes first; to parse the file takes a hundred times as long
        first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return first.strip('"').strip()


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"{package} is not a package with a folder")
    return Path(spec.origin).parent


def load(package: str, name: str, kind: str) -> ModuleType:
    """The module of one plug-in; an error inside its file surfaces. Raises `UnknownName` with the nearest names."""
    if name not in names(package):
        raise UnknownName.among(kind, name, names(package))
    return import_module(f"{package}.{name.replace('-', '_')}")
