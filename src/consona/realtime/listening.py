"""Listening over plain HTTP: server-sent events, and long polling where not even those get through.

| request | answer |
|---|---|
| `GET /events?channel=orders&channel=stock` | a stream; `Last-Event-ID` (or `&after=`) resumes it |
| the same with `&wrapped=1` | a stream whose events say of which channel they are |
| `GET /events/poll?channel=orders&after=…` | `{"position": …, "gap": [], "messages": [...]}`, once there is something |
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from consona.errors import FieldProblem, RateLimited, ValidationError
from consona.realtime.channels import ALL, check_name
from consona.realtime.client import EventClient
from consona.realtime.frames import shown
from consona.realtime.message import Message
from consona.rest.server.events import EventStream, LastEventID
from consona.rest.server.parameters import Query
from consona.rest.server.requests import Request
from consona.rest.server.responses import Send

if TYPE_CHECKING:
    from consona.realtime.server import RealtimeServer


__all__ = ["ChannelStream", "declare_listening"]

WAIT_S: Final = 25.0
"""How long a poll waits by default: shorter than the patience of most that stand between."""

Names = Annotated[list[str], Query("channel")]
Wait = Annotated[float, msgspec.Meta(ge=0, le=WAIT_S)]


def declare_listening(server: RealtimeServer) -> None:
    """Add the routes to a server."""
    path = server.path or "/"

    @server.get(path, public=True, documented=False)
    async def listen(
        request: Request,
        channel: Names = [],  # noqa: B006
        after: str = "",
        wrapped: bool = False,  # noqa: FBT001, FBT002  a parameter of the query
        last: LastEventID = "",
    ) -> ChannelStream:
        identity = await server.admission.identify(request)
        client = EventClient(server, request, identity, wrapped=wrapped)
        names = await _allowed(server, client, channel)
        server.admission.check_room(request)
        return ChannelStream(server, client, names, after=last or after or None)

    @server.get(f"{server.path}/poll", public=True, documented=False, timeout=WAIT_S + 10)
    async def poll(request: Request, channel: Names = [], after: str = "", wait: Wait = WAIT_S) -> dict[str, Any]:  # noqa: B006
        identity = await server.admission.identify(request)
        client = EventClient(server, request, identity, wrapped=True)
        names = await _allowed(server, client, channel)
        if not after:
            return {"position": server.channels.token(server.channels.position), "gap": [], "messages": []}
        address = server.admission.enter(client)
        try:
            return await _polled(server, names, after, wait)
        finally:
            server.admission.leave(address)


async def _allowed(server: RealtimeServer, client: EventClient, names: list[str]) -> list[str]:
    """The channels that are asked for, where the client may join all of them."""
    if len(names) > server.limits.max_channels:
        raise RateLimited(f"At most {server.limits.max_channels} channels at once.")
    if not names and server.rooms:
        raise ValidationError(
            "Which channel?", fields=[FieldProblem("query.channel", "expected the name of a channel")]
        )
    names = list(dict.fromkeys(names or [ALL]))
    for name in names:
        await server.may_join(client, check_name("channel", name))
    return names


class ChannelStream(EventStream):
    """A stream of the events of some channels.

    Args:
        server: Whose.
        client: Who listens.
        channels: The channels' names; the client may join them.
        after: The last position that the client has seen; None for a new one.
    """

    __slots__ = ("_after", "_channels", "_client", "_server")

    def __init__(self, server: RealtimeServer, client: EventClient, channels: list[str], *, after: str | None) -> None:
        super().__init__(())
        self._server = server
        self._client = client
        self._channels = channels
        self._after = after

    async def __call__(self, request: Request, send: Send) -> None:
        server, client = self._server, self._client
        task = asyncio.current_task()
        assert task is not None

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        headers = [*self.raw_headers, request.id_header] if request.has_id else self.raw_headers
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if not request.wants_body:
            await send({"type": "http.response.body", "body": b""})
            return
        client.outlet = server.outlet(client, write)
        client.interrupt = task.cancel
        address = server.admission.enter(client, checked=True)
        try:
            async with server.connected(client):
                await write(b":\n\n")  # so that whoever stands between lets the head through
                for channel in self._channels:
                    await server.let_in(client, channel, after=self._after)
                client.release()
                await request.wait_for_disconnect()
        except asyncio.CancelledError:
            if client.closing is None or task.uncancel():
                raise
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b""})
        finally:
            server.admission.leave(address)


class Poll:
    """A subscriber that only wants to know that there is something."""

    def __init__(self) -> None:
        self.there = asyncio.Event()

    def deliver(self, message: Message) -> None:  # noqa: ARG002
        self.there.set()

    def gap(self, channel: str, token: str) -> None:  # noqa: ARG002
        self.there.set()


async def _polled(server: RealtimeServer, names: list[str], after: str, wait: float) -> dict[str, Any]:
    channels, poll = server.channels, Poll()
    gaps: list[str] = []
    missed: list[Message] = []
    try:
        for name in names:
            joined = await channels.join(poll, name, after=after)
            missed += joined.messages
            if joined.gap:
                gaps.append(name)
        if not missed and not gaps:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await poll.there.wait()
        # What is known now is looked up anew: in one moment, for all channels, up to one position.
        position, missed, gaps = channels.missed(names, after)
        return {"position": position, "gap": gaps, "messages": [shown(message) for message in missed]}
    finally:
        channels.forget(poll, names)
