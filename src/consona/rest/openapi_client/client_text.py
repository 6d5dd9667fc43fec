"""Operations as methods of a client, as Python source."""

from __future__ import annotations

from collections.abc import Iterator

from consona.rest.openapi_client.naming import snake_name
from consona.rest.openapi_client.operations import Operation, Parameter
from consona.rest.openapi_client.python_text import INDENT, WIDTH, comment, docstring, literal, piece, shifted, split_at
from consona.rest.openapi_client.schemas import Schemas
from consona.rest.openapi_client.security import Scheme
from consona.rest.openapi_client.typed import Typed

__all__ = ["group_name", "method_lines", "parameter_text", "scheme_lines"]


def method_lines(schemas: Schemas, operation: Operation) -> list[str]:
    """A method."""
    answer = _short(schemas, operation.answer.typed, f"{operation.name} answer", room=WIDTH - 40)
    returns = answer.whole
    signature = piece(
        f"async def {operation.name}(", list(_parameters(schemas, operation)), f") -> {returns}:", column=4
    )
    call = piece("await self._send(", list(_arguments(operation, answer)), ")", column=8)
    if "\n" not in call:  # an argument a line, always
        call = "await self._send(\n" + "".join(f"{INDENT}{each},\n" for each in _arguments(operation, answer)) + ")"
    lines = shifted(signature).split("\n")
    lines += docstring(_words(operation), indent=2)
    remark = schemas.remarks.get(operation.answer.typed.expr)
    lines += comment(remark, indent=2) if remark else []
    if answer.kind == "none":
        return [*lines, *shifted(call, 2).split("\n")]
    return [*lines, *shifted(f"answer: {returns} = {call}", 2).split("\n"), f"{INDENT * 2}return answer"]


def _short(schemas: Schemas, typed: Typed, hint: str, *, room: int) -> Typed:
    """The type, by a name of its own where its expression takes more room than there is."""
    return typed if len(typed.whole) <= room or typed.expr.isidentifier() else schemas.name_for(typed, hint)


def _parameters(schemas: Schemas, operation: Operation) -> Iterator[str]:
    """`self`, what is required, and then by keyword what is not."""
    yield "self"
    body = operation.body
    required = [each for each in operation.parameters if each.required]
    optional = [each for each in operation.parameters if not each.required]
    for parameter in required:
        typed = _short(
            schemas, parameter.typed, f"{operation.name} {parameter.name}", room=WIDTH - 12 - len(parameter.name)
        )
        yield parameter_text(parameter.name, typed.sent)
    if body is not None and body.required:
        yield parameter_text(_body_name(operation), _body_type(schemas, operation))
    if body is not None and body.free_type and body.required:
        yield "content_type: str"
    if optional or operation.idempotent or (body is not None and not body.required):
        yield "*"
    for parameter in optional:
        room = WIDTH - 26 - len(parameter.name)
        typed = _short(schemas, parameter.typed, f"{operation.name} {parameter.name}", room=room)
        yield parameter_text(parameter.name, _optional(typed.sent), "None")
    if body is not None and not body.required:
        yield parameter_text(_body_name(operation), _optional(_body_type(schemas, operation)), "None")
        if body.free_type:
            yield 'content_type: str = "application/octet-stream"'
    if operation.idempotent:
        yield "idempotency_key: str | None = None"


def parameter_text(name: str, annotation: str, default: str = "") -> str:
    """A parameter of a method, in several lines where one is too long."""
    after = f" = {default}" if default else ""
    line = f"{name}: {annotation}{after}"
    if len(line) + 9 <= WIDTH:
        return line
    return f"{name}: " + "\n| ".join(split_at(annotation, " | ")) + after


def _optional(annotation: str) -> str:
    return annotation if annotation.endswith("| None") or annotation in {"Any", "None"} else f"{annotation} | None"


def _body_name(operation: Operation) -> str:
    assert operation.body is not None
    return "content" if operation.body.argument == "content" else "body"


def _body_type(schemas: Schemas, operation: Operation) -> str:
    assert operation.body is not None
    typed = operation.body.typed
    if typed.sends:
        return typed.sent
    return _short(schemas, typed, f"{operation.name} body", room=WIDTH - 30).sent


def _arguments(operation: Operation, answer: Typed) -> Iterator[str]:
    """What `_send` is called with."""
    yield literal(operation.method)
    yield literal(operation.template)
    groups: dict[str, list[Parameter]] = {}
    for parameter in operation.parameters:
        groups.setdefault(parameter.place, []).append(parameter)
    if "path" in groups:
        yield piece("path={", [_pair(each) for each in groups["path"]], "}", column=12)
    if "query" in groups:
        yield piece("query=[", [_query(each) for each in groups["query"]], "]", column=12)
    headers = [_pair(each) for each in groups.get("header", [])]
    if operation.idempotent:
        headers.append('"Idempotency-Key": idempotency_key')
    if headers:
        yield piece("headers={", headers, "}", column=12)
    if "cookie" in groups:
        yield piece("cookies={", [_pair(each) for each in groups["cookie"]], "}", column=12)
    body = operation.body
    if body is not None:
        yield f"{body.argument}={_body_name(operation)}"
        if body.free_type:
            yield "content_type=content_type"
        elif body.content_type:
            yield f"content_type={literal(body.content_type)}"
    if operation.answer.accept != "application/json":
        yield f"accept={literal(operation.answer.accept)}"
    if operation.idempotent:
        yield "idempotent=True"
    if answer.kind != "none":
        yield f"into={answer.whole}"


def _pair(parameter: Parameter) -> str:
    return f"{literal(parameter.wire)}: {parameter.name}"


def _query(parameter: Parameter) -> str:
    items = [literal(parameter.wire), parameter.name]
    if not parameter.style:
        return piece("(", items, ")", column=16)
    if parameter.style != "form":
        items.append(f"style={literal(parameter.style)}")
    if not parameter.explode:
        items.append("explode=False")
    return piece("Query(", items, ")", column=16)


def _words(operation: Operation) -> list[str]:
    """The paragraphs of a method's docstring."""
    words = list(operation.doc)
    if operation.deprecated:
        words.append("Deprecated by the document.")
    arguments = [(each.name, each.doc) for each in operation.parameters if each.doc.strip()]
    if operation.body is not None and operation.body.doc.strip():
        arguments.append((_body_name(operation), operation.body.doc))
    if operation.idempotent:
        arguments.append(("idempotency_key", "The same for repeats of the same wish; a new one by default."))
    if arguments:
        words.append("\n".join(["Args:", *(f"    {name}: {_one_line(doc)}" for name, doc in arguments)]))
    if operation.answer.doc.strip() and operation.answer.typed.kind != "none":
        words.append(f"Returns:\n    {_one_line(operation.answer.doc)}")
    if operation.failures:
        lines = [
            f"        {failure.status}: {_one_line(failure.doc)}{f' (`{failure.typed.expr}`)' if failure.typed else ''}".rstrip()
            for failure in operation.failures
        ]
        words.append("\n".join(["Raises:", "    APIError: The status says which:", *lines]))
    return words


def _one_line(text: str) -> str:
    return " ".join(text.split())


def scheme_lines(scheme: Scheme) -> list[str]:
    """A function that makes credentials."""
    lines = piece(f"def {scheme.name}(", scheme.parameters, f") -> {scheme.kind}:").split("\n")
    lines += docstring(scheme.doc)
    return [*lines, *shifted(piece(f"return {scheme.kind}(", scheme.arguments, ")", column=4)).split("\n")]


def group_name(tag: str) -> str:
    """The attribute of the client that holds a group."""
    return snake_name(tag, fallback="group")
