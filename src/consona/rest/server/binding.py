"""Compiles a handler's signature into the function that serves its requests.

At start, each route becomes one coroutine function `respond(request) -> Response`, written as Python
for that signature alone and compiled: nothing is looked up, looped over or parsed that this handler
did not ask for. For

    async def read_post(id: int, limit: int = 10) -> Post

it is (see it with `source_of(route)`):

    async def respond(request):
        fields = request.fields
        try:
            raw = {"p0": request.segments[0]}
            query = request.scope["query_string"]
            if query:
                read_query(query, raw)
            p = convert(raw, Texts, strict=False)
        except UNREADABLE as error:
            raise await explain(request, error) from None
        result = await handler(id=p.p0, limit=p.p1)
        if not result.__class__ is Declared0:
            if isinstance(result, Response):
                return result if result.prepared else await result.prepare(request)
            result = fit(result)
        if b"accept" in fields and b"msgpack" in fields[b"accept"]:
            return packed(result)
        return Encoded(json_encode(result), 200, JSON)
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable
from typing import Any

import msgspec

from consona.errors import ConfigurationError
from consona.rest.server.answers import answer_maker, event_stream, shown_by, written_answer
from consona.rest.server.bodies import UNREADABLE, BodyReader
from consona.rest.server.conditional import Precondition, demand_match, tag_answer
from consona.rest.server.explaining import Explainer
from consona.rest.server.form_fields import FormFields, FormFiles
from consona.rest.server.guards import Guard, admit
from consona.rest.server.idempotency import Idempotency, IdempotencyKey, once
from consona.rest.server.pagination import linked
from consona.rest.server.parameters import Injected, Parameter
from consona.rest.server.responses import Response
from consona.rest.server.routing import Respond, Route
from consona.rest.server.signature import Signature, is_coroutine_function
from consona.rest.server.texts import codec_of, finite, holds_decimal, query_reader, texts_struct

__all__ = ["compile_route", "source_of"]


def compile_route(
    signature: Signature,
    *,
    guard: Guard | None,
    run_in_thread: Callable[..., Any],
    idempotency: Idempotency | None = None,
    reading: Signature | None = None,
) -> Respond:
    """The coroutine function that serves a route.

    Args:
        signature: The route's.
        guard: Finds out who calls.
        run_in_thread: Calls what may block.
        idempotency: Keeps the answers of routes that are `idempotent=`.
        reading: The GET of the same path, where it gives its answers a tag.

    Raises:
        ConfigurationError: The route needs a guard, and there is none.
    """
    if signature.guarded and guard is None:
        raise ConfigurationError(
            f"{signature.route.label} needs to know who calls it, and nothing is attached that finds out.",
            hint="Attach a guard: api.secure(guard). Until then nobody may pass, so the server does not start.",
        )
    writer = _Writer(signature, guard, run_in_thread, idempotency, reading)
    source = writer.write()
    code = compile(source, f"<route {signature.route.method} {signature.route.path}>", "exec")
    exec(code, writer.names)  # noqa: S102 the source is written below, from names that we made
    respond: Respond = writer.names["respond"]
    if signature.has_pages:
        respond = linked(respond)
    if signature.route.options.get("etag"):
        respond = _tagged(respond, weak=signature.route.options["etag"] == "weak")
    if signature.route.options.get("idempotent"):
        respond = once(respond, again=signature.keeps_answer)
    respond.source = source  # type: ignore[attr-defined]
    return respond


def _tagged(respond: Respond, *, weak: bool) -> Respond:
    async def tagged(request: Any) -> Response:
        return tag_answer(request, await respond(request), weak=weak)

    return tagged


def source_of(route: Route) -> str:
    """The Python that a route of a started server was compiled to."""
    return str(getattr(route.respond, "source", ""))


class _Writer:
    """Writes `respond` line by line, and collects the names that it uses."""

    def __init__(
        self,
        signature: Signature,
        guard: Guard | None,
        run_in_thread: Callable[..., Any],
        idempotency: Idempotency | None,
        reading: Signature | None,
    ) -> None:
        self.signature = signature
        self.reading = reading
        self.idempotency = idempotency
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "handler": signature.route.handler,
            "guard": guard,
            "run_in_thread": run_in_thread,
            "partial": functools.partial,
            "convert": msgspec.convert,
            "UNREADABLE": UNREADABLE,
            "admit": admit,
            "contextlib": contextlib,
        }

    def write(self) -> str:
        arguments = "request, socket" if self.signature.is_websocket else "request"
        self.lines = [f"async def respond({arguments}):", "    fields = request.fields"]
        if self.signature.guarded:
            self.names["roles"], self.names["scopes"] = self.signature.roles, self.signature.scopes
            self.lines.append("    identity = await admit(guard, request, roles, scopes)")
        if self.signature.route.options.get("require_match"):
            self.names["demand_match"] = demand_match
            self.lines.append("    demand_match(fields)")
        if self.signature.texts or self.signature.files or self.signature.body is not None:
            self._write_reading()
        if self.signature.route.options.get("idempotent"):
            self._write_claim()
        if self.signature.yields:
            self._write_events()
        else:
            self._write_call()
            if not self.signature.is_websocket:
                self.lines += written_answer(self.signature, self.names)
        return "\n".join(self.lines) + "\n"

    def _write_claim(self) -> None:
        assert self.idempotency is not None
        required = self.signature.route.options.get("idempotent") == "required"
        self.names["claim"] = functools.partial(
            self.idempotency.claim, again=self.signature.keeps_answer, required=required
        )
        self.lines.append("    replayed = await claim(request)")
        self.lines.append("    if replayed is not None:")
        self.lines.append("        return replayed")

    def _write_reading(self) -> None:
        signature = self.signature
        fields = FormFields({f"p{i}": p for i, p in enumerate(signature.texts) if p.place == "form"})
        files = FormFiles(signature.files)
        form = (fields, files) if signature.has_form else None
        self.names["explain"] = Explainer(signature.texts, signature.body, form).explain
        add = self.lines.append
        add("    try:")
        if signature.has_form:
            self.names["read_fields"], self.names["read_files"] = fields.read, files.read
            add("        form = await request.form()")
            add("        files = read_files(form)")
        if self.signature.texts:
            self._write_texts()
        if self.signature.body is not None:
            self._write_body(self.signature.body)
        add("    except UNREADABLE as error:")
        add("        raise await explain(request, error) from None")

    def _write_texts(self) -> None:
        add = self.lines.append
        texts = list(enumerate(self.signature.texts))
        self.names["Texts"] = texts_struct(self.signature.texts)
        path_names = self.signature.route.path_names
        from_path = [f'"p{i}": request.segments[{path_names.index(p.alias)}]' for i, p in texts if p.place == "path"]
        add(f"        raw = {{{', '.join(from_path)}}}")
        if any(p.place == "form" for _, p in texts):
            add("        read_fields(form, raw)")
        query = {p.alias: (f"p{i}", p.many) for i, p in texts if p.place == "query"}
        if query:
            self.names["read_query"] = query_reader(query)
            add('        query = request.scope["query_string"]')
            add("        if query:")
            add("            read_query(query, raw)")
        for i, parameter in texts:
            if parameter.place == "header":
                add(f"        value = fields.get({parameter.alias.encode('latin-1')!r})")
                add("        if value is not None:")
                add(f'            raw["p{i}"] = value.decode("{codec_of(parameter.alias)}")')
        cookies = [(i, p) for i, p in texts if p.place == "cookie"]
        if cookies:
            add("        cookies = request.cookies")
        for i, parameter in cookies:
            add(f"        if {parameter.alias!r} in cookies:")
            add(f'            raw["p{i}"] = cookies[{parameter.alias!r}]')
        add("        p = convert(raw, Texts, strict=False)")
        for i, parameter in texts:
            if holds_decimal(parameter.type):
                self.names["finite"] = finite
                add(f"        finite(p.p{i})")

    def _write_body(self, body: Parameter) -> None:
        add = self.lines.append
        reader = BodyReader(body.type)
        self.names["read_body"] = reader.read
        add("        data = await request.body()")
        opening = "if"
        if not body.required:
            self.names["default_body"] = functools.partial(copy.copy, body.default)
            add("        if not data:")
            add("            body = default_body()")
            opening = "elif"
        if reader.raw:
            add(f"        {'if True' if opening == 'if' else 'else'}:")
        else:
            self.names["from_json"] = reader.from_json
            add(
                f'        {opening} fields.get(b"content-type") == b"application/json" '
                'and b"content-encoding" not in fields:'
            )
            add("            body = from_json(data)")
            add("        else:")
        add("            body = read_body(fields, data)")

    # The call.

    def _write_call(self) -> None:
        indent = "    "
        if any(provider.kind == "generator" for provider in self.signature.providers):
            # Cleaned up before the answer is sent: a commit that fails there is an error, not a lie.
            self.lines.append("    async with contextlib.AsyncExitStack() as stack:")
            indent = "        "
        for position, provider in enumerate(self.signature.providers):
            self._write_provider(position, provider, indent)
        arguments = self._arguments(self.signature.parameters, "")
        handler = self.signature.route.handler
        if is_coroutine_function(handler):
            self.lines.append(f"{indent}result = await handler({arguments})")
        else:
            self.lines.append(f"{indent}result = await run_in_thread(partial(handler, {arguments}))")

    def _write_events(self) -> None:
        """The call of a handler that yields. What must be cleaned up after it lives as long as the stream."""
        add = self.lines.append
        self.names["event_stream"] = event_stream(self.signature)
        arguments = self._arguments(self.signature.parameters, "")
        if not any(provider.kind == "generator" for provider in self.signature.providers):
            for position, provider in enumerate(self.signature.providers):
                self._write_provider(position, provider, "    ")
            add(f"    return event_stream(handler({arguments}))")
            return
        add("    async def events():")
        add("        async with contextlib.AsyncExitStack() as stack:")
        for position, provider in enumerate(self.signature.providers):
            self._write_provider(position, provider, " " * 12)
        add(f"            async with contextlib.aclosing(handler({arguments})) as yielded:")
        add("                async for event in yielded:")
        add("                    yield event")
        add("    return event_stream(events())")

    def _write_provider(self, position: int, provider: Injected, indent: str) -> None:
        name = f"provide_{position}"
        arguments = self._arguments(provider.parameters, name)
        function: Callable[..., Any] = provider.function
        if provider.kind == "async":
            call = f"await {name}({arguments})"
        elif provider.kind == "sync":
            call = f"await run_in_thread(partial({name}, {arguments}))"
        else:
            function = contextlib.asynccontextmanager(function)
            call = f"await stack.enter_async_context({name}({arguments}))"
        self.names[name] = function
        self.lines.append(f"{indent}d{position} = {call}")

    def _arguments(self, parameters: Any, owner: str) -> str:
        return ", ".join(f"{p.name}={self._expression(p, f'{owner}_{p.name}')}" for p in parameters)

    def _expression(self, parameter: Parameter, unique: str) -> str:
        if parameter.from_text:
            return f"p.p{self.signature.texts.index(parameter)}"
        if parameter.place == "file":
            return f"files[{self.signature.files.index(parameter)}]"
        if parameter.place == "provider":
            return f"d{self.signature.providers.index(parameter.source)}"
        if parameter.place == "value":
            self.names[f"value{unique}"] = parameter.source
            return f"value{unique}"
        if parameter.place == "user":
            self.names[f"user{unique}"] = parameter.type
            return f"await guard.user(identity, user{unique})"
        if parameter.place == "idempotency":
            self.names["IdempotencyKey"] = IdempotencyKey
            self.names["make_answer"] = answer_maker(self.signature)
            return "IdempotencyKey(request, make_answer)"
        if parameter.place == "precondition":
            self.names["Precondition"], self.names["shown"] = Precondition, shown_by(self.reading)
            return "Precondition(request, shown)"
        return {"background": "request.background"}.get(parameter.place, parameter.place)  # body, request, socket
