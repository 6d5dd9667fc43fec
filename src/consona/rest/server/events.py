r"""Server-sent events: an answer that stays open, and sends an event whenever there is one.

    @api.get("/prices")
    async def prices(last: LastEventID = "") -> AsyncIterator[Event[Price]]:
        async for number, price in after(last):
            yield Event(price, id=str(number))

On the wire each event is a few lines of text and an empty one:

    event: price
    id: 42
    data: {"name":"tea","cents":250}

Nothing that an event holds can end its line and begin another field: data is split at every line break, and
names and ids with a line break are refused.

Source: WHATWG HTML Living Standard, section 9.2, Server-sent events.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

from consona.errors import ConfigurationError
from consona.rest.server.parameters import Header
from consona.rest.server.requests import Request
from consona.rest.server.responses import Send, StreamingResponse, close_parts, json_encode

__all__ = ["Event", "EventStream", "LastEventID", "encode_event"]

Data = TypeVar("Data")

EVENT_STREAM: Final = "text/event-stream"
COMMENT: Final = b":\n\n"

_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")
_NOT_IN_FIELDS: Final = re.compile(r"[\r\n\0]")

LastEventID = Annotated[str, Header("last-event-id")]
"""The id of the last event that the client got, before its connection broke: `last: LastEventID = ""`."""


class Event(msgspec.Struct, Generic[Data], frozen=True):
    r"""One event.

    Attributes:
        data: Text is sent as it is, line by line; any other value as JSON. Without data, a browser takes note of
            `id` and `retry`, and calls no handler.
        event: Its name, for `addEventListener` in a browser; `message` where there is none.
        id: What the client sends as `Last-Event-ID` when it connects again; empty forgets the one before.
        retry: Seconds that the client waits before it connects again.

    Example:
        >>> encode_event(Event({"cents": 250}, event="price", id="42"))
        b'event: price\nid: 42\ndata: {"cents":250}\n\n'
    """

    data: Data | None = None
    event: str = ""
    id: str | None = None
    retry: float | None = None


def encode_event(event: Any) -> bytes:
    r"""An event as it goes over the wire; any other value is the data of one.

    Raises:
        ConfigurationError: The name or the id holds a line break or NUL, or `retry` is negative.

    Example:
        >>> encode_event("two\nlines")
        b'data: two\ndata: lines\n\n'
    """
    if not isinstance(event, Event):
        return _data(event) + b"\n"
    lines = b""
    if event.event:
        lines += b"event: " + _field("event", event.event)
    if event.id is not None:
        lines += b"id: " + _field("id", event.id)
    if event.retry is not None:
        lines += _retry(event.retry)
    if event.data is not None:
        lines += _data(event.data)
    return lines + b"\n"


def _data(data: Any) -> bytes:
    if not isinstance(data, str):
        return b"data: " + json_encode(data) + b"\n"  # JSON of one line
    return b"".join(b"data: " + line.encode() + b"\n" for line in _LINE_BREAK.split(data))


def _field(name: str, value: str) -> bytes:
    if _NOT_IN_FIELDS.search(value):
        raise ConfigurationError(
            f"The {name} of an event holds a line break or NUL.", hint="Put what others write into its data."
        )
    return value.encode() + b"\n"


def _retry(seconds: float) -> bytes:
    if not 0 <= seconds < 1e9:
        raise ConfigurationError(f"Event(retry={seconds!r}) must be a number of seconds, from 0 on.")
    return b"retry: %d\n" % round(seconds * 1000)


class EventStream(StreamingResponse):
    """An answer that is a stream of events.

    A handler that yields is one by itself. Return an `EventStream` to look first (and answer 404, say), or to
    choose the settings. Each event waits until the client can take it. When the client goes away, or the server
    stops, the iterator is closed; the client connects again by itself, and says where it was (`LastEventID`).

    Args:
        events: `Event`s, or plain values, each the data of one.
        heartbeat: Seconds without an event after which a comment is sent, so that nothing on the way takes the
            connection for dead.
        retry: Seconds that clients wait before they connect again; by default what they like.
        headers: Names and values.

    Raises:
        ConfigurationError: A time is not above zero.

    Example:
        >>> EventStream(["a", "b"]).headers["content-type"]
        'text/event-stream'
    """

    __slots__ = ("_last", "_turn", "heartbeat", "narrow", "retry")

    narrow: Callable[[Any], Any] | None
    """Makes each event what the handler declares."""

    def __init__(
        self,
        events: AsyncIterable[Any] | Iterable[Any],
        *,
        heartbeat: float = 15.0,
        retry: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not heartbeat > 0:
            raise ConfigurationError(f"EventStream(heartbeat={heartbeat!r}) must be above zero.")
        super().__init__(events, headers=headers, media_type=EVENT_STREAM)
        self.heartbeat = heartbeat
        self.narrow = None
        self.retry = b"" if retry is None else _retry(retry) + b"\n"
        self._turn = asyncio.Lock()
        self._last = 0.0
        own = self.headers
        own.setdefault("cache-control", "no-store")
        own.setdefault("x-accel-buffering", "no")  # nginx and those that learned from it hold nothing back

    def _ends(self, request: Request, send: Send) -> list[Awaitable[Any]]:
        return [*super()._ends(request, send), self._beat(send)]

    async def _send_parts(self, request: Request, send: Send) -> None:
        events = self._iterated(request)
        try:
            if self.retry:
                await self._write(self.retry, send)
            async for event in events:
                await self._write(encode_event(event if self.narrow is None else self.narrow(event)), send)
        finally:
            await close_parts(events)

    async def _beat(self, send: Send) -> None:
        """Say that the connection is alive, where nothing else did for a while."""
        now: Callable[[], float] = asyncio.get_running_loop().time
        self._last = now()
        while True:
            quiet = now() - self._last
            if quiet < self.heartbeat:
                await asyncio.sleep(self.heartbeat - quiet)
            else:
                await self._write(COMMENT, send)

    async def _write(self, data: bytes, send: Send) -> None:
        async with self._turn:  # an event and a heartbeat do not mix, also where each is compressed on its way
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self._last = asyncio.get_running_loop().time()
