"""Which structs of a union can be told apart, and by what.

msgspec tells structs apart by one field (the tag) that each has with a value of its own. A document says
which by a `discriminator`, or does so without saying: each member has a property with one constant value.

Source: OpenAPI 3.1.1, "Discriminator Object"; https://jcristharif.com/msgspec/structs.html#tagged-unions
"""

from __future__ import annotations

from typing import Any

from consona.rest.openapi_client.document import Document, child
from consona.rest.openapi_client.merging import merge
from consona.rest.openapi_client.typed import StructModel

__all__ = ["Tagging"]

SCHEMAS = "#/components/schemas"


class Tagging:
    """Gives structs their tags."""

    def __init__(self, document: Document, structs: dict[str, StructModel]) -> None:
        self._document = document
        self._structs = structs
        self._children: dict[str, list[str]] | None = None

    def tag(self, names: list[str], discriminator: Any, pointer: str) -> bool:
        """Tag these structs, so that a union of them can be read. False where nothing tells them apart."""
        found = self._declared(names, discriminator, pointer) if isinstance(discriminator, dict) else None
        found = found or self._implied(names)
        if found is None:
            return False
        property_name, values = found
        for name, value in values.items():
            before = self._structs[name].tag
            if before is not None and before != (property_name, value):
                self._document.note(pointer, f"{name} would need two tags, {before[0]!r} and {property_name!r}")
                return False
        for name, value in values.items():
            self._structs[name].tag = (property_name, value)
        return True

    def _declared(self, names: list[str], discriminator: Any, pointer: str) -> tuple[str, dict[str, str | int]] | None:
        property_name = discriminator.get("propertyName")
        if not isinstance(property_name, str) or not property_name:
            self._document.note(child(pointer, "discriminator"), "has no `propertyName`; it is left out")
            return None
        mapping = discriminator.get("mapping")
        by_pointer: dict[str, list[str]] = {}
        for value, target in mapping.items() if isinstance(mapping, dict) else ():
            place = target if isinstance(target, str) and target.startswith("#") else child(SCHEMAS, str(target))
            by_pointer.setdefault(place, []).append(value)
        values: dict[str, str | int] = {}
        for name in names:
            place = self._structs[name].pointer
            declared = by_pointer.get(place) or self._constant(name, property_name) or [place.rpartition("/")[2]]
            if len(declared) > 1:
                self._document.note(pointer, f"{name} has several values of {property_name!r}; a tag can have one")
                return None
            values[name] = declared[0]
        return (property_name, values) if len(set(values.values())) == len(values) else None

    def _constant(self, name: str, property_name: str) -> list[Any]:
        """The one value that a property of a struct can have; empty where it can have several."""
        schema, pointer = self._structs[name].raw.get(property_name, (None, ""))
        if not isinstance(schema, dict):
            return []
        merged = merge(self._document, *self._document.resolve(schema, pointer)).keywords
        values = [merged["const"]] if "const" in merged else merged.get("enum")
        if isinstance(values, list) and len(values) == 1 and type(values[0]) in {str, int}:
            return values
        return []

    def _implied(self, names: list[str]) -> tuple[str, dict[str, str | int]] | None:
        for wire in self._structs[names[0]].raw:
            values = {name: self._constant(name, wire) for name in names if wire in self._structs[name].required}
            if len(values) == len(names) and all(values.values()):
                found = {name: value[0] for name, value in values.items()}
                if len(set(found.values())) == len(names) and len({type(value) for value in found.values()}) == 1:
                    return wire, found
        return None

    def children_of(self, pointer: str) -> list[str]:
        """The schemas that extend this one by `allOf`, in the document's order."""
        if self._children is None:
            self._children = {}
            for name, schema in self._document.part("components", "schemas").items():
                members = schema.get("allOf") if isinstance(schema, dict) else None
                for member in members if isinstance(members, list) else ():
                    if isinstance(member, dict) and isinstance(member.get("$ref"), str):
                        self._children.setdefault(member["$ref"], []).append(child(SCHEMAS, name))
        return self._children.get(pointer, [])
