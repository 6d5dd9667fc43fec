"""One connected client, as handlers see it."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from consona.realtime.channels import Joined
from consona.realtime.event_frames import COMMENT, answer_event, gap_event
from consona.realtime.frames import frame
from consona.realtime.message import ASGIMessage, Message
from consona.realtime.outlet import Outlet
from consona.rest.server.events import Event, encode_event

if TYPE_CHECKING:
    from consona.realtime.server import RealtimeServer
    from consona.rest.server.guards import Identity
    from consona.rest.server.requests import Request

__all__ = ["Client", "EventClient", "SocketClient"]


class Client(ABC):
    """One connection to one client.

    Attributes:
        id: Names this connection, among all of all processes.
        request: What it connected with: headers, query, cookies, address.
        identity: Who it is, where a guard found out.
        info: What other members of a channel see of it; the application says what (anything that can be JSON).
        state: The application's own.
        channels: The channels that it is in.
    """

    __slots__ = (
        "__weakref__",
        "_state",
        "channels",
        "closing",
        "id",
        "identity",
        "info",
        "last",
        "outlet",
        "present",
        "request",
        "seen",
        "server",
    )  # fmt: skip

    outlet: Outlet

    def __init__(self, server: RealtimeServer, request: Request, identity: Identity | None) -> None:
        self.id = secrets.token_hex(8)
        self.server = server
        self.request = request
        self.identity = identity
        self.info: Any = None
        self.channels: dict[str, None] = {}
        self.closing: tuple[int, str] | None = None
        """With what code, and why, it is being closed by the server."""
        self.seen, self.last = 0, 0.0
        """How much was sent to it when that was looked at last, and since when nothing more was."""
        self._state: dict[str, Any] | None = None
        self.present: set[str] | None = None
        """The channels whose other members are told of it."""

    @property
    def user(self) -> str:
        """The account's id; empty where nobody signed in."""
        return "" if self.identity is None else self.identity.subject

    @property
    def state(self) -> dict[str, Any]:
        if self._state is None:
            self._state = {}
        return self._state

    async def join(self, channel: str, *, after: str | None = None) -> None:
        """Let it get the channel's messages, whoever may else join it; with `after`, those that it missed first.

        Raises:
            ValidationError: The channel's name cannot be one.
            RateLimited: It is in as many channels as it may.
        """
        await self.server.let_in(self, channel, after=after)

    async def leave(self, channel: str) -> None:
        """Let it get no more of the channel's messages."""
        await self.server.let_out(self, channel)

    async def send(self, data: Any, *, event: str = "") -> None:
        """Send something to this client alone. It is not kept: a client that has gone does not get it later."""
        self.answer({"event": event, "data": data} if event else {"data": data})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection."""
        self.end(code, reason)

    def end(self, code: int, reason: str) -> None:
        """Begin to end the connection; its own task does the rest."""
        if self.closing is None:
            self.closing = (code, reason)
            self.outlet.closed = True
            self._end()

    # What the server calls.

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Give it a message of one of its channels."""

    @abstractmethod
    def gap(self, channel: str, token: str) -> None:
        """Tell that messages of the channel are missing before the position `token`."""

    @abstractmethod
    def answer(self, fields: dict[str, Any]) -> None:
        """Send what is not a channel's message."""

    @abstractmethod
    def joined(self, channel: str, joined: Joined, **more: Any) -> None:
        """Tell how it came into a channel, and what it missed there."""

    @abstractmethod
    def beat(self) -> None:
        """Tell that the connection is alive."""

    @abstractmethod
    def reconnect(self, seconds: float) -> None:
        """Tell it to come back after so long: the server stops."""

    @abstractmethod
    def gap_frame(self, channel: str) -> ASGIMessage | bytes | None:
        """What tells it, when it has fallen behind, that it lost messages of the channel."""

    @abstractmethod
    def _end(self) -> None:
        """Interrupt the task that serves it."""

    def __repr__(self) -> str:
        return f"<Client {self.id}>"


class SocketClient(Client):
    """A client at a WebSocket."""

    __slots__ = ("_end_now", "packed", "plain", "turn")

    def __init__(
        self,
        server: RealtimeServer,
        request: Request,
        identity: Identity | None,
        *,
        packed: bool,
        plain: bool,
        end: Callable[[], None],
    ) -> None:
        super().__init__(server, request, identity)
        self.packed = packed
        self.plain = plain
        self.turn: float | None = None
        """When its next message would be exactly on schedule; see `RateLimit`."""
        self._end_now = end

    def deliver(self, message: Message) -> None:
        if self.plain or message.framed:
            made = message.for_plain(packed=self.packed and message.framed)
        else:
            made = message.for_msgpack() if self.packed else message.for_json()
        self.outlet.put(made, message.channel)

    def gap(self, channel: str, token: str) -> None:
        self.answer({"gap": channel, "position": token})

    def answer(self, fields: dict[str, Any]) -> None:
        if not self.plain:
            self.outlet.put(frame(fields, packed=self.packed))
        elif "data" in fields:
            self.outlet.put(frame(fields["data"], packed=self.packed))

    def joined(self, channel: str, joined: Joined, **more: Any) -> None:
        self.answer({"joined": channel, "position": joined.token, "gap": joined.gap, **more})
        for message in joined.messages:
            self.deliver(message)

    def gap_frame(self, channel: str) -> ASGIMessage | None:
        """What tells a slow client of what it lost."""
        return None if self.plain else frame({"gap": channel}, packed=self.packed)

    def beat(self) -> None:
        self.answer({"beat": True})

    def reconnect(self, seconds: float) -> None:
        self.answer({"reconnect": round(seconds, 2)})
        self.outlet.closed = True

    def _end(self) -> None:
        self._end_now()


class EventClient(Client):
    """A client at a stream of server-sent events. It only listens."""

    __slots__ = ("held", "interrupt", "wrapped")

    interrupt: Callable[[], object]
    """Interrupts the task that holds the stream open."""

    def __init__(self, server: RealtimeServer, request: Request, identity: Identity | None, *, wrapped: bool) -> None:
        super().__init__(server, request, identity)
        self.wrapped = wrapped
        self.held: list[Message] | None = []
        """What came while it joins its channels: sent when it is in all of them, in order over all."""

    def deliver(self, message: Message) -> None:
        if self.held is not None:
            self.held.append(message)
            return
        made = message.for_wrapped_events() if self.wrapped else message.for_events()
        if made:
            self.outlet.put(made, message.channel)

    def gap(self, channel: str, token: str) -> None:
        self.outlet.put(gap_event(channel, token, wrapped=self.wrapped))

    def answer(self, fields: dict[str, Any]) -> None:
        self.outlet.put(answer_event(fields, wrapped=self.wrapped))

    def joined(self, channel: str, joined: Joined, **more: Any) -> None:  # noqa: ARG002  for WebSockets
        if joined.gap:
            self.gap(channel, joined.token)
        for message in joined.messages:
            self.deliver(message)

    def release(self) -> None:
        """Send what was held back, and from now on what comes."""
        held, self.held = self.held or [], None
        for message in sorted(held, key=lambda each: each.position):
            self.deliver(message)

    def gap_frame(self, channel: str) -> bytes:
        """What tells a slow client of what it lost."""
        return gap_event(channel, None, wrapped=self.wrapped)

    def beat(self) -> None:
        self.outlet.put(COMMENT)

    def reconnect(self, seconds: float) -> None:
        self.outlet.put(encode_event(Event(retry=seconds)))
        self.end(RESTART, "The server stops.")

    def _end(self) -> None:
        self.interrupt()


RESTART: Final = 1012
"""The code of a server that stops, and will be back."""
