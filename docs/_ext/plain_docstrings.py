"""Docstrings and help texts are written for who reads the source: stars and plurals of `code` in them become reStructuredText."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)


def escaped(text: str) -> str:
    """The text with every `*` outside of code escaped, and a break between code and a letter that follows it."""
    parts = _CODE.split(text)
    for place in range(0, len(parts), 2):
        plain = parts[place].replace("*", r"\*")
        parts[place] = rf"\ {plain}" if place and plain[:1].isalnum() else plain
    return "".join(parts)


def _docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = escaped("\n".join(lines)).split("\n")


def _signature(app: Sphinx, what: str, name: str, obj: object, *_rest: object) -> tuple[str, None] | None:
    """Nothing in brackets after the name of a result: nobody but deploykit makes one, and its fields are listed below."""
    return ("", None) if what == "class" and is_dataclass(obj) and not hasattr(obj, "__post_init__") else None


def _help(app: Sphinx, ctx: object, lines: list[str]) -> None:
    lines[:] = escaped("\n".join(lines)).split("\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Listen where autodoc and sphinx-click hand over what they found."""
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("sphinx-click-process-description", _help)
    return {"parallel_read_safe": True, "version": "1"}
