"""What a schema becomes: a type expression, and what must be known of it to combine it with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from consona.rest.openapi_client.python_text import literal

__all__ = ["ANY", "Alias", "Field", "StructModel", "Typed", "array_of", "dict_of", "literal_of", "scalar", "union_of"]

Kind = Literal["any", "none", "bool", "int", "float", "text", "literal", "array", "dict", "struct", "union", "forward"]
"""`forward` is one that is still being built: its name is known, and no more."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A type, without its None."""

    expr: str
    kind: Kind
    nullable: bool = False
    values: tuple[Any, ...] = ()
    """Of a literal: text and whole numbers."""
    items: Typed | None = None
    """Of an array its items, of a dict its values."""
    members: tuple[Typed, ...] = ()
    """Of a union."""
    sends: str = ""
    """What may be sent, where that can be told more precisely than what is received."""

    @property
    def whole(self) -> str:
        """The expression with its None."""
        return f"{self.expr} | None" if self.nullable and self.kind not in {"any", "none"} else self.expr

    @property
    def sent(self) -> str:
        """The expression for what is sent."""
        expr = self.sends or self.expr
        return f"{expr} | None" if self.nullable and self.kind not in {"any", "none"} else expr


ANY: Final = Typed("Any", "any")
NONE: Final = Typed("None", "none", nullable=True)
OBJECT: Final = Typed("dict[str, Any]", "dict", items=ANY)


@dataclass(slots=True)
class Field:
    """A field of a struct."""

    wire: str
    name: str
    typed: Typed
    required: bool
    default: Any = None
    has_default: bool = False
    doc: str = ""
    read_only: bool = False
    write_only: bool = False


@dataclass(slots=True)
class StructModel:
    """A class to be written."""

    name: str
    doc: str
    pointer: str
    fields: list[Field] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    tag: tuple[str, str | int] | None = None
    """(the field on the wire, its value), where it belongs to a union."""
    raw: dict[str, tuple[Any, str]] = field(default_factory=dict)
    """Its properties as they stand in the document, each with its pointer."""
    required: list[str] = field(default_factory=list)
    one_of: list[str] = field(default_factory=list)
    """The structs that it stands for, where nothing tells them apart: it gets the fields of all."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A named type that is no class."""

    name: str
    expr: str
    doc: str = ""


def scalar(expr: str, kind: Kind) -> Typed:
    return Typed(expr, kind)


def array_of(items: Typed) -> Typed:
    return Typed(f"list[{items.whole}]", "array", items=items)


def dict_of(values: Typed) -> Typed:
    return Typed(f"dict[str, {values.whole}]", "dict", items=values)


def literal_of(values: Sequence[Any]) -> Typed:
    """Of texts and whole numbers."""
    unique = tuple(dict.fromkeys(values))
    return Typed(f"Literal[{', '.join(literal(value) for value in unique)}]", "literal", values=unique)


def flattened(members: Sequence[Typed]) -> list[Typed]:
    """The members, those of unions among them in their place, each once."""
    found: dict[str, Typed] = {}
    for member in members:
        for each in flattened(member.members) if member.kind == "union" else [member]:
            found.setdefault(each.expr, each)
    return list(found.values())


def union_of(members: Sequence[Typed]) -> Typed | None:
    """One type for several, as far as msgspec can tell them apart; None where it cannot.

    Texts of several formats become text, lists a list of both, and so on: wider, but never wrong. Several
    structs are for the caller to see to (they need tags); here they are taken as tellable.
    """
    nullable = any(member.nullable for member in members)
    parts = [member for member in flattened(members) if member.kind != "none"]
    if len(parts) == 1:
        return replace(parts[0], nullable=nullable)
    if any(part.kind in {"any", "forward"} for part in parts) or not parts:
        return replace(ANY, nullable=nullable) if parts else NONE
    structs = [part for part in parts if part.kind == "struct"]
    dicts = [part for part in parts if part.kind == "dict"]
    if structs and dicts:
        return None
    groups = (*structs, _one_dict(dicts), _one_array(parts), *_texts_and_numbers(parts))
    combined = [replace(part, nullable=False) for part in groups if part is not None]
    if len(combined) == 1:
        return replace(combined[0], nullable=nullable)
    return Typed(" | ".join(part.expr for part in combined), "union", nullable=nullable, members=tuple(combined))


def _one_dict(parts: list[Typed]) -> Typed | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    values = union_of([part.items or ANY for part in parts])
    return OBJECT if values is None else dict_of(values)


def _one_array(parts: list[Typed]) -> Typed | None:
    arrays = [part for part in parts if part.kind == "array"]
    if len(arrays) < 2:
        return arrays[0] if arrays else None
    items = union_of([part.items or ANY for part in arrays])
    return array_of(ANY if items is None else items)


def _texts_and_numbers(parts: list[Typed]) -> list[Typed | None]:
    literals = [part for part in parts if part.kind == "literal"]
    words = [value for part in literals for value in part.values if isinstance(value, str)]
    numbers = [value for part in literals for value in part.values if not isinstance(value, str)]
    texts = [part for part in parts if part.kind == "text"]
    found: list[Typed | None] = []
    if texts:
        found.append(texts[0] if len(texts) == 1 and not words else scalar("str", "text"))
        words = []
    ints = [part for part in parts if part.kind == "int"]
    if ints:
        found.append(ints[0])
        numbers = []
    if words or numbers:
        same = len(literals) == 1 and len(words) + len(numbers) == len(literals[0].values)
        found.append(literals[0] if same else literal_of([*words, *numbers]))
    return [*found, *(next((part for part in parts if part.kind == kind), None) for kind in ("float", "bool"))]
