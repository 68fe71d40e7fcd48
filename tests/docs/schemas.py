"""The JSON Schemas of `docs/schemas/`, and the same made strict: a key that no schema knows is a gap in the documentation."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """The schema of that name."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def strict(schema: Any) -> Any:
    """The schema with no further keys allowed where keys are named."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    return {**found, "additionalProperties": False} if isinstance(found.get("properties"), dict) and "required" in found else found


def validate(name: str, document: Any) -> None:
    """Raise `jsonschema.ValidationError` unless the document is what the schema says, and no more."""
    import jsonschema
    from referencing import Registry, Resource

    registry = Registry().with_resources((f"{each}.json", Resource.from_contents(strict(load(each)))) for each in NAMES)
    jsonschema.Draft202012Validator(strict(load(name)), registry=registry).validate(document)


def validate_command(command: str, document: Any) -> None:
    """The same for what a command line printed; nothing where jsonschema is not installed."""
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        return
    validate(shlex.split(command)[1], document)
