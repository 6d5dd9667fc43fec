"""A server of server-sent events: whoever listens gets what is sent to its channels, also what it missed.

    news = SSEServer(path="/events", channels="sqlite:///bus.db")
    await news.send("order", {"id": 7}, channel="orders")

In a browser:

    new EventSource("/events?channel=orders").addEventListener("order", e => show(JSON.parse(e.data)))

Source: WHATWG HTML Living Standard, section 9.2, Server-sent events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from consona.address import Address
from consona.realtime.channels import ALL, Channels
from consona.realtime.listening import declare_listening
from consona.realtime.server import RealtimeServer
from consona.realtime.settings import RealtimeSettings
from consona.rest.server.guards import Guard
from consona.telemetry.observer import Observer

__all__ = ["SSEServer"]


class SSEServer(RealtimeServer):
    """Browsers and programs listen to channels; the server sends.

    Args:
        path: Where it answers. It is an ASGI application: run it alone, or `api.mount("/events", news)`.
        channels: The engine that joins the processes: `memory://` (this process alone), `sqlite:///bus.db` (the
            processes of one machine), `postgresql://…`, `redis://…` (many machines); or `Channels` that others use too.
        name: What the dashboard calls it.
        guard: Who finds out who connects. Where there is one, everybody has to sign in, unless `public`. Mounted in
            an `APIServer`, it has that server's guard.
        public: Let those in who have not signed in.
        roles: Who connects needs one of these.
        settings: Limits and habits.
        observer: Where its operations are noted; by default one of its own.

    Raises:
        ConfigurationError: The path is none.
        AddressError: No engine has the address' scheme.

    Example:
        >>> import asyncio
        >>> news = SSEServer("/events")
        >>> async def main():
        ...     async with news.test_client() as client:
        ...         before = (await client.get("/events/poll?channel=orders")).json()["position"]
        ...         await news.send("order", {"id": 7}, channel="orders")
        ...         found = (await client.get(f"/events/poll?channel=orders&after={before}")).json()
        ...         return [(message["event"], message["data"]) for message in found["messages"]]
        >>> asyncio.run(main())
        [('order', {'id': 7})]
    """

    def __init__(
        self,
        path: str = "/events",
        channels: str | Address | Channels = "memory://",
        *,
        name: str = "events",
        guard: Guard | None = None,
        public: bool = False,
        roles: Iterable[str] = (),
        settings: RealtimeSettings | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(
            path, channels, name=name, guard=guard, public=public, roles=roles, settings=settings, observer=observer
        )
        declare_listening(self)

    async def send(self, event: str, data: Any = None, *, channel: str = ALL) -> str:
        """Send an event to all who listen to a channel, in all processes. Returns its position (the event's `id`).

        It returns when the engine has the event; a client that comes back within what is kept gets it then.

        Args:
            event: Its name, for `addEventListener` in a browser.
            data: Anything that can be JSON. Line breaks in it cannot begin another field.
            channel: Its name; by default that of those who name none.

        Raises:
            ValidationError: A name cannot be one (line breaks, NUL, too long), or the data is too large.
        """
        return await self.channels.publish(channel, data, event=event)
