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
        if result.__class__ is not Result:
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
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, get_args, get_origin

import msgspec

from consona.errors import ConfigurationError, ConsonaError
from consona.rest.server.bodies import UNREADABLE, BodyReader
from consona.rest.server.conditional import Precondition, demand_match, tag_answer
from consona.rest.server.events import Event, EventStream
from consona.rest.server.explaining import Explainer
from consona.rest.server.form_fields import FormFields, FormFiles
from consona.rest.server.guards import Guard, admit
from consona.rest.server.hints import is_body_like
from consona.rest.server.idempotency import Idempotency, IdempotencyKey, once
from consona.rest.server.pagination import ByCursor, ByNumber, ByOffset, Page, linked
from consona.rest.server.parameters import Injected, Parameter
from consona.rest.server.responses import (
    JSON,
    MSGPACK,
    WITHOUT_BODY,
    Empty,
    Encoded,
    Response,
    json_encode,
    msgpack_encode,
)
from consona.rest.server.routing import WEBSOCKET, Respond, Route
from consona.rest.server.texts import codec_of, finite, holds_decimal, query_reader, texts_struct
from consona.validation import plain_words

__all__ = ["AnswerMismatch", "Signature", "compile_route", "source_of"]


READY: Final = "return result if result.prepared else await result.prepare(request)"


class AnswerMismatch(ConsonaError):
    """A handler returned something that is not what its signature says."""

    code = "rest.answer_mismatch"
    status = 500
    hint = "Return what the handler's annotation says, or change the annotation."


class Signature:
    """What a route takes and gives: read by the compiler below and by the OpenAPI document.

    Args:
        route: The route.
        parameters: The handler's parameters.
        returns: The declared type of the answer; `inspect.Parameter.empty` where there is none.

    Raises:
        ConfigurationError: Two parameters want the body, or the handler is not callable that way.
    """

    def __init__(self, route: Route, parameters: list[Parameter], returns: Any) -> None:
        self.route = route
        self.closed = False
        """Whether the server's guard closes all routes that do not say `public=True`."""
        self.parameters = parameters
        self.returns = type(None) if returns is None else returns
        self.texts: list[Parameter] = []
        self.providers: list[Injected] = []
        self.files: list[Parameter] = []
        self.body: Parameter | None = None
        self._collect(parameters)
        options = route.options
        self.roles = frozenset(options.get("roles", ()))
        self.scopes = frozenset(options.get("scopes", ()))
        self.status = options.get("status") or (204 if self.returns is type(None) else 200)

        self._check()

    def _check(self) -> None:
        label = self.route.label
        if self.is_websocket:
            self._check_websocket()
            return
        if any(p.place == "socket" for p in self.each()):
            raise ConfigurationError(f"{label} wants a WebSocket.", hint="Declare it with @api.websocket(path).")
        self._check_body()
        says_more = self.returns not in {type(None), inspect.Parameter.empty} and not _is_response(self.returns)
        if self.status in WITHOUT_BODY and says_more:
            raise ConfigurationError(f"{label}: an answer with status {self.status} has no body.")
        if self.route.options.get("etag") and self.route.method != "GET":
            raise ConfigurationError(
                f"{label}: etag= is for GET.", hint="Of other answers, set the header: entity_tag(value)."
            )
        if self.route.options.get("require_match") and not self.has_precondition:
            raise ConfigurationError(
                f"{label}: require_match= demands a condition that nothing checks.",
                hint="Take a parameter `match: Precondition`, and call match.check(current).",
            )
        self._check_idempotent()
        if self.returns is bytes:
            raise ConfigurationError(
                f"{label}: bytes alone do not say what they are.", hint='Return Response(data, media_type="image/png").'
            )
        if inspect.isgeneratorfunction(self.route.handler):
            raise ConfigurationError(
                f"{label}: a handler that yields events is declared with `async def`.",
                hint="Or return EventStream(generator()).",
            )
        if self.yields:
            self._check_events()

    def _check_events(self) -> None:
        label = self.route.label
        if self.route.method != "GET" or self.status != 200:
            raise ConfigurationError(f"{label}: a stream of events is the answer to a GET, with status 200.")
        if self.route.options.get("etag"):
            raise ConfigurationError(f"{label}: a stream of events has no ETag.")
        if self.event_data is bytes:
            raise ConfigurationError(
                f"{label}: bytes are no events.", hint="Return StreamingResponse(generator(), media_type=…)."
            )

    def _check_websocket(self) -> None:
        label = self.route.label
        if not _is_coroutine_function(self.route.handler):
            raise ConfigurationError(f"{label}: a WebSocket's handler is declared with `async def`.")
        if not any(p.place == "socket" for p in self.parameters):
            raise ConfigurationError(f"{label} has no parameter of the type WebSocket.", hint="Add: socket: WebSocket.")
        for parameter in self.each():
            if parameter.place in {"body", "form", "file", "background", "precondition"}:
                raise ConfigurationError(
                    f"{label}: {parameter.name!r} belongs to a request, and a WebSocket has none.",
                    hint="Take it from the path, the query or a header, or from a message: socket.receive(Type).",
                )

    @property
    def is_websocket(self) -> bool:
        return self.route.method == WEBSOCKET

    @property
    def yields(self) -> bool:
        """Whether the handler yields events."""
        return inspect.isasyncgenfunction(self.route.handler)

    @property
    def is_event_stream(self) -> bool:
        return self.yields or (isinstance(self.returns, type) and issubclass(self.returns, EventStream))

    @property
    def event_data(self) -> Any:
        """The declared type of the data of each event that the handler yields."""
        yielded = (get_args(self.returns) or (Any,))[0] if self.yields else Any
        if get_origin(yielded) is Event or yielded is Event:
            return (get_args(yielded) or (Any,))[0]
        return yielded

    def _check_idempotent(self) -> None:
        label, wanted = self.route.label, self.route.options.get("idempotent")
        if wanted and self.route.method in {"GET", "HEAD", "OPTIONS"}:
            raise ConfigurationError(
                f"{label}: idempotent= is for what changes something; {self.route.method} never does."
            )
        if wanted and _is_response(self.returns) and self.returns.__call__ is not Response.__call__:
            raise ConfigurationError(
                f"{label}: idempotent= keeps the answer, and a {self.returns.__name__} has no end."
            )
        if self.keeps_answer and not wanted:
            raise ConfigurationError(
                f"{label} takes an IdempotencyKey.", hint="Declare the route with idempotent=True."
            )

    def _check_body(self) -> None:
        label, method = self.route.label, self.route.method
        fields = [parameter for parameter in self.texts if parameter.place == "form"]
        from_body = [*([] if self.body is None else [self.body]), *fields, *self.files]
        if from_body and method in {"GET", "HEAD"}:
            raise ConfigurationError(
                f"{label}: {from_body[0].name!r} would be the body, and {method} has none.",
                hint="Take it from the query (text-like types), or use POST.",
            )
        if self.body is not None and self.has_form:
            raise ConfigurationError(
                f"{label}: {self.body.name!r} is a body of its own, and {from_body[1].name!r} is part of a form.",
                hint="A request has one body: mark the other one too, Annotated[..., Form()].",
            )
        if len(fields) > 1 and not all(parameter.alias for parameter in fields):
            raise ConfigurationError(
                f"{label}: one parameter takes the fields of the whole form, so no other can have a field of it.",
                hint="Put all fields into the Struct. Files stay beside it.",
            )

    @property
    def has_pages(self) -> bool:
        """Whether it answers with pages of a list."""
        return any(provider.type in {ByCursor, ByNumber, ByOffset} for provider in self.providers)

    @property
    def keeps_answer(self) -> bool:
        """Whether the handler keeps its answer itself, in the transaction of its work."""
        return any(p.place == "idempotency" for p in self.each())

    @property
    def has_form(self) -> bool:
        """Whether the body is a form."""
        return bool(self.files) or any(parameter.place == "form" for parameter in self.texts)

    @property
    def guarded(self) -> bool:
        """Whether somebody must be known to call it."""
        if self.closed and not self.route.options.get("public"):
            return True
        return bool(self.roles or self.scopes or any(p.place == "user" for p in self.each()))

    @property
    def has_precondition(self) -> bool:
        """Whether it looks at the request's conditions."""
        return any(p.place == "precondition" for p in self.each())

    def each(self) -> Iterator[Parameter]:
        """All parameters: the handler's and those of its providers, each provider once."""
        yield from self.parameters
        for provider in self.providers:
            yield from provider.parameters

    def _collect(self, parameters: list[Parameter] | tuple[Parameter, ...]) -> None:
        for parameter in parameters:
            if parameter.from_text:
                self.texts.append(parameter)
            elif parameter.place == "file":
                self.files.append(parameter)
            elif parameter.place == "body":
                if self.body is not None:
                    raise ConfigurationError(
                        f"{self.route.label}: both {self.body.name!r} and {parameter.name!r} want the body.",
                        hint="A request has one body: join them in one Struct, "
                        "or say where the other is with Annotated[..., Query()].",
                    )
                self.body = parameter
            elif parameter.place == "provider" and parameter.source not in self.providers:
                self._collect(parameter.source.parameters)
                self.providers.append(parameter.source)


def compile_route(
    signature: Signature,
    *,
    guard: Guard | None,
    run_in_thread: Callable[..., Any],
    idempotency: Idempotency | None = None,
) -> Respond:
    """The coroutine function that serves a route.

    Args:
        signature: The route's.
        guard: Finds out who calls.
        run_in_thread: Calls what may block.
        idempotency: Keeps the answers of routes that are `idempotent=`.

    Raises:
        ConfigurationError: The route needs a guard, and there is none.
    """
    if signature.guarded and guard is None:
        raise ConfigurationError(
            f"{signature.route.label} needs to know who calls it, and nothing is attached that finds out.",
            hint="Attach a guard: api.secure(guard). Until then nobody may pass, so the server does not start.",
        )
    writer = _Writer(signature, guard, run_in_thread, idempotency)
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
    ) -> None:
        self.signature = signature
        self.idempotency = idempotency
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "handler": signature.route.handler,
            "guard": guard,
            "run_in_thread": run_in_thread,
            "partial": functools.partial,
            "convert": msgspec.convert,
            "Empty": Empty,
            "Encoded": Encoded,
            "JSON": JSON,
            "MSGPACK": MSGPACK,
            "Response": Response,
            "UNREADABLE": UNREADABLE,
            "admit": admit,
            "contextlib": contextlib,
            "json_encode": json_encode,
            "msgpack_encode": msgpack_encode,
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
                self._write_answer()
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
        if _is_coroutine_function(handler):
            self.lines.append(f"{indent}result = await handler({arguments})")
        else:
            self.lines.append(f"{indent}result = await run_in_thread(partial(handler, {arguments}))")

    def _write_events(self) -> None:
        """The call of a handler that yields. What must be cleaned up after it lives as long as the stream."""
        add = self.lines.append
        self.names["EventStream"] = EventStream
        arguments = self._arguments(self.signature.parameters, "")
        if not any(provider.kind == "generator" for provider in self.signature.providers):
            for position, provider in enumerate(self.signature.providers):
                self._write_provider(position, provider, "    ")
            add(f"    return EventStream(handler({arguments}))")
            return
        add("    async def events():")
        add("        async with contextlib.AsyncExitStack() as stack:")
        for position, provider in enumerate(self.signature.providers):
            self._write_provider(position, provider, " " * 12)
        add(f"            async with contextlib.aclosing(handler({arguments})) as yielded:")
        add("                async for event in yielded:")
        add("                    yield event")
        add("    return EventStream(events())")

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
            return f"IdempotencyKey(request, {self.signature.status})"
        if parameter.place == "precondition":
            self.names["Precondition"] = Precondition
            return "Precondition(request)"
        return {"background": "request.background"}.get(parameter.place, parameter.place)  # body, request, socket

    # The answer.

    def _write_answer(self) -> None:
        add = self.lines.append
        signature = self.signature
        status = signature.status
        returns = signature.returns
        if returns is type(None):
            add("    if isinstance(result, Response):")
            add(f"        {READY}")
            add(f"    return Empty({status})")
            return
        if _is_response(returns):
            add(f"    {READY}")
            return
        self.names["fit"] = functools.partial(_fit, returns, signature.route.label)
        checked = _class_check(returns, self.names)
        if checked:
            add(f"    if {checked}:")
            add("        if isinstance(result, Response):")
            add(f"            {READY}")
            add("        result = fit(result)")
        else:
            add("    if isinstance(result, Response):")
            add(f"        {READY}")
        add('    if b"accept" in fields and b"msgpack" in fields[b"accept"]:')
        add(f"        response = Encoded(msgpack_encode(result), {status}, MSGPACK)")
        add('        response.headers["vary"] = "accept"')
        add("        return response")
        add(f"    return Encoded(json_encode(result), {status}, JSON)")


def _class_check(returns: Any, names: dict[str, Any]) -> str:
    """The condition under which a result is not plainly what was declared; empty where it is not checked.

    A subclass, or another class with more fields, would show what the declared type hides.
    """
    if returns is inspect.Parameter.empty or returns is Any:
        return ""
    if isinstance(returns, type) and is_body_like(returns) and returns is not dict:
        names["Result"] = returns
        return "True" if issubclass(returns, dict) else "result.__class__ is not Result"
    origin, arguments = get_origin(returns), get_args(returns)
    if origin is list and isinstance(arguments[0], type) and is_body_like(arguments[0]) and arguments[0] is not dict:
        if issubclass(arguments[0], dict):
            return "True"
        names["Member"] = arguments[0]
        # The quickest of ten ways to see that all members are of one class (0.7 µs for 50).
        return "result.__class__ is not list or [*map(type, result)].count(Member) != len(result)"
    if origin is Page and isinstance(arguments[0], type) and issubclass(arguments[0], msgspec.Struct):
        names["Page"], names["Member"] = Page, arguments[0]
        return "result.__class__ is not Page or [*map(type, result.items)].count(Member) != len(result.items)"
    if is_body_like(returns) and origin is not dict:
        return "True"
    return ""


def _is_response(returns: Any) -> bool:
    return isinstance(returns, type) and issubclass(returns, Response)


def _fit(returns: Any, label: str, result: Any) -> Any:
    if isinstance(result, Page):  # it is one already, so its items would not be looked at
        result = msgspec.structs.asdict(result)
    try:
        return msgspec.convert(result, returns, from_attributes=True)
    except msgspec.ValidationError as error:
        raise AnswerMismatch(f"{label} returned something else than it declares: {plain_words(str(error))}.") from error


def _is_coroutine_function(handler: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
