"""Structs and aliases as Python source."""

from __future__ import annotations

from collections.abc import Iterator

from consona.rest.openapi_client.python_text import INDENT, WIDTH, comment, docstring, literal, piece, type_lines
from consona.rest.openapi_client.schemas import Schemas
from consona.rest.openapi_client.typed import Alias, Field, StructModel

__all__ = ["alias_lines", "struct_lines"]

LONG_DEFAULT = 24


def struct_lines(schemas: Schemas, model: StructModel, *, sent: bool, received: bool) -> list[str]:
    """A class.

    Args:
        schemas: For names of types that are too long for a line.
        model: What it is.
        sent: Whether requests hold it; then what only the server sets is not required.
        received: Whether answers hold it; then what only goes to the server is not required.
    """
    fields = [each for each in model.fields if model.tag is None or each.wire != model.tag[0]]
    options = ["Struct", "kw_only=True", "omit_defaults=True"]
    if model.tag is not None:
        options += [f"tag_field={literal(model.tag[0])}", f"tag={literal(model.tag[1])}"]
    renamed = {each.name: each.wire for each in fields if each.name != each.wire}
    if renamed:
        pairs = [f"{literal(name)}: {literal(wire)}" for name, wire in renamed.items()]
        options.append(piece("rename={", pairs, "}", column=4))
    lines = piece(f"class {model.name}(", options, "):").split("\n")
    remarks = list(model.remarks)
    if model.tag is not None:
        remarks.insert(
            0, f"Its `{model.tag[0]}` is {literal(model.tag[1])}: that tells it from the others of its union."
        )
    lines += docstring([model.doc or f"What the document describes at `{model.pointer}`.", *remarks])
    required = [each for each in fields if _is_required(each, sent=sent, received=received)]
    gap = True
    for each in fields:
        found = list(_field_lines(schemas, model, each, required=each in required))
        lines += ["", *found] if gap or len(found) > 1 else found
        gap = len(found) > 1
    return lines


def _is_required(found: Field, *, sent: bool, received: bool) -> bool:
    return found.required and not (found.read_only and sent) and not (found.write_only and received)


def _field_lines(schemas: Schemas, model: StructModel, found: Field, *, required: bool) -> Iterator[str]:
    typed = found.typed
    line = _field_line(found, typed.whole, required=required)
    if len(INDENT) + len(line) > WIDTH and not typed.expr.isidentifier():
        typed = schemas.name_for(typed, f"{model.name} {found.name}")
        line = _field_line(found, typed.whole, required=required)
    if len(INDENT) + len(line) > WIDTH:
        line = _split_annotation(line)
    remark = schemas.remarks.get(found.typed.expr)
    yield from comment(remark, indent=1) if remark else []
    yield from (INDENT + each for each in line.split("\n"))
    words = [found.doc]
    if found.has_default and len(literal(found.default)) > LONG_DEFAULT:
        words.append(f"The server's default: {literal(found.default)}")
    yield from docstring(words)


def _field_line(found: Field, annotation: str, *, required: bool) -> str:
    name, typed = found.name, found.typed
    if required:
        return f"{name}: {annotation}"
    if found.has_default and len(literal(found.default)) <= LONG_DEFAULT:
        return f"{name}: {annotation} = {literal(found.default)}"
    if typed.kind == "any":
        return f"{name}: Any | UnsetType = UNSET"
    if typed.kind == "none":
        return f"{name}: None | UnsetType = UNSET"
    if typed.nullable:  # null says something else than nothing
        return f"{name}: {annotation} | UnsetType = UNSET"
    return f"{name}: {annotation} | None = None"


def _split_annotation(line: str) -> str:
    name, _, rest = line.partition(": ")
    annotation, equals, default = rest.partition(" = ")
    if equals and len(f"{INDENT}{name}: {annotation} = (") <= WIDTH:
        return f"{name}: {annotation} = (\n{INDENT}{default}\n)"
    if " | " not in annotation and equals:
        return line
    return f"{name}: (\n{INDENT}{annotation}\n){equals}{default}"


def alias_lines(schemas: Schemas, alias: Alias) -> list[str]:
    """A type with a name, and what is said of it."""
    remark = schemas.remarks.get(alias.expr)
    lines = comment(remark) if remark else []
    lines += type_lines(f"{alias.name}: TypeAlias = ", alias.expr).split("\n")
    return [*lines, *docstring([alias.doc], indent=0)]
