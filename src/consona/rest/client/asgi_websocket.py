"""The client's end of a WebSocket to an ASGI application in this process: no socket, the same behaviour.

Source: ASGI specification 3.0, WebSocket 2.5 and its Denial Response extension.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import Any, Final, Self, TypeVar, overload

from consona.errors import DeadlineExceeded
from consona.rest.client.asgi_transport import App
from consona.rest.client.asgi_transport import Message as ASGIMessage
from consona.rest.websocket_messages import (
    Message,
    WebSocketClosed,
    check_code,
    cut_reason,
    decode_message,
    encode_message,
)

__all__ = ["ASGIWebSocket", "Refused"]

T = TypeVar("T")

WAITING: Final = 64
"""Messages that wait to be read, beyond which the application's `send` waits, as it does for a slow client."""


class Refused(Exception):
    """The application answered with HTTP in the place of a WebSocket."""

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class ASGIWebSocket:
    """A WebSocket as its client sees it. `receive` and `send` are those of the server's `WebSocket`.

    Attributes:
        subprotocol: The one that the server chose; empty for none.
        headers: Of the server's answer.
        packed: Whether values are sent as MessagePack; by default where the subprotocol is `msgpack`.
        closed: How it ended; None while it has not.
    """

    def __init__(self, app: App, scope: dict[str, Any], *, timeout_s: float | None) -> None:
        self.subprotocol = ""
        self.headers: list[tuple[bytes, bytes]] = []
        self.packed = False
        self.closed: WebSocketClosed | None = None
        self._timeout_s = timeout_s
        self._over: ASGIMessage | None = None
        """What comes after the last message, once the application has returned."""
        self._to_app: asyncio.Queue[ASGIMessage] = asyncio.Queue()
        self._from_app: asyncio.Queue[ASGIMessage] = asyncio.Queue(WAITING)
        # A context of its own, as on the wire: trace and deadline travel in headers, not in memory.
        self.task = asyncio.get_running_loop().create_task(self._run(app, scope), context=Context())

    async def _run(self, app: App, scope: dict[str, Any]) -> None:
        code = 1006
        try:
            await app(scope, self._to_app.get, self._take)
        except Exception:  # noqa: BLE001 on the wire a client sees no more of it than this
            code = 1011
        finally:
            self._over = {"type": "websocket.close", "code": code}
            if not self._from_app.full():  # else nobody waits for it
                self._from_app.put_nowait(self._over)

    async def _take(self, message: ASGIMessage) -> None:
        """What the application calls to send."""
        if self.closed is not None:
            raise OSError("The client has gone.")
        if message["type"] == "websocket.close":
            self._to_app.put_nowait({**message, "type": "websocket.disconnect"})
        await self._from_app.put(message)

    async def open(self) -> None:
        """Wait until the application says yes.

        Raises:
            Refused: It says no.
        """
        self._to_app.put_nowait({"type": "websocket.connect"})
        message = await self._next()
        if message["type"] == "websocket.accept":
            self.subprotocol = message.get("subprotocol") or ""
            self.packed = self.subprotocol == "msgpack"
            self.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            return
        if message["type"] != "websocket.http.response.start":
            raise Refused(403, [], b"")
        status, headers, body = message["status"], message.get("headers", ()), b""
        more = True
        while more:
            message = await self._next()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        raise Refused(status, headers, body)

    @overload
    async def receive(self, into: None = None) -> Message: ...
    @overload
    async def receive(self, into: type[T]) -> T: ...
    async def receive(self, into: Any = None) -> Any:
        """The next message, as it came, or as the type that is asked for.

        Raises:
            InvalidMessage: It is not of that type.
            WebSocketClosed: There are no more.
            DeadlineExceeded: None came within the time that the client gives an answer.
        """
        if self.closed is not None:
            raise self._ended(self.closed.close_code, self.closed.reason)
        message = await self._next()
        if message["type"] != "websocket.send":
            raise self._ended(message.get("code", 1000), message.get("reason", ""))
        text: str | None = message.get("text")
        data: Message = message["bytes"] if text is None else text
        return data if into is None else decode_message(data, into)

    def __aiter__(self) -> Self:
        """Each message as it came, until the WebSocket is closed."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except WebSocketClosed:
            raise StopAsyncIteration from None

    async def send(self, message: Any) -> None:
        """Send text, bytes, or any other value as JSON (as MessagePack where `packed`).

        Raises:
            WebSocketClosed: It is closed.
        """
        if self.closed is not None:
            raise self._ended(self.closed.close_code, self.closed.reason)
        data = encode_message(message, packed=self.packed)
        self._to_app.put_nowait({"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it, and wait until the application has let go of it."""
        check_code(code)
        await self._leave(code, cut_reason(reason))

    async def vanish(self) -> None:
        """Go without a word, as a client does whose connection breaks."""
        await self._leave(1006, "")

    async def _leave(self, code: int, reason: str) -> None:
        if self.closed is None:
            self._ended(code, reason)
            self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        while not self._from_app.empty():  # the application may be waiting for room
            self._from_app.get_nowait()
        _, late = await asyncio.wait({self.task}, timeout=self._timeout_s)
        for task in late:
            task.cancel()

    async def _next(self) -> ASGIMessage:
        if self._over is not None and self._from_app.empty():
            return self._over
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._from_app.get()
        except TimeoutError:
            raise DeadlineExceeded(
                f"The application sent nothing for {self._timeout_s:g} s.", phase="read", seconds=self._timeout_s
            ) from None

    def _ended(self, code: int, reason: str) -> WebSocketClosed:
        if self.closed is None:
            self.closed = WebSocketClosed(close_code=code, reason=reason)
        return WebSocketClosed(close_code=self.closed.close_code, reason=self.closed.reason)
