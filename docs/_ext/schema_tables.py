"""The directive `json-schema`: a JSON Schema of `docs/schemas/` as tables of keys, types and meanings.

::

    ```{json-schema} export
    ```
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

SCHEMAS = Path(__file__).parents[1] / "schemas"


class SchemaTables(Directive):
    """One table for the document itself, one for each object within it that has keys of its own."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The tables, each after the place of its object: `checks[]`, `errors`."""
        file = SCHEMAS / f"{self.arguments[0]}.json"
        self.state.document.settings.env.note_dependency(str(file))
        schema = json.loads(file.read_text())
        made: list[nodes.Node] = []
        for place, found in objects(schema, ""):
            if place:
                made.append(nodes.paragraph("", "", nodes.literal(text=place)))
            made.append(_table(found))
        return made


def objects(schema: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with named keys, depth first: its place, such as `checks[]`, and its schema; not what has tables elsewhere."""
    if "$ref" in schema:
        return
    for choice in schema.get("anyOf", ()):
        yield from objects(choice, place)
    if "properties" in schema:
        yield place, schema
        for name, inner in schema["properties"].items():
            yield from objects(inner, f"{place}.{name}".lstrip("."))
    if "items" in schema:
        yield from objects(schema["items"], f"{place}[]")


def _table(schema: dict[str, Any]) -> nodes.table:
    rows = [("key", "type", "what it is")]
    for name, inner in schema["properties"].items():
        rows.append((name, spelled(inner), inner.get("description", "")))
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (22, 22, 56)), cols=3)
    head, body = nodes.thead(), nodes.tbody()
    for place, row in enumerate(rows):
        cells = [nodes.paragraph("", "", *_inline(text, code=place > 0 and column == 0)) for column, text in enumerate(row)]
        (head if place == 0 else body).append(nodes.row("", *(nodes.entry("", cell) for cell in cells)))
    group += [head, body]
    return nodes.table("", group)


def _inline(text: str, code: bool) -> list[nodes.Node]:
    """The text, code between backticks; all of it is code where `code` says so."""
    if code:
        return [nodes.literal(text=text)]
    parts = text.split("`")
    return [nodes.literal(text=part) if place % 2 else nodes.Text(part) for place, part in enumerate(parts) if part]


def spelled(schema: dict[str, Any]) -> str:
    """The type in a word or two: "number or null", "list of string", "`same` or `different`"."""
    reference = schema.get("$ref", "")
    if reference == "#":
        return "such a document"
    if reference.endswith(".json"):
        return f"as of `{reference.removesuffix('.json')}`"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(spelled(choice) for choice in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join("null" if value is None else f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = schema.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "array" in kinds and "items" in schema:
        kinds = [f"list of {spelled(schema['items'])}" if kind == "array" else kind for kind in kinds]
    return " or ".join(kinds)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("json-schema", SchemaTables)
    return {"parallel_read_safe": True, "version": "1"}
