"""How plug-ins are found: one file each, in the package of their kind; the name of the file is the name of the plug-in.

Datasets, backends, report formats and commands are found this way (``fashion_mnist.py`` is ``fashion-mnist``). A file
that starts with an underscore is plumbing. Looking up the names imports nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from deploykit.errors import UnknownName


@cache
def names(package: str) -> tuple[str, ...]:
    """The plug-ins of a package such as ``"deploykit.datasets"``, sorted; nothing of them is imported."""
    home = import_module(package).__file__
    if home is None:
        raise ImportError(f"{package} is not a package with a folder")
    files = (file.stem for file in Path(home).parent.glob("*.py"))
    return tuple(sorted(stem.replace("_", "-") for stem in files if not stem.startswith("_")))


def load(package: str, name: str, kind: str) -> ModuleType:
    """The module of one plug-in; an error inside its file surfaces. Raises `UnknownName` with the nearest names."""
    if name not in names(package):
        raise UnknownName.among(kind, name, names(package))
    return import_module(f"{package}.{name.replace('-', '_')}")
