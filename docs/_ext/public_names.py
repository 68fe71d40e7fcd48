"""Directives that look into deploykit itself, so that no page lists what is not there: `public-names` and `exit-statuses`.

::

    ```{public-names} deploykit
    :kind: functions
    :but: deploykit.runtime
    ```
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from deploykit import errors, plugins

KINDS = {"functions": "autofunction", "classes": "autoclass", "exceptions": "autoexception"}


def kind_of(value: object) -> str | None:
    """One of `KINDS`, or `None` for what is no interface to call, such as a version or a type alias."""
    if inspect.isclass(value):
        return "exceptions" if issubclass(value, Exception) else "classes"
    return "functions" if inspect.isfunction(value) else None


def names_of(package: str, kind: str, but: str = "") -> list[str]:
    """The public names of that kind in a package, without those that the package `but` has, too."""
    module = importlib.import_module(package)
    others = set(importlib.import_module(but).__all__) if but else set()
    return [name for name in sorted(module.__all__) if name not in others and kind_of(getattr(module, name)) == kind]


class PublicNames(Directive):
    """Every public function, class or exception of a package, with its docstring."""

    required_arguments = 1
    option_spec = {"kind": lambda text: directives.choice(text, tuple(KINDS)), "but": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """What autodoc makes of each name, one after the other."""
        package, kind = self.arguments[0], self.options["kind"]
        lines = StringList()
        for name in names_of(package, kind, self.options.get("but", "")):
            lines.append(f".. {KINDS[kind]}:: {package}.{name}", f"{package}.{name}")
            lines.append("", package)
        return _parsed_as_rst(self, lines)


class ExitStatuses(Directive):
    """A table of the exit statuses and the exceptions that become each."""

    def run(self) -> list[nodes.Node]:
        """The table."""
        lines = [".. list-table::", "   :header-rows: 1", "", "   * - status", "     - exception", "     - when"]
        for error in _tree(errors.DeploykitError):
            when = (inspect.getdoc(error) or "").splitlines()[0]
            lines += [f"   * - {error.exit_status}", f"     - :class:`~deploykit.errors.{error.__name__}`", f"     - {when}"]
        return _parsed_as_rst(self, StringList(lines, "exit statuses"))


def _tree(error: type[errors.DeploykitError]) -> Iterator[type[errors.DeploykitError]]:
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _tree(child)


def _parsed_as_rst(directive: Directive, lines: StringList) -> list[nodes.Node]:
    """The nodes of some reStructuredText; the pages around it are Markdown, whose parser has a directive for that."""
    holder = nodes.container()
    wrapped = StringList(["```{eval-rst}", *lines, "```"], "public names")
    directive.state.nested_parse(wrapped, 0, holder)
    return holder.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, and call the commands what users call them: by the names of their files."""
    for name in plugins.names("deploykit.cli"):
        plugins.load("deploykit.cli", name, "command").command.name = name
    app.add_directive("public-names", PublicNames)
    app.add_directive("exit-statuses", ExitStatuses)
    return {"parallel_read_safe": True, "version": "1"}
