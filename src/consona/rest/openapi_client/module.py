"""The whole module: its head, the types, the credentials, and the client."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any, Final

from consona.rest.openapi_client.client_text import group_name, method_lines, parameter_text, scheme_lines
from consona.rest.openapi_client.document import Document, child
from consona.rest.openapi_client.naming import Names, class_name, name_in_group, sorted_as_exports
from consona.rest.openapi_client.operations import Operation, read_operations
from consona.rest.openapi_client.python_text import WIDTH, docstring, literal, piece, plain_text, shifted
from consona.rest.openapi_client.schemas import Schemas
from consona.rest.openapi_client.security import read_schemes
from consona.rest.openapi_client.struct_text import alias_lines, struct_lines
from consona.rest.openapi_client.typed import Typed

__all__ = ["write_module"]

GROUP_FROM: Final = 12
"""From how many operations on they are grouped by their tag."""

IMPORTS: Final = (
    ("import datetime", "datetime"),
    ("import decimal", "decimal"),
    ("import uuid", "uuid"),
    ("from typing import {}", "Any Literal TypeAlias"),
    ("", ""),
    ("from consona import {}", "APIClient APIKey Basic Bearer ClientCredentials Policy"),
    ("from consona.rest.openapi_client.calling import {}", "Authentication Content Operations Query client_of"),
    ("from msgspec import {}", "UNSET Struct UnsetType"),
)
MEMBERS: Final = frozenset({"api"})
"""What every client has; no method or group may hide it."""


def write_module(document: Document, name: str) -> str:
    """The source of a module with a client class called `name`."""
    schemas = Schemas(document, reserved=name)
    operations = read_operations(document, schemas)
    schemas.finish()
    base = _base_of(document)
    schemes = read_schemes(document, base or "", Names({"auth"}))
    groups = _groups(operations)
    _give_names(document, operations)
    group_classes = {tag: schemas.names.take(f"{name}{class_name(tag)}") for tag in groups if tag}

    sections: list[list[str]] = [scheme_lines(scheme) for scheme in schemes]
    attributes = Names(MEMBERS | {each.name for each in groups.get("", [])})
    attribute_of = {tag: attributes.take(group_name(tag)) for tag in group_classes}
    for tag, class_ in group_classes.items():
        sections.append(_class(schemas, f"class {class_}(Operations):", [_tag_words(document, tag)], groups[tag]))
    sections.append(_client(document, schemas, name, base, groups.get("", []), group_classes, attribute_of))

    types = _types(schemas, operations)
    public = sorted_as_exports(
        {*schemas.structs, *schemas.aliases, *group_classes.values(), name, *(each.name for each in schemes)}
    )
    exported = "__all__ = [\n" + "".join(f"    {literal(each)},\n" for each in public) + "]"
    body = [exported.split("\n"), *types, *sections]
    return _head(document, name, body) + _joined(body)


def _joined(sections: Iterable[list[str]]) -> str:
    """Two empty lines between classes and functions, one between assignments, as the formatter has it."""
    text = ""
    before = ""
    for section in sections:
        kind = next((line for line in section if not line.startswith("#")), "")
        is_block = kind.startswith(("class ", "def "))
        gap = "\n\n\n" if is_block or before == "block" else "\n\n"
        text += (gap if text else "") + "\n".join(section)
        before = "block" if is_block else "plain"
    return text + "\n"


def _head(document: Document, name: str, body: list[list[str]]) -> str:
    info = document.part("info")
    title, version = (str(info.get(key) or "").strip() for key in ("title", "version"))
    words = [
        f"A client of {' '.join(title.split()) or 'an API'}{f', version {version}' if version else ''}.",
        "Written by `consona client` from its OpenAPI document. Do not edit it: write it again when the document changes.",
        f"    async with {name}(…) as client:\n        …",
    ]
    used = _used_names("\n".join(line for section in body for line in section))
    imports = []
    for line, names in IMPORTS:
        wanted = [each for each in names.split() if each in used]
        if not names:
            imports.append("")
        elif wanted:
            imports.append(piece(line.removesuffix("{}") + "(", wanted, ")") if "{}" in line else line)
            if "{}" in line and "\n" not in imports[-1]:
                imports[-1] = line.format(", ".join(wanted))
    text = "\n".join([*docstring(words, indent=0), "", "from __future__ import annotations", "", *imports])
    return re.sub(r"\n{3,}", "\n\n", text) + "\n\n"


def _used_names(source: str) -> set[str]:
    """The names that a module uses; also a proof that what was written is Python."""
    tree = ast.parse(source)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _groups(operations: list[Operation]) -> dict[str, list[Operation]]:
    """Tag -> its operations; all under the empty tag where they are few."""
    tags = dict.fromkeys(operation.group for operation in operations)
    if len(operations) < GROUP_FROM or len([tag for tag in tags if tag]) < 2:
        for operation in operations:
            operation.group = ""
        return {"": operations}
    # Tags that differ only in how they are written become one group.
    one: dict[str, str] = {}
    for operation in operations:
        operation.group = one.setdefault(group_name(operation.group), operation.group) if operation.group else ""
    return {
        tag: [operation for operation in operations if operation.group == tag]
        for tag in dict.fromkeys(operation.group for operation in operations)
    }


def _give_names(document: Document, operations: list[Operation]) -> None:
    """Each method of a class has a name of its own."""
    taken: dict[str, Names] = {}
    for operation in operations:
        names = taken.setdefault(operation.group, Names(MEMBERS))
        if operation.group:
            operation.name = name_in_group(operation.name, operation.group)
        if operation.name in names:
            pointer = child("#/paths", operation.template, operation.method.lower())
            document.note(pointer, f"its name {operation.name!r} is taken; it gets a number")
        operation.name = names.take(operation.name)


def _class(
    schemas: Schemas, head: str, words: list[str], operations: list[Operation], extra: list[str] | None = None
) -> list[str]:
    lines = [head, *docstring(words), *(["", *extra] if extra else [])]
    for operation in operations:
        lines += ["", *method_lines(schemas, operation)]
    return lines


def _client(
    document: Document,
    schemas: Schemas,
    name: str,
    base: str | None,
    operations: list[Operation],
    group_classes: dict[str, str],
    attribute_of: dict[str, str],
) -> list[str]:
    info = document.part("info")
    words = [plain_text(info.get("title") or "").strip() or name, str(info.get("description") or "")]
    arguments = ["base: The URL of the API, or an `APIClient` that is set up already."]
    arguments += ["auth: Who is asking.", "policy: Timeout, retries and limits, instead of the usual ones."]
    words.append("\n".join(["Args:", *(f"    {each}" for each in arguments)]))
    parameters = ["self", parameter_text("base", "str | APIClient", literal(base) if base else ""), "*"]
    parameters += ["auth: Authentication | None = None", "policy: Policy | None = None"]
    init = "\n".join(["def __init__(", *(shifted(f"{each},") for each in parameters), ") -> None:"])
    lines = [*shifted(init).split("\n"), "        super().__init__(client_of(base, auth=auth, policy=policy))"]
    for tag, class_ in group_classes.items():
        lines += _attribute(attribute_of[tag], class_)
        lines += docstring([_tag_words(document, tag)], indent=2)
    return _class(schemas, f"class {name}(Operations):", words, operations, lines)


def _attribute(name: str, class_: str) -> list[str]:
    """A group of the client, broken where the formatter would."""
    head = f"        self.{name} = {class_}("
    if len(head) + len("self.api)") <= WIDTH:
        return [f"{head}self.api)"]
    if len(head) <= WIDTH:
        return [head, "            self.api", "        )"]
    return [f"        self.{name} = (", f"            {class_}(self.api)", "        )"]


def _tag_words(document: Document, tag: str) -> str:
    tags = document.data.get("tags")
    for each in tags if isinstance(tags, list) else ():
        if isinstance(each, dict) and each.get("name") == tag and isinstance(each.get("description"), str):
            return str(each["description"])
    return f"Operations tagged {tag!r}."


def _types(schemas: Schemas, operations: list[Operation]) -> list[list[str]]:
    """Classes, then aliases; each alias behind those that it names."""
    sent = _reach(schemas, [each.typed for op in operations for each in (*op.parameters, op.body) if each is not None])
    received = _reach(schemas, [op.answer.typed for op in operations])
    classes = [
        struct_lines(schemas, model, sent=name in sent, received=name in received)
        for name, model in list(schemas.structs.items())
    ]
    ordered: dict[str, list[str]] = {}

    def add(name: str) -> None:
        if name in ordered or name not in schemas.aliases:
            return
        for other in _names_in(schemas.aliases[name].expr):
            if other != name:
                add(other)
        ordered[name] = alias_lines(schemas, schemas.aliases[name])

    for name in list(schemas.aliases):
        add(name)
    return [*classes, *ordered.values()]


def _names_in(expr: str) -> list[str]:
    return [node.id for node in ast.walk(ast.parse(expr, mode="eval")) if isinstance(node, ast.Name)]


def _reach(schemas: Schemas, types: list[Typed]) -> set[str]:
    """The names of all types that these are made of."""
    found: set[str] = set()
    waiting = [name for typed in types for name in _names_in(f"({typed.sent}, {typed.whole})")]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name in schemas.structs:
            waiting += [each for item in schemas.structs[name].fields for each in _names_in(item.typed.whole)]
        elif name in schemas.aliases:
            waiting += _names_in(schemas.aliases[name].expr)
    return found


def _base_of(document: Document) -> str | None:
    """The first server's URL, its variables filled in; None where it is relative, or there is none."""
    servers: Any = document.data.get("servers")
    server = servers[0] if isinstance(servers, list) and servers else None
    if not isinstance(server, dict) or not isinstance(server.get("url"), str):
        return None
    url, variables = server["url"], server.get("variables")
    for name, variable in variables.items() if isinstance(variables, dict) else ():
        default = variable.get("default") if isinstance(variable, dict) else None
        url = url.replace(f"{{{name}}}", str(default))
    if not re.fullmatch(r"https?://[^\s{}?#]+", url):
        document.note("#/servers/0/url", "is no absolute http:// or https:// URL; the client must be told the base")
        return None
    return str(url)
