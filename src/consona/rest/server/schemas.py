"""The JSON Schemas of declared types, as msgspec writes them, with what it knows and leaves out.

- A `datetime` or `time` without a word about time zones has no format there; any text would do.
- A `Decimal` has no pattern, and a fixed tuple of a class (`NamedTuple`) may have more items.
- A `timedelta` would be of the format `duration`, which has weeks, and no fractions of a second.

Source: JSON Schema 2020-12, validation, section 7.3.1 (formats of times).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect as mi

__all__ = ["Schemas", "as_text"]

_REFERENCE: Final = "#/components/schemas/{name}"
DECIMAL: Final = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,6})?$"
_SECONDS: Final = r"[0-9]{1,7}(\.[0-9]{1,6})?S"
DURATION: Final = (
    r"^P([0-9]{1,7}D|([0-9]{1,7}D)?T([0-9]{1,7}H([0-9]{1,7}M)?(SECONDS)?|[0-9]{1,7}M(SECONDS)?|SECONDS))$"
).replace("SECONDS", _SECONDS)
_FORMATS: Final = {mi.DateTimeType: "date-time", mi.TimeType: "time"}
_CLASSES: Final = (mi.StructType, mi.DataclassType, mi.TypedDictType, mi.NamedTupleType)


class Schemas:
    """The schemas of all types of a document, asked for in one call, so that shared ones have one name.

    Args:
        types: The types.
    """

    def __init__(self, types: Iterable[Any]) -> None:
        types = list(types)
        known = list(_walk(mi.multi_type_info(types)))
        classes = list({info.cls: info for info in known if isinstance(info, _CLASSES)}.values())
        found, self.components = msgspec.json.schema_components(
            [*types, *(info.cls for info in classes)], ref_template=_REFERENCE, schema_hook=lambda _: {}
        )
        self._found = list(zip(types, found, strict=False))
        for info, schema in zip(mi.multi_type_info(types), found, strict=False):
            _add_formats(info, schema)
        for info, reference in zip(classes, found[len(types) :], strict=True):
            component = self.components.get(str(reference.get("$ref", "")).rpartition("/")[2], {})
            named, placed = component.get("properties", {}), component.get("prefixItems", ())
            for field in info.fields:
                _add_formats(field.type, named.get(getattr(field, "encode_name", field.name), {}))
            for field, inner in zip(info.fields, placed, strict=False):
                _add_formats(field.type, inner)
        for schema in (*found, *self.components.values()):
            _complete(schema)

    def of(self, declared: Any) -> dict[str, Any]:
        """The schema of one of the types."""
        return next(schema for kind, schema in self._found if kind is declared or kind == declared)


def as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what arrives as text, where times may be numbers too: seconds, or seconds since 1970 (UTC)."""
    if schema.get("format") == "date-time":
        return {"anyOf": [schema, {"type": "number", "minimum": -62_135_596_800, "maximum": 253_402_300_799}]}
    if schema.get("pattern") == DURATION:
        return {"anyOf": [schema, {"type": "number", "minimum": -86_399_999_913_600, "maximum": 86_399_999_999_999}]}
    if isinstance(schema.get("items"), dict):
        return {**schema, "items": as_text(schema["items"])}
    return dict(schema)


def _walk(infos: Iterable[Any]) -> Iterator[Any]:
    """Each type that is met on the way down, once."""
    seen: set[int] = set()
    waiting = list(infos)
    while waiting:
        info = waiting.pop()
        if id(info) in seen:
            continue
        seen.add(id(info))
        yield info
        waiting += _members(info)


def _members(info: Any) -> list[Any]:
    if isinstance(info, mi.Metadata):
        return [info.type]
    if isinstance(info, mi.UnionType):
        return list(info.types)
    if isinstance(info, mi.DictType):
        return [info.value_type]
    if isinstance(info, mi.TupleType):
        return list(info.item_types)
    if isinstance(info, _CLASSES):
        return [field.type for field in info.fields]
    item = getattr(info, "item_type", None)
    return [] if item is None else [item]


def _add_formats(info: Any, schema: dict[str, Any]) -> None:
    """Say which text is a time, in a schema that is written out (references are completed by themselves)."""
    if isinstance(info, mi.Metadata):
        _add_formats(info.type, schema)
    elif isinstance(info, mi.UnionType):
        choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") == "string"]
        times = [member for member in info.types if type(member) in _FORMATS]
        if len(choices) == len(times) == 1:
            _add_formats(times[0], choices[0])
    elif isinstance(info, mi.DateTimeType | mi.TimeType):
        if info.tz is not False and schema.get("type") == "string":
            schema.setdefault("format", _FORMATS[type(info)])
    elif isinstance(info, mi.DictType):
        if isinstance(schema.get("additionalProperties"), dict):
            _add_formats(info.value_type, schema["additionalProperties"])
    elif isinstance(info, mi.TupleType):
        for member, inner in zip(info.item_types, schema.get("prefixItems", ()), strict=False):
            _add_formats(member, inner)
    elif getattr(info, "item_type", None) is not None and isinstance(schema.get("items"), dict):
        _add_formats(info.item_type, schema["items"])


def _complete(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            schema.setdefault("pattern", DECIMAL)
        elif schema.get("format") == "duration":
            del schema["format"]
            schema["pattern"] = DURATION
        if "prefixItems" in schema:
            schema.setdefault("items", False)
        for member in schema.values():
            _complete(member)
    elif isinstance(schema, list):
        for member in schema:
            _complete(member)
