"""What runs around each request: it may answer early, or change the request and the answer.

    @api.middleware
    async def limit(request, call_next):
        if too_many(request.client):
            raise RateLimited("Slowly, please.", retry_after=1)
        response = await call_next(request)
        response.headers["x-shop"] = "open"
        return response

The one declared first is the outermost. `call_next` always gives an answer, also for an error, an
unknown path or a mounted application; it never raises for one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from consona.errors import ConfigurationError
from consona.rest.server.requests import Request
from consona.rest.server.responses import Empty, Response

__all__ = ["CallNext", "Middleware", "chain", "response_of"]

CallNext = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Request, CallNext], Awaitable[Any]]
Recover = Callable[[Exception, Request], Awaitable[Response]]


def chain(middlewares: Sequence[Middleware], innermost: CallNext, recover: Recover) -> CallNext:
    """All middlewares around `innermost`, as one call.

    Raises:
        ConfigurationError: One is not a coroutine function of two parameters.
    """
    call = innermost
    for middleware in reversed(middlewares):
        _check(middleware)
        call = _layer(middleware, call, recover)
    return call


def _layer(middleware: Middleware, call_next: CallNext, recover: Recover) -> CallNext:
    async def layer(request: Request) -> Response:
        try:
            return response_of(await middleware(request, call_next))
        except Exception as error:  # noqa: BLE001 whatever it is, it is answered
            return await recover(error, request)

    return layer


def response_of(result: Any, *, status: int = 200) -> Response:
    """What a middleware or an error handler returned, as an answer."""
    if isinstance(result, Response):
        return result
    if result is None:
        return Empty(204 if status == 200 else status)
    return Response(result, status=status)


def _check(middleware: Middleware) -> None:
    name = getattr(middleware, "__qualname__", repr(middleware))
    call: Any = middleware if inspect.isroutine(middleware) else getattr(middleware, "__call__", None)  # noqa: B004
    if not inspect.iscoroutinefunction(call):
        raise ConfigurationError(f"The middleware {name} must be declared with `async def`.")
    if len(inspect.signature(middleware).parameters) != 2:
        raise ConfigurationError(f"The middleware {name} must take two parameters: request and call_next.")
