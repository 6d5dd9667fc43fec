"""The life of a WebSocket on the server, from the handshake to its end.

| what happens | what the client gets |
|---|---|
| unknown path, wrong parameters, no credentials, another site's page | an HTTP answer: a problem with its status |
| the handler ends | close 1000 |
| a message is no JSON or MessagePack; of the wrong kind; has wrong fields; is too long | close 1007; 1003; 1008; 1009 |
| the handler raises what a client caused (a status of 400 to 499) | close 1008 (1013 for 429) |
| it raises 503: it cannot serve now | close 1013 |
| it raises anything else | close 1011, and the request id, which is in the log |
| the server stops | close 1012 |

Where the server underneath cannot send an HTTP answer in the place of a WebSocket, a refused client gets 403.

Source: RFC 6455, sections 4.2.2, 7.4 and 10.2; ASGI's WebSocket Denial Response extension.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from consona.errors import ConsonaError, NotFound, PermissionDenied
from consona.rest.server.problems import HTTPError, ServiceUnavailable
from consona.rest.server.requests import Request, local_path
from consona.rest.server.responses import Message, Receive, Scope, Send
from consona.rest.server.serving import Serving
from consona.rest.server.websocket import CLOSED, WebSocket
from consona.rest.websocket_messages import InvalidMessage, WebSocketClosed
from consona.telemetry.observer import Operation

__all__ = ["denying", "serve_websocket"]

CODES: Final = {400: 1007, 413: 1009, 415: 1003, 429: 1013, 503: 1013}
"""Close codes by the status that the same error has for a request."""


async def serve_websocket(serving: Serving, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket, to its end."""
    found = serving.finder.find_websocket(scope)
    if found is None:
        path = local_path(scope)
        for mount in serving.mounts:
            if mount.takes(path):
                await mount.app(mount.scope_for(scope), receive, send)
                return
        found = serving.finder.no_websocket(NotFound("There is no WebSocket at this path.")), ()
    route, segments = found
    scope = {**scope, "method": "GET"}  # what a handshake is, and what a guard may look at
    request = Request(scope, serving, route, segments, dict(scope["headers"]), receive)
    connection = _Connection(request, receive, send)
    if route.series is None:
        await connection.serve()
        return
    parent = serving._parent(request) if b"traceparent" in request.fields else None
    with Operation(serving.observer, route.series, parent) as op:
        try:
            await connection.serve()
        finally:
            connection.tell(op)


class _Connection:
    def __init__(self, request: Request, receive: Receive, send: Send) -> None:
        route = request.route
        task = asyncio.current_task()
        assert task is not None
        self.request = request
        self.serving = request.serving
        self.error: BaseException | None = None
        self.refused = 403
        """The status of the answer, where it is not accepted."""
        self._task = task
        self._receive = receive
        self._send = send
        self.socket = WebSocket(
            request,
            receive,
            send,
            max_message=route.max_message,
            subprotocols=tuple(route.socket.get("subprotocols", ())),
            on_open=self._opened,
        )

    async def serve(self) -> None:
        """The handshake, the handler, the end."""
        serving, socket, task = self.serving, self.socket, self._task
        await self._receive()  # "websocket.connect"
        serving.open[task] = until = serving._clock() + serving._timeout_s  # the time to accept it
        if serving._timer.timer is None:
            serving._timer.arm(until)
        try:
            self._check()
            await self.request.route.respond(self.request, socket)
            await socket.close()
        except WebSocketClosed:
            return  # the usual end
        except Exception as error:  # noqa: BLE001 whatever it is, the client is told
            await self._fail(error)
        except asyncio.CancelledError as error:
            if not serving._timer.was_cut(task):
                self.error = error
                raise  # the server stops, and its time to drain is over
            await self._fail(serving._too_late(self.request))
        finally:
            serving.open.pop(task, None)
            serving.sockets.pop(task, None)
            if serving._timer.cut:
                serving._timer.was_cut(task)

    def _opened(self) -> None:
        self.serving.open.pop(self._task, None)
        self.serving.sockets[self._task] = self.socket

    def tell(self, op: Operation) -> None:
        """Note how it went."""
        socket, error = self.socket, self.error
        op.set(status=101 if socket.accepted else self.refused, received=socket.received, sent=socket.sent)
        if socket.closed is not None and socket.accepted:
            op.set(code=socket.closed.close_code)
        if isinstance(error, Exception):
            ours = not isinstance(error, ConsonaError) or error.status >= 500
            code = error.code if isinstance(error, ConsonaError) else type(error).__name__
            op.fail(code, level=logging.WARNING if ours else logging.DEBUG)

    def _check(self) -> None:
        """Refuse what is refused before its handler is asked."""
        serving, request = self.serving, self.request
        if serving.stopping.is_set():
            raise ServiceUnavailable("The server is stopping.", retry_after=1)
        if len(serving.sockets) >= serving.settings.max_sockets:
            raise ServiceUnavailable("Too many WebSockets are open.", retry_after=1)
        headers = request.scope["headers"]
        size = len(b"".join(request.fields.values()))
        if len(headers) > serving._max_headers or size > serving._max_header_bytes:
            serving._refuse(request)
        origin = request.fields.get(b"origin")
        if origin is not None and not _may(origin.decode("latin-1"), request, request.route.socket.get("origins")):
            raise PermissionDenied(
                "Pages of this site may not connect.", hint="The server names the sites that may, with origins=."
            )

    async def _fail(self, error: Exception) -> None:
        self.error = error
        if self.socket.accepted:
            self.serving.log_if_unexpected(error, self.request)
            await self.socket.close(*_close_of(error, self.request))
            return
        response = await self.serving.recover(error, self.request)
        self.refused = response.status
        self.socket.state = CLOSED
        with contextlib.suppress(OSError):  # the client was faster
            await response(self.request, denying(self.request.scope, self._send))


def _close_of(error: Exception, request: Request) -> tuple[int, str]:
    if isinstance(error, InvalidMessage):
        return error.close_code, error.message
    if isinstance(error, ConsonaError) and error.status < 500:
        return CODES.get(error.status, 1008), error.message
    if isinstance(error, HTTPError) and error.status == 503:
        return CODES[503], error.message
    if isinstance(error, ConsonaError) and error.status == 503:
        return CODES[503], "The service cannot answer now. Connect again later."
    return 1011, f"Something went wrong inside the server. Request {request.id}."


def _may(origin: str, request: Request, origins: Iterable[str] | None) -> bool:
    """Whether a page of `origin` may connect: a browser lets the pages of every site try, and sends its cookies."""
    if origins is not None:
        return "*" in origins or origin.lower() in {allowed.lower().rstrip("/") for allowed in origins}
    host = request.fields.get(b"host", b"").decode("latin-1").lower()
    try:
        return urlsplit(origin).netloc.lower() == host != ""
    except ValueError:
        return False


def denying(scope: Scope, send: Send) -> Send:
    """What sends an HTTP answer in the place of a WebSocket; a plain refusal (403) where the server cannot."""
    can = "websocket.http.response" in (scope.get("extensions") or {})

    async def deny(message: Message) -> None:
        if can:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close", "code": 1008})

    return deny
