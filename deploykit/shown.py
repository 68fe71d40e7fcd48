"""Results that show themselves: `print(result)` is the table that the command prints, and a notebook shows its report.

The view that turns a result into a report lies in a layer above it, and is loaded by its name when somebody looks, not before:
a result costs nothing to import, and knows no terminal.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, ClassVar

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Shown:
    """Mixed into a result. `_view`: the file in `deploykit/views/` whose `report(result)` is what there is to see."""

    __slots__ = ()
    _view: ClassVar[str]

    def __str__(self) -> str:
        """The table, without colours; the short form where the library that draws tables is not installed."""
        try:
            text: str = import_module("deploykit.reports").render(self._report(), "table")
        except ImportError:
            return repr(self)
        return _COLOURS.sub("", text)

    def _repr_html_(self) -> str:
        """What Jupyter shows."""
        html: str = import_module("deploykit.reports").fragment(self._report())
        return html

    def _report(self) -> Any:
        return import_module(f"deploykit.views.{self._view}").report(self)
