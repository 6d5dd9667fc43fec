"""A WebSocket as its handler sees it.

    @api.websocket("/rooms/{room}")
    async def talk(room: str, socket: WebSocket) -> None:
        async for message in socket.messages(Chat):
            await socket.send(Answer(...))

It is accepted when it is first used. What a handler raises before that is an HTTP answer (401, 404, …);
what it raises after it closes the WebSocket with a code.

Source: RFC 6455; ASGI specification 3.0, WebSocket 2.5 and its Denial Response extension.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Self, TypeVar, overload

from consona.errors import ConfigurationError
from consona.rest.headers import encode_header
from consona.rest.server.requests import Request
from consona.rest.server.responses import Message as ASGIMessage
from consona.rest.server.responses import Receive, Send
from consona.rest.websocket_messages import (
    PACKED,
    TOO_LONG,
    InvalidMessage,
    Message,
    WebSocketClosed,
    check_code,
    cut_reason,
    decode_message,
    encode_message,
)

__all__ = ["WebSocket"]

T = TypeVar("T")

CONNECTING: Final = "connecting"
OPEN: Final = "open"
CLOSED: Final = "closed"


class WebSocket:
    """One connection to one client. A handler asks for it by type.

    Attributes:
        request: What the client asked with: headers, query, cookies, address, `identity`, `state`.
        offered: The subprotocols that the client offers, in its order.
        subprotocol: The one that was chosen; empty for none.
        packed: Whether values are sent as MessagePack instead of JSON: where the subprotocol is `msgpack`, or where
            a handler says so.
        received: How many messages came.
        sent: How many messages went out.
        accepted: Whether the client was told yes.
        closed: How it ended; None while it has not.
    """

    def __init__(
        self,
        request: Request,
        receive: Receive,
        send: Send,
        *,
        max_message: int,
        subprotocols: tuple[str, ...] = (),
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.request = request
        self.offered: list[str] = list(request.scope.get("subprotocols") or ())
        self.subprotocol = ""
        self.packed = False
        self.received = self.sent = 0
        self.accepted = False
        self.closed: WebSocketClosed | None = None
        self.state = CONNECTING
        self._receive = receive
        self._send = send
        self._max_message = max_message
        self._known = subprotocols
        self._on_open = on_open

    async def accept(self, *, subprotocol: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        """Say yes to the client. Needed only to choose a subprotocol or to send headers: the first use accepts too.

        Args:
            subprotocol: One of `offered`, or empty for none; by default the first of the route's `subprotocols=` that
                the client offers.
            headers: For the answer, such as `set-cookie`.

        Raises:
            ConfigurationError: It is accepted already, the client did not offer that subprotocol, or a header
                cannot be sent.
            WebSocketClosed: The client has gone.
        """
        if self.state is not CONNECTING:
            raise ConfigurationError("This WebSocket is accepted already.", hint="Call accept() before its first use.")
        if subprotocol is None:
            subprotocol = next((name for name in self._known if name in self.offered), "")
        elif subprotocol and subprotocol not in self.offered:
            raise ConfigurationError(
                f"The client did not offer the subprotocol {subprotocol!r}.", hint="Choose one of socket.offered."
            )
        message: ASGIMessage = {
            "type": "websocket.accept",
            "subprotocol": subprotocol or None,
            "headers": [encode_header(name, value) for name, value in (headers or {}).items()],
        }
        self.state = OPEN
        self.accepted = True
        self.subprotocol = subprotocol
        self.packed = self.packed or subprotocol == PACKED
        self._on_open()
        await self._pass_on(message)

    @overload
    async def receive(self, into: None = None) -> Message: ...
    @overload
    async def receive(self, into: type[T]) -> T: ...
    async def receive(self, into: Any = None) -> Any:
        """The next message.

        Args:
            into: Its type. Text is then read as JSON and bytes as MessagePack, unless it is `str` or `bytes`;
                without one, the message is given as it came.

        Raises:
            InvalidMessage: It is not of that type, or longer than the route's `max_message`. The WebSocket stays open
                where the handler catches it; otherwise it is closed with 1003, 1007, 1008 or 1009.
            WebSocketClosed: There are no more.
        """
        if self.state is not OPEN:
            await self._begin()
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise self._ended(message.get("code") or 1005, message.get("reason") or "")
        self.received += 1
        text: str | None = message.get("text")
        data: Message = message["bytes"] if text is None else text
        size = len(data) if text is None or text.isascii() else len(text.encode())
        if size > self._max_message:
            raise InvalidMessage(f"A message is longer than {self._max_message} bytes.", close_code=TOO_LONG)
        return data if into is None else decode_message(data, into)

    async def messages(self, into: type[T]) -> AsyncIterator[T]:
        """Each message as `into`, until the WebSocket is closed; `closed` then says how.

        Raises:
            InvalidMessage: One is not of that type.
        """
        while True:
            try:
                message = await self.receive(into)
            except WebSocketClosed:
                return
            yield message

    def __aiter__(self) -> Self:
        """Each message as it came (text or bytes), until the WebSocket is closed."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except WebSocketClosed:
            raise StopAsyncIteration from None

    async def send(self, message: Any) -> None:
        """Send text, bytes, or any other value as JSON (as MessagePack where `packed`).

        It waits until the client can take more. Any number of tasks may send; each message goes out as a whole.

        Raises:
            WebSocketClosed: It cannot reach the client any more.
        """
        if self.state is not OPEN:
            await self._begin()
        data = encode_message(message, packed=self.packed)
        await self._pass_on({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
        self.sent += 1

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End it. Before it was accepted that refuses it: the client gets 403. Afterwards nothing happens twice.

        Args:
            code: 1000 when all is done; 4000 to 4999 are yours.
            reason: A few words for the client's log, cut after 123 bytes.

        Raises:
            ConfigurationError: The code is none that may be sent.
        """
        check_code(code)
        if self.state is CLOSED:
            return
        reason = cut_reason(reason)
        self._ended(code, reason)
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):  # the client was faster
            return

    @property
    def native(self) -> Send:
        """What sends an ASGI message as it is (`websocket.send`), for who makes one for many clients.

        Only between `accept` and `close`; it raises what the server underneath raises.
        """
        return self._send

    async def _begin(self) -> None:
        """Accept it with its first use."""
        if self.closed is not None:
            raise WebSocketClosed(close_code=self.closed.close_code, reason=self.closed.reason)
        await self.accept()

    async def _pass_on(self, message: ASGIMessage) -> None:
        try:
            await self._send(message)
        except OSError as error:  # what ASGI servers raise once the client has gone
            raise self._ended(1006, "") from error

    def _ended(self, code: int, reason: str) -> WebSocketClosed:
        self.state = CLOSED
        if self.closed is None:
            self.closed = WebSocketClosed(close_code=code, reason=reason)
        return WebSocketClosed(close_code=self.closed.close_code, reason=self.closed.reason)

    def __repr__(self) -> str:
        return f"<WebSocket {self.request.route.path} {self.state}>"
