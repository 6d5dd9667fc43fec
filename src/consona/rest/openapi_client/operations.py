"""The operations of a document: what each takes, sends, and answers with.

Source: OpenAPI 3.1.1, "Operation Object", "Parameter Object", "Request Body Object", "Responses Object".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from consona.rest.openapi_client.answers import Answer, Failure, answer_of, failures_of, media_of
from consona.rest.openapi_client.document import METHODS, Document, child
from consona.rest.openapi_client.naming import (
    MODULE_NAMES,
    TYPE_NAMES,
    Names,
    class_name,
    is_plain,
    snake_name,
    to_identifier,
)
from consona.rest.openapi_client.schemas import Schemas
from consona.rest.openapi_client.typed import ANY, Typed, scalar

__all__ = ["Body", "Operation", "Parameter", "read_operations"]

IDEMPOTENCY_KEY: Final = "idempotency-key"
NOT_PARAMETERS: Final = frozenset({"accept", "content-type", "authorization"})
"""Headers that are described elsewhere ("Parameter Object")."""
MULTIPART: Final = "multipart/form-data"
FORM: Final = "application/x-www-form-urlencoded"


@dataclass(slots=True)
class Parameter:
    """One parameter of an operation."""

    wire: str
    name: str
    place: str
    typed: Typed
    required: bool
    doc: str = ""
    style: str = ""
    """How a query parameter is written, where that is not `name=value` for each item."""
    explode: bool = True


@dataclass(slots=True)
class Body:
    """What an operation sends."""

    argument: str
    """`json`, `form` or `content`."""
    typed: Typed
    required: bool
    content_type: str = ""
    """Where it is not the argument's own."""
    doc: str = ""
    free_type: bool = False
    """Whether the caller says of which content type it is."""


@dataclass(slots=True)
class Operation:
    """One operation, as a method of the client."""

    name: str
    group: str
    """The first tag; empty without one."""
    method: str
    template: str
    doc: list[str]
    parameters: list[Parameter] = field(default_factory=list)
    body: Body | None = None
    answer: Answer = field(default_factory=Answer)
    failures: list[Failure] = field(default_factory=list)
    idempotent: bool = False
    deprecated: bool = False


def read_operations(document: Document, schemas: Schemas) -> list[Operation]:
    """All operations, in the document's order; names that repeat are told apart and noted."""
    found: list[Operation] = []
    seen: dict[str, str] = {}
    for path, method, item, raw, pointer in _each(document):
        wanted = raw.get("operationId")
        if isinstance(wanted, str) and wanted in seen:
            document.note(child(pointer, "operationId"), f"{wanted[:80]!r} is used before, at {seen[wanted]}")
        elif isinstance(wanted, str):
            seen[wanted] = pointer
        has_id = isinstance(wanted, str) and wanted.strip()
        name = snake_name(str(wanted) if has_id else f"{method} {path}")
        if name in TYPE_NAMES or name in MODULE_NAMES:
            name += "_"
        found.append(_Reader(document, schemas, path, method, item, raw, pointer).read(name))
    return found


def _each(document: Document) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any], str]]:
    for path, item in document.part("paths").items():
        pointer = child("#/paths", path)
        if path.startswith("x-"):
            continue
        if not path.startswith("/"):
            document.note(pointer, "does not begin with a slash; it is left out")
            continue
        item, place = document.resolve(item, pointer)  # noqa: PLW2901 the item from here on
        for method in METHODS:
            if method not in item:
                continue
            if not isinstance(item[method], dict):
                document.note(child(place, method), "is no object; it is left out")
                continue
            if "servers" in item or "servers" in item[method]:
                document.note(child(place, method), "names servers of its own; they are not used")
            yield path, method, item, item[method], child(place, method)


class _Reader:
    """Reads one operation."""

    def __init__(
        self,
        document: Document,
        schemas: Schemas,
        path: str,
        method: str,
        item: dict[str, Any],
        raw: dict[str, Any],
        pointer: str,
    ) -> None:
        self.document = document
        self.schemas = schemas
        self.path = path
        self.method = method
        self.item = item
        self.raw = raw
        self.pointer = pointer

    def read(self, name: str) -> Operation:
        tags = self.raw.get("tags")
        group = tags[0] if isinstance(tags, list) and tags and isinstance(tags[0], str) else ""
        operation = Operation(name, group, self.method.upper(), self.path, self._words())
        operation.deprecated = self.raw.get("deprecated") is True
        self._hint = class_name(name)
        names = Names(
            TYPE_NAMES | MODULE_NAMES | {"self", "body", "content", "content_type", "form", "idempotency_key"}
        )
        for raw, pointer in self._raw_parameters():
            if raw["in"] == "header" and raw["name"].lower() == IDEMPOTENCY_KEY:
                operation.idempotent = True
                continue
            operation.parameters.append(self._parameter(raw, pointer, names))
        self._check_path(operation)
        operation.body = self._body()
        operation.answer = answer_of(self.document, self.schemas, self.raw, self.pointer, self._hint)
        operation.failures = failures_of(self.document, self.schemas, self.raw, self.pointer, self._hint)
        return operation

    def _words(self) -> list[str]:
        words = [self.raw.get("summary"), self.raw.get("description")]
        given = [text.strip() for text in words if isinstance(text, str) and text.strip()]
        return list(dict.fromkeys(given)) or [f"{self.method.upper()} {self.path}"]

    def _raw_parameters(self) -> list[tuple[dict[str, Any], str]]:
        """Those of the path, replaced by those of the operation with the same name and place."""
        found: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        for owner, place in ((self.item, self.pointer.rpartition("/")[0]), (self.raw, self.pointer)):
            given = owner.get("parameters", [])
            if not isinstance(given, list):
                self.document.note(child(place, "parameters"), "is no list; it is left out")
                continue
            for position, each in enumerate(given):
                raw, pointer = self.document.resolve(each, child(place, "parameters", position))
                name, where = raw.get("name"), raw.get("in")
                if not isinstance(name, str) or not name or where not in {"path", "query", "header", "cookie"}:
                    self.document.note(pointer, "has no usable `name` and `in`; it is left out")
                elif where != "header" or name.lower() not in NOT_PARAMETERS:
                    found[name, where] = (raw, pointer)
        return list(found.values())

    def _parameter(self, raw: dict[str, Any], pointer: str, names: Names) -> Parameter:
        wire, place = raw["name"], raw["in"]
        name = wire if is_plain(wire) else to_identifier(wire, fallback="parameter")
        if name in names:
            name = f"{name.rstrip('_')}_{place}" if f"{name.rstrip('_')}_{place}" not in names else name
        style = ""
        schema, where = raw.get("schema"), child(pointer, "schema")
        content = raw.get("content")
        if schema is None and isinstance(content, dict) and content:
            media, value = next(iter(content.items()))
            schema = value.get("schema") if isinstance(value, dict) else None
            where, style = child(pointer, "content", media, "schema"), "json"
        if schema is None:
            self.document.note(pointer, "has no schema; taken as anything")
        typed = ANY if schema is None else self.schemas.of(schema, where, f"{self._hint}{class_name(wire)}")
        found = Parameter(wire, names.take(name), place, typed, place == "path" or raw.get("required") is True)
        found.doc = raw["description"] if isinstance(raw.get("description"), str) else ""
        found.style, found.explode = style, True
        if style == "" and place == "query":
            self._query_style(found, raw, pointer)
        elif raw.get("style") not in {None, "simple", "form"}:
            self.document.note(child(pointer, "style"), f"{str(raw['style'])[:40]!r} is not written; `simple` is")
        return found

    def _query_style(self, found: Parameter, raw: dict[str, Any], pointer: str) -> None:
        style = raw.get("style", "form")
        if style not in {"form", "spaceDelimited", "pipeDelimited", "deepObject"}:
            self.document.note(child(pointer, "style"), f"{str(style)[:40]!r} is no style of a query; `form` is used")
            style = "form"
        explode = raw.get("explode", style == "form")
        if style != "form" or not explode:
            found.style, found.explode = style, explode is True

    def _check_path(self, operation: Operation) -> None:
        wanted = list(dict.fromkeys(re.findall(r"\{([^{}]+)\}", self.path)))
        declared = [parameter for parameter in operation.parameters if parameter.place == "path"]
        known = {parameter.wire for parameter in declared}
        for parameter in declared:
            if parameter.wire not in wanted:
                self.document.note(self.pointer, f"the path parameter {parameter.wire[:80]!r} is not in the path")
                operation.parameters.remove(parameter)
        taken = Names({parameter.name for parameter in operation.parameters})
        for name in wanted:
            if name not in known:
                self.document.note(self.pointer, f"the path parameter {name[:80]!r} is not declared; taken as text")
                identifier = taken.take(to_identifier(name, fallback="parameter"))
                operation.parameters.append(Parameter(name, identifier, "path", scalar("str", "text"), required=True))
        order = {name: position for position, name in enumerate(wanted)}
        operation.parameters.sort(key=lambda each: (each.place != "path", order.get(each.wire, 0)))

    def _body(self) -> Body | None:
        if "requestBody" not in self.raw:
            return None
        raw, pointer = self.document.resolve(self.raw["requestBody"], child(self.pointer, "requestBody"))
        content = raw.get("content")
        if not isinstance(content, dict) or not content:
            self.document.note(pointer, "has no content; it is left out")
            return None
        media, place = media_of(content, child(pointer, "content"), prefer=(FORM,))
        doc = raw["description"] if isinstance(raw.get("description"), str) else ""
        required = raw.get("required") is True
        value = content[media] if isinstance(content[media], dict) else {}
        plain = media.partition(";")[0].strip().lower()
        if plain == "application/json" or plain.endswith("+json") or plain == FORM:
            schema = value.get("schema")
            typed = ANY if schema is None else self.schemas.of(schema, child(place, "schema"), f"{self._hint}Body")
            if plain == FORM:
                return Body("form", typed, required, doc=doc)
            return Body("json", typed, required, "" if plain == "application/json" else plain, doc)
        typed = scalar("Content", "any")
        if plain == MULTIPART or "*" in plain:
            return Body("content", typed, required, doc=doc, free_type=True)
        return Body("content", typed, required, plain, doc)
