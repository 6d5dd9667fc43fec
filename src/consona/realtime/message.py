r"""A message of a channel, and what it looks like to each kind of client: made once, for all who get it.

| client | what it gets |
|---|---|
| WebSocket, JSON | `{"channel":"chat.tea","position":"5f0a-7","data":{"text":"hello"}}` |
| WebSocket, MessagePack | the same, packed |
| server-sent events | `event: order`, `id: 5f0a-7`, `data: {"id":7}` |
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from consona.rest.server.events import Event, encode_event

__all__ = ["BINARY", "FRAME", "TEXT", "Message"]

TEXT: Final = "text"
BINARY: Final = "bytes"
FRAME: Final = "frame"
"""Values of the header `plain`: the body is what a client gets, with nothing around it. A frame is JSON of the
server's own, such as who came into a channel."""

ASGIMessage = dict[str, Any]

_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode


class Message:
    """One message.

    Attributes:
        channel: Where it was published.
        position: Its place: grows from message to message, over all channels of one engine.
        token: Its place as clients see it, with the age of the engine it counts for.
        at: When it was published, in seconds since the epoch.
        body: Its data as JSON (text or bytes as they are, where it is `plain`).
        event: Its name, where it has one.
        plain: `text` or `bytes` where the body is not JSON.
        trace: The trace that it was published in, as a `traceparent` header; empty for none.
    """

    __slots__ = (
        "_event", "_json", "_packed", "_plain", "_wrapped",
        "at", "body", "channel", "event", "plain", "position", "token", "trace",
    )  # fmt: skip

    def __init__(
        self,
        channel: str,
        position: int,
        token: str,
        at: float,
        body: bytes,
        *,
        event: str = "",
        plain: str = "",
        trace: str = "",
    ) -> None:
        self.channel = channel
        self.position = position
        self.token = token
        self.at = at
        self.body = body
        self.event = event
        self.plain = plain
        self.trace = trace
        self._json: ASGIMessage | None = None
        self._packed: ASGIMessage | None = None
        self._plain: ASGIMessage | None = None
        self._event: bytes | None = None
        self._wrapped: bytes | None = None

    @property
    def data(self) -> Any:
        """What was published, decoded anew each time."""
        if self.plain == BINARY:
            return self.body
        return self.body.decode() if self.plain == TEXT else msgspec.json.decode(self.body)

    @property
    def framed(self) -> bool:
        """Whether it is a frame of the server's own."""
        return self.plain == FRAME

    def for_json(self) -> ASGIMessage:
        """For a WebSocket that speaks JSON."""
        if self._json is None:
            self._json = {"type": "websocket.send", "text": self._envelope().decode()}
        return self._json

    def for_msgpack(self) -> ASGIMessage:
        """For a WebSocket that speaks MessagePack."""
        if self._packed is None:
            fields = {"channel": self.channel, "position": self.token}
            if self.event:
                fields["event"] = self.event
            self._packed = {"type": "websocket.send", "bytes": _to_msgpack({**fields, "data": self.data})}
        return self._packed

    def for_plain(self, *, packed: bool = False) -> ASGIMessage:
        """For a WebSocket that gets the data alone."""
        if packed:
            if self._packed is None:
                self._packed = {"type": "websocket.send", "bytes": _to_msgpack(self.data)}
            return self._packed
        if self._plain is None:
            if self.plain == BINARY:
                self._plain = {"type": "websocket.send", "bytes": self.body}
            else:
                self._plain = {"type": "websocket.send", "text": self.body.decode()}
        return self._plain

    def for_events(self) -> bytes:
        """For a stream of server-sent events."""
        if self.framed:
            return b""
        if self._event is None:
            self._event = encode_event(Event(self._text(), event=self.event, id=self.token))
        return self._event

    def for_wrapped_events(self) -> bytes:
        """For a stream of server-sent events of several channels: each says of which it is."""
        if self._wrapped is None:
            text = self.body if self.framed else self._envelope()
            self._wrapped = encode_event(Event(text.decode(), id=self.token))
        return self._wrapped

    def _text(self) -> str:
        return _to_json(self.body).decode() if self.plain == BINARY else self.body.decode()

    def _envelope(self) -> bytes:
        event = b',"event":' + _to_json(self.event) if self.event else b""
        body = _to_json(self.data) if self.plain else self.body
        channel, token = _to_json(self.channel), _to_json(self.token)
        return b'{"channel":%b,"position":%b%b,"data":%b}' % (channel, token, event, body)

    def __repr__(self) -> str:
        return f"<Message {self.token} in {self.channel!r}>"
