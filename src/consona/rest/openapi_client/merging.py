"""`allOf` resolved: one schema with everything that its members ask for."""

from __future__ import annotations

from typing import Any, Final

from consona.rest.openapi_client.document import Document, child

__all__ = ["Merged", "merge"]

ANNOTATIONS: Final = frozenset({"description", "title", "default", "example", "examples", "deprecated", "externalDocs"})
IGNORED: Final = ANNOTATIONS | {"readOnly", "writeOnly", "xml", "$comment"}


class Merged:
    """A schema without `allOf`; `properties` says where each one stands."""

    __slots__ = ("keywords", "properties", "required")

    def __init__(self) -> None:
        self.keywords: dict[str, Any] = {}
        self.properties: dict[str, tuple[Any, str]] = {}
        self.required: list[str] = []


def merge(document: Document, schema: dict[str, Any], pointer: str) -> Merged:
    """Everything that a schema and its `allOf` members say, at whatever depth."""
    merged = Merged()
    _add(document, merged, schema, pointer, (pointer,))
    return merged


def _add(document: Document, merged: Merged, schema: dict[str, Any], pointer: str, path: tuple[str, ...]) -> None:
    _add_own(document, merged, schema, pointer)
    members = schema.get("allOf", [])
    if not isinstance(members, list):
        document.note(child(pointer, "allOf"), "is no list; it is left out")
        return
    for position, member in enumerate(members):
        if isinstance(member, bool):
            continue
        found, place = document.resolve(member, child(pointer, "allOf", position))
        if place in path:
            document.note(place, "is part of itself by `allOf`; the repetition is left out")
            continue
        _add(document, merged, found, place, (*path, place))
        # What stands beside a reference (3.1) holds too.
        if isinstance(member, dict) and "$ref" in member and len(member) > 1:
            beside = {name: value for name, value in member.items() if name != "$ref"}
            _add_own(document, merged, beside, child(pointer, "allOf", position))


def _add_own(document: Document, merged: Merged, schema: dict[str, Any], pointer: str) -> None:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        document.note(child(pointer, "properties"), "is no object; it is left out")
        properties = {}
    for name, value in properties.items():
        place = child(pointer, "properties", name)
        if name not in merged.properties:
            merged.properties[name] = (value, place)
        elif merged.properties[name][0] != value:
            before, where = merged.properties[name]
            merged.properties[name] = ({"allOf": [before, value]}, where)
    required = schema.get("required", [])
    if isinstance(required, list):
        merged.required += [name for name in required if isinstance(name, str) and name not in merged.required]
    for name, value in schema.items():
        if name in {"allOf", "properties", "required", "discriminator"} or name.startswith("x-"):
            continue
        if name not in merged.keywords:
            merged.keywords[name] = value
        elif name == "enum" and isinstance(value, list):
            merged.keywords[name] = [each for each in merged.keywords[name] if each in value]
        elif name == "nullable":
            merged.keywords[name] = bool(merged.keywords[name] and value)
        elif name in {"oneOf", "anyOf", "not"} and merged.keywords[name] != value:
            document.note(child(pointer, name), f"is one of several `{name}` that hold at once; the first one is used")
