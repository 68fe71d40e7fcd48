"""Packages whose public names load their modules on first use (PEP 562), so that importing a package costs nothing.

::

    if TYPE_CHECKING:
        from deploykit.runtime.predictor import Predictor as Predictor    # `as`: type checkers take it for exported

    __getattr__, __dir__, __all__ = attach(__name__, {"predictor": ["Predictor"]})
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


@contextmanager
def naming_extras() -> Iterator[None]:
    """A `ModuleNotFoundError` of the block becomes `DependencyMissing`, where an extra brings the module."""
    try:
        yield
    except ModuleNotFoundError as error:
        from deploykit.errors import DependencyMissing

        missing = DependencyMissing.behind(error)
        if missing is None:
            raise
        raise missing from error


def attach(package: str, names: Mapping[str, Iterable[str]]) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`names`: the public names of `package` by the module below it that has them. Gives `__getattr__`, `__dir__`, `__all__`.

    `__getattr__` raises `AttributeError` for any other name, and `DependencyMissing` where a package of an extra is not installed.
    """
    homes = {name: f"{package}.{module}" for module, found in names.items() for name in found}
    public = sorted(homes)

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        with naming_extras():
            return getattr(import_module(homes[name]), name)

    return load, public.copy, public
