"""What a route takes and gives: read by the compiler of handlers, and by the OpenAPI document."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

from consona.errors import ConfigurationError
from consona.rest.server.events import Event, EventStream
from consona.rest.server.pagination import ByCursor, ByNumber, ByOffset
from consona.rest.server.parameters import Injected, Parameter
from consona.rest.server.responses import WITHOUT_BODY, Response
from consona.rest.server.routing import WEBSOCKET, Route

__all__ = ["Signature", "is_coroutine_function", "is_response"]


class Signature:
    """What a route takes and gives.

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
        says_more = self.returns not in {type(None), inspect.Parameter.empty} and not is_response(self.returns)
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
        if not is_coroutine_function(self.route.handler):
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
        if wanted and is_response(self.returns) and self.returns.__call__ is not Response.__call__:
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


def is_response(returns: Any) -> bool:
    """Whether a handler that declares this makes its answer itself."""
    return isinstance(returns, type) and issubclass(returns, Response)


def is_coroutine_function(handler: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
