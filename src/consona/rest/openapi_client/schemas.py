"""The schemas of a document as types: structs, literals, lists, unions, as precise as msgspec can check them.

Where a schema says more than a type can, the type is the narrowest one that takes everything which the
schema allows, and a remark in the module says why.

Source: JSON Schema 2020-12 (OpenAPI 3.1), and the subset of OpenAPI 3.0, section "Schema Object".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from consona.rest.openapi_client.document import Document, child
from consona.rest.openapi_client.merging import IGNORED, Merged, merge
from consona.rest.openapi_client.naming import (
    BUILTINS,
    MODULE_NAMES,
    TYPE_NAMES,
    Names,
    class_name,
    is_plain,
    to_identifier,
)
from consona.rest.openapi_client.tagging import Tagging
from consona.rest.openapi_client.typed import (
    ANY,
    NONE,
    OBJECT,
    Alias,
    Field,
    StructModel,
    Typed,
    array_of,
    dict_of,
    flattened,
    literal_of,
    scalar,
    union_of,
)

__all__ = ["Schemas"]

MAX_DEPTH: Final = 60
LONG_EXPRESSION: Final = 44
"""A literal or union inside of another type that is longer gets a name."""

FORMATS: Final = {
    "date-time": "datetime.datetime",
    "date": "datetime.date",
    "time": "datetime.time",
    "duration": "datetime.timedelta",
    "uuid": "uuid.UUID",
    "byte": "bytes",
    "base64": "bytes",
    "decimal": "decimal.Decimal",
}
STRUCT_NAMES: Final = frozenset({"self", "cls"})


class Schemas:
    """Turns schemas into types, and keeps the classes and aliases that they need.

    Args:
        document: Where the schemas stand.
        reserved: A name that no type may have: that of the client.
    """

    def __init__(self, document: Document, *, reserved: str = "") -> None:
        self.document = document
        self.names = Names(MODULE_NAMES | BUILTINS | {reserved})
        self.structs: dict[str, StructModel] = {}
        self.aliases: dict[str, Alias] = {}
        self.remarks: dict[str, str] = {}
        """Type expression -> why it is no more precise; goes to where it is used."""
        self._named: dict[str, Typed] = {}
        self._inlined: dict[str, tuple[Any, Typed]] = {}
        self._open: dict[str, int] = {}
        """Pointers that are being built -> inside of how many structs that began."""
        self._forward: set[str] = set()
        self._inside = 0
        self._depth = 0
        self._tagging = Tagging(document, self.structs)
        self._wanted = {
            child("#/components/schemas", name): self.names.take(class_name(name, fallback="Schema"))
            for name in document.part("components", "schemas")
        }

    # The ways in.

    def of(self, schema: Any, pointer: str, hint: str) -> Typed:
        """The type of a schema.

        Args:
            schema: As it stands in the document.
            pointer: Where it stands.
            hint: What a class is called that it needs, where it has no name of its own.
        """
        if isinstance(schema, bool):
            if not schema:
                self.document.note(pointer, "allows nothing; taken as anything")
            return ANY
        if isinstance(schema, dict) and "$ref" in schema:
            _, place = self.document.resolve(schema, pointer)
            return self._reference(place) if place != pointer else ANY
        if not isinstance(schema, dict):
            self.document.note(pointer, f"is a {type(schema).__name__}, expected a schema; taken as anything")
            return ANY
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                self.document.note(pointer, "is nested too deeply; taken as anything from here")
                return ANY
            return self._inline(schema, pointer, hint)
        finally:
            self._depth -= 1

    def _reference(self, pointer: str) -> Typed:
        known = self._named.get(pointer)
        if known is not None:
            return known
        name = self._wanted.get(pointer, "")
        if pointer in self._open:
            if name and self._inside > self._open[pointer]:  # a struct is in between, whose fields are read later
                self._forward.add(pointer)
                return Typed(name, "forward")
            self.document.note(pointer, "contains itself without an object in between; taken as anything inside")
            return ANY
        schema, _ = self.document.resolve({"$ref": pointer}, pointer)
        name = name or self.names.take(class_name(pointer.rpartition("/")[2]))
        self._open[pointer] = self._inside
        try:
            typed = self._build(schema, pointer, name, named=True)
        finally:
            del self._open[pointer]
        if pointer in self._forward and typed.expr != name:
            typed = self._alias(typed, name, str(schema.get("description", "")))
        if typed.kind in {"literal", "array", "dict", "union"} and typed.expr != name and typed is not OBJECT:
            typed = self._alias(typed, name, str(schema.get("description", "")))
        self._named[pointer] = typed
        return typed

    def _inline(self, schema: dict[str, Any], pointer: str, hint: str) -> Typed:
        known = self._inlined.get(pointer)
        if known is not None and known[0] is schema:  # several that share it by `allOf` share its type
            return known[1]
        typed = self._build(schema, pointer, hint, named=False)
        if typed.kind in {"literal", "union"} and len(typed.expr) > LONG_EXPRESSION:
            typed = self._alias(typed, self.names.take(hint), str(schema.get("description", "")))
        self._inlined[pointer] = (schema, typed)
        return typed

    def _alias(self, typed: Typed, name: str, doc: str) -> Typed:
        self.aliases[name] = Alias(name, typed.expr, doc)
        if typed.expr in self.remarks:
            self.remarks[name] = self.remarks[typed.expr]
        return replace(typed, expr=name)

    def name_for(self, typed: Typed, hint: str) -> Typed:
        """A named type for one whose expression is too long for where it stands."""
        return self._alias(typed, self.names.take(class_name(hint)), "")

    # From keywords to types.

    def _build(self, schema: dict[str, Any], pointer: str, hint: str, *, named: bool) -> Typed:
        children = self._tagging.children_of(pointer) if named else []
        if children and "discriminator" in schema:
            return self._children(schema, pointer, children, hint)
        lone = _lone_reference(schema)
        if lone is not None:
            typed = self.of(lone, child(pointer, "allOf", 0), hint)
            return replace(typed, nullable=True) if schema.get("nullable") is True else typed
        merged = merge(self.document, schema, pointer)
        typed = self._of_merged(merged, schema, pointer, hint, named=named)
        return replace(typed, nullable=True) if merged.keywords.get("nullable") is True else typed

    def _of_merged(self, merged: Merged, schema: dict[str, Any], pointer: str, hint: str, *, named: bool) -> Typed:
        keywords = merged.keywords
        if "const" in keywords:
            return self._literal([keywords["const"]], child(pointer, "const"))
        if isinstance(keywords.get("enum"), list):
            return self._literal(keywords["enum"], child(pointer, "enum"))
        for keyword in ("oneOf", "anyOf"):
            members = keywords.get(keyword)
            if isinstance(members, list) and members:
                if _only_asks_for_more(members):
                    self.document.note(
                        child(pointer, keyword), "asks for certain combinations of properties, which is not checked"
                    )
                    continue
                place = child(pointer, keyword)
                return self._union(merged, members, schema.get("discriminator"), place, hint, named=named)
        kind = keywords.get("type")
        if isinstance(kind, list):
            return self._several_types(merged, kind, pointer, hint, named=named)
        return self._of_type(kind, merged, pointer, hint, named=named)

    def _several_types(self, merged: Merged, kinds: list[Any], pointer: str, hint: str, *, named: bool) -> Typed:
        members = [
            self._of_type(kind, merged, pointer, hint, named=named and len(kinds) == 2 and "null" in kinds)
            for kind in kinds
            if kind != "null"
        ]
        if "null" in kinds:
            members.append(NONE)
        return union_of(members) or ANY

    def _of_type(self, kind: Any, merged: Merged, pointer: str, hint: str, *, named: bool) -> Typed:
        keywords = merged.keywords
        if kind is None:
            if merged.properties or "additionalProperties" in keywords or "patternProperties" in keywords:
                kind = "object"
            elif "items" in keywords or "prefixItems" in keywords:
                kind = "array"
        form = keywords.get("format")
        match kind:
            case "object":
                return self._object(merged, pointer, hint, named=named)
            case "array":
                return self._array(keywords, pointer, hint)
            case "string":
                if keywords.get("contentEncoding") == "base64":
                    return scalar("bytes", "text")
                return scalar(FORMATS.get(form, "str") if isinstance(form, str) else "str", "text")
            case "integer":
                return scalar("int", "int")
            case "number":
                return scalar("decimal.Decimal", "text") if form == "decimal" else scalar("float", "float")
            case "boolean":
                return scalar("bool", "bool")
            case "null":
                return NONE
            case None:
                return ANY
        self.document.note(child(pointer, "type"), f"{str(kind)[:40]!r} is no type of JSON Schema; taken as anything")
        return ANY

    def _literal(self, values: Any, pointer: str) -> Typed:
        nullable = None in values
        values = [value for value in values if value is not None]
        if not values:
            return NONE
        kinds = {type(value) for value in values}
        if kinds <= {str, int}:
            return replace(literal_of(values), nullable=nullable)
        if kinds == {bool}:
            return Typed("bool", "bool", nullable=nullable)
        if kinds <= {float, int}:
            self.document.note(pointer, "lists numbers with a fraction, which no literal type can; taken as a number")
            return Typed("float", "float", nullable=nullable)
        self.document.note(pointer, "mixes values that no literal type can hold together; taken as anything")
        return ANY

    def _array(self, keywords: dict[str, Any], pointer: str, hint: str) -> Typed:
        if "prefixItems" in keywords:
            self.document.note(
                child(pointer, "prefixItems"), "gives each place a type of its own, which is not checked"
            )
            return array_of(ANY)
        if "items" not in keywords:
            return array_of(ANY)
        return array_of(self.of(keywords["items"], child(pointer, "items"), f"{hint}Item"))

    # Objects.

    def _object(self, merged: Merged, pointer: str, hint: str, *, named: bool) -> Typed:
        more = merged.keywords.get("additionalProperties")
        if not merged.properties:
            if isinstance(more, dict) and more:
                return dict_of(self.of(more, child(pointer, "additionalProperties"), f"{hint}Value"))
            return OBJECT
        name = hint if named else self.names.take(hint)
        model = self.structs[name] = StructModel(name, _text_of(merged.keywords), pointer)
        model.raw, model.required = merged.properties, merged.required
        typed = Typed(name, "struct")
        if named:
            self._named[pointer] = replace(typed, nullable=merged.keywords.get("nullable") is True)
        if (isinstance(more, dict) and more) or more is True:
            model.remarks.append("Further members are allowed by the document; they are not kept.")
        self._inside += 1
        for (wire, (schema, place)), own in zip(
            merged.properties.items(), self._field_names(list(merged.properties)), strict=True
        ):
            model.fields.append(self._field(own, wire, schema, place, merged, name))
        self._inside -= 1
        return typed

    def _field_names(self, wires: list[str]) -> list[str]:
        """A name for each property; those that can stand as they are keep theirs, whatever comes before them."""
        taken = Names(TYPE_NAMES | MODULE_NAMES | STRUCT_NAMES)
        kept = {
            wire: taken.take(wire)
            for wire in wires
            if is_plain(wire) and wire not in taken and (wire not in self.names or wire in BUILTINS)
        }
        names = []
        for wire in wires:
            name = kept.get(wire)
            if name is None:
                name = to_identifier(wire, fallback="field")
                clashes = name not in kept.values() and (name in taken or (name in self.names and name not in BUILTINS))
                name = taken.take(f"{name}_" if clashes else name)
            names.append(name)
        return names

    def _field(self, name: str, wire: str, schema: Any, pointer: str, merged: Merged, owner: str) -> Field:
        typed = self.of(schema, pointer, f"{owner}{class_name(wire, fallback='Field')}"[:60])
        own = schema if isinstance(schema, dict) else {}
        seen, _ = self.document.resolve(own, pointer) if "$ref" in own else (own, pointer)
        found = Field(wire, name, typed, wire in merged.required, doc=_text_of(own) or _short_text(seen, own))
        found.read_only = own.get("readOnly") is True or seen.get("readOnly") is True
        found.write_only = own.get("writeOnly") is True or seen.get("writeOnly") is True
        if "default" in own and not found.required:
            if own["default"] is None:  # nothing and null are the same here
                found.has_default = typed.nullable or typed.kind == "any"
            elif _fits(own["default"], typed):
                found.default, found.has_default = own["default"], True
            elif own["default"] != {} and typed.kind != "text":
                self.document.note(child(pointer, "default"), "does not fit the type; it is left out")
        return found

    # Unions.

    def _union(
        self, merged: Merged, members: list[Any], discriminator: Any, pointer: str, hint: str, *, named: bool
    ) -> Typed:
        parts = []
        for position, member in enumerate(members):
            place = child(pointer, position)
            if member == {"nullable": True}:  # how some generators of OpenAPI 3.0 write null
                parts.append(NONE)
                continue
            suffix = _suffix(member, position)
            if merged.properties and isinstance(member, dict):
                # Properties that stand beside the union belong to each of its members.
                member = {  # noqa: PLW2901 the member from here on
                    "type": "object",
                    "allOf": [member],
                    "properties": {name: schema for name, (schema, _) in merged.properties.items()},
                    "required": merged.required,
                }
            parts.append(self.of(member, place, f"{hint}{suffix}"))
        nullable = any(part.nullable for part in parts)
        flat = [part for part in flattened(parts) if part.kind != "none"]
        structs = [part for part in flat if part.kind == "struct"]
        tellable = len(structs) < 2 or self._tagging.tag([each.expr for each in structs], discriminator, pointer)
        found = union_of(parts) if tellable else None
        if found is not None:
            return replace(found, nullable=nullable)
        rest = [part for part in flat if part.kind not in {"struct", "dict"}]
        objects = [part.expr for part in flat if part.kind in {"struct", "dict"}]
        sends = " | ".join(dict.fromkeys([*objects, *(part.expr for part in rest)]))
        if len(structs) == len(objects):
            both = self._fields_of_all(structs, pointer, hint if named and not rest else self.names.take(hint))
            return replace(union_of([both, *rest]) or ANY, nullable=nullable, sends=f"{both.expr} | {sends}")
        wide = union_of([OBJECT, *rest]) or ANY
        self.remarks[wide.expr] = (
            f"{' or '.join(objects)}: nothing in the document tells them apart when they are read. "
            f"Try them with msgspec.convert(value, {objects[0]})."
        )
        self.document.note(pointer, f"objects that no property tells apart ({', '.join(objects)}) are read as dicts")
        return replace(wide, nullable=nullable, sends=sends)

    def _fields_of_all(self, structs: list[Typed], pointer: str, name: str) -> Typed:
        """One struct for several that nothing tells apart; its fields are those of all, added by `finish`."""
        names = [part.expr for part in structs]
        self.structs[name] = StructModel(name, f"One of {', '.join(names)}.", pointer, one_of=names)
        self.structs[name].remarks.append(
            "Nothing in the document tells them apart, so this has the fields of all of them; those of one are used."
        )
        self.document.note(pointer, f"objects that no property tells apart ({', '.join(names)}) are read as one class")
        return Typed(name, "struct")

    def finish(self) -> None:
        """Give the structs that stand for several their fields. Call it when all types are known."""
        done: set[str] = set()
        for model in list(self.structs.values()):
            self._finish(model, done)

    def _finish(self, model: StructModel, done: set[str]) -> None:
        if model.name in done:
            return
        done.add(model.name)
        members = [self.structs[name] for name in model.one_of]
        for member in members:
            self._finish(member, done)
        names = Names(TYPE_NAMES | MODULE_NAMES | STRUCT_NAMES)
        for wire in dict.fromkeys(each.wire for member in members for each in member.fields):
            found = [each for member in members for each in member.fields if each.wire == wire]
            typed = union_of([each.typed for each in found])
            if typed is None or (typed.kind == "union" and sum(part.kind == "struct" for part in typed.members) > 1):
                typed = ANY
            required = len(found) == len(members) and all(each.required for each in found)
            model.fields.append(Field(wire, names.take(found[0].name), typed, required, doc=found[0].doc))

    def _children(self, schema: dict[str, Any], pointer: str, children: list[str], hint: str) -> Typed:
        """A schema that others extend (`allOf`) and that tells them apart: any of those."""
        parts = [self._reference(each) for each in children]
        names = [part.expr for part in parts if part.kind == "struct"]
        place = child(pointer, "discriminator")
        if len(names) == len(parts) and (len(names) == 1 or self._tagging.tag(names, schema["discriminator"], place)):
            found = union_of(parts)
            if found is not None:
                return found
        return self._object(merge(self.document, schema, pointer), pointer, hint, named=True)


def _lone_reference(schema: dict[str, Any]) -> Any:
    """The one member of an `allOf` that adds nothing but words to it."""
    members = schema.get("allOf")
    if isinstance(members, list) and len(members) == 1 and isinstance(members[0], dict) and "$ref" in members[0]:
        others = {name for name in schema if not name.startswith("x-")} - IGNORED - {"allOf", "nullable"}
        if not others or (others == {"type"} and schema["type"] == "object"):
            return members[0]
    return None


def _only_asks_for_more(members: list[Any]) -> bool:
    """Whether a union only says which properties go together: `anyOf: [{required: [a]}, {required: [b]}]`."""
    return all(
        isinstance(each, dict) and each and set(each) <= {"required", "not", "title", "description"} for each in members
    )


def _suffix(member: Any, position: int) -> str:
    title = member.get("title") if isinstance(member, dict) else None
    return class_name(title)[:24] if isinstance(title, str) and title.strip() else f"Option{position + 1}"


def _text_of(keywords: dict[str, Any]) -> str:
    """The description; or the title, where that is more than a name."""
    text, title = keywords.get("description"), keywords.get("title")
    if isinstance(text, str) and text.strip():
        return text
    return title if isinstance(title, str) and " " in title.strip() else ""


def _short_text(seen: dict[str, Any], own: dict[str, Any]) -> str:
    """The first sentence of what a referenced schema says, where the property says nothing itself."""
    if seen is own:
        return ""
    text = _text_of(seen).strip().partition("\n")[0]
    return text if len(text) < 200 else ""


def _fits(value: Any, typed: Typed) -> bool:
    match typed.kind:
        case "literal":
            return not isinstance(value, bool) and any(value == each for each in typed.values)
        case "text":
            return isinstance(value, str) and typed.expr == "str"
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, list) and not value
        case "dict":
            return isinstance(value, dict) and not value
    return False
