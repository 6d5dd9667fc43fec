"""What both realtime servers are: an ASGI application whose clients are in channels.

It is an `APIServer`, so it runs alone (`consona run module:live`), is mounted (`api.mount("/live", live)`), and has
the limits, the guards, the health and the end of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from consona.address import Address
from consona.errors import ConfigurationError, ConsonaError, PermissionDenied, RateLimited
from consona.realtime.admission import Admission
from consona.realtime.channels import ABOUT, Channels, check_name
from consona.realtime.client import Client
from consona.realtime.handler import Handler
from consona.realtime.message import Message
from consona.realtime.outlet import Counters, Outlet
from consona.realtime.presence import Member, Presence
from consona.realtime.rooms import Room, Rooms
from consona.realtime.rounds import Rounds
from consona.realtime.settings import RealtimeSettings
from consona.rest.server.api_server import APIServer
from consona.rest.server.guards import Guard
from consona.rest.server.responses import Receive, Scope, Send
from consona.rest.server.settings import ServerSettings
from consona.telemetry.observer import Observer

__all__ = ["RealtimeServer"]

log = logging.getLogger("consona.realtime")

Function = TypeVar("Function", bound=Callable[..., Any])

LOOKS: Final = 3


class RealtimeServer(APIServer):
    """The base of `WebSocketServer` and `SSEServer`, which say what its arguments mean."""

    kind = "realtime"

    def __init__(
        self,
        path: str,
        channels: str | Address | Channels,
        *,
        name: str,
        guard: Guard | None = None,
        public: bool = False,
        roles: Iterable[str] = (),
        settings: RealtimeSettings | None = None,
        observer: Observer | None = None,
    ) -> None:
        if not path.startswith("/") or "{" in path:
            raise ConfigurationError(f"{path!r} is no path.", hint="Write it like /live.")
        limits = settings or RealtimeSettings()
        super().__init__(name, settings=_server_settings(limits), observer=observer)
        self.path = path.rstrip("/")
        self.limits = limits
        self.channels = channels if isinstance(channels, Channels) else Channels(channels)
        self.parts.append(self.channels)
        self.clients: dict[str, Client] = {}
        """Who is connected to this process, by id."""
        self.counters = Counters()
        self.presence = Presence(self.channels.store, lease_s=limits.lease, announce=self._announce)
        self._rooms = Rooms()
        self.admission = Admission(self, public=public, roles=frozenset(roles))
        self._rounds = Rounds(self)
        self._around: APIServer | None = None
        self._ending: set[asyncio.Task[Any]] = set()
        if guard is not None:
            self.secure(guard)
        self.admission.declare(self.path)
        self.on_start(self._begin)
        self.on_stop(self._finish)

    # What users declare.

    def channel(self, pattern: str, *, roles: Iterable[str] = (), presence: bool = False, history: int = 0) -> None:
        """Let clients join the channels of a pattern, such as `chat.{room}`.

        A server on which no channel is declared is open: who may connect may join every channel.

        Args:
            pattern: Names; `{room}` stands for any characters but a dot.
            roles: Who joins needs one of these.
            presence: Whether members are told who else is there, comes and goes.
            history: How many of the newest messages those get who join for the first time.

        Raises:
            ConfigurationError: It is no pattern, or the server has started.
        """
        self._not_started("a channel")
        self._rooms.set(pattern, roles=roles, presence=presence, history=history)

    def on_join(self, pattern: str) -> Callable[[Function], Function]:
        """Call `async def function(client, room)` before a client joins a channel; what it raises refuses the client.

        Its parameters are `client` and the variables of the pattern, in any order.
        """
        self._not_started("a check")
        namespace = sys._getframe(1).f_locals

        def register(function: Function) -> Function:
            room = self._rooms.declare(pattern)
            room.check = Handler(room.pattern, function, dict(namespace), takes_message=False)
            return function

        return register

    # What users do.

    @property
    def rooms(self) -> list[Room]:
        """What was declared of channels."""
        return list(self._rooms)

    def room_of(self, channel: str) -> Room | None:
        """What was declared of a channel."""
        found = self._rooms.find(channel)
        return None if found is None else found[0]

    async def members(self, channel: str) -> list[Member]:
        """Who is in a channel, in all processes. Only channels with `presence=True` know."""
        self._require_started()
        return await self.presence.members(check_name("channel", channel))

    def recent(self, channel: str, *, limit: int = 100) -> list[Message]:
        """The newest messages of a channel that are kept, oldest first."""
        return self.channels.recent(channel, limit=limit)

    # What clients do.

    async def let_in(
        self, client: Client, channel: str, *, after: str | None = None, asked: bool = False, **told: Any
    ) -> None:
        """Put a client into a channel; where it `asked` for it itself, only if it may."""
        check_name("channel", channel)
        if asked:
            await self.may_join(client, channel)
        room = self.room_of(channel)
        if channel not in client.channels and len(client.channels) >= self.limits.max_channels:
            raise RateLimited("You are in as many channels as one client may be.", hint="Leave one first.")
        client.channels[channel] = None
        try:
            joined = await self.channels.join(client, channel, after=after, history=0 if room is None else room.history)
        except BaseException:
            client.channels.pop(channel, None)
            raise
        client.joined(channel, joined, **told)  # nothing is waited for in between: no message overtakes these
        if room is not None and room.presence:
            await self._enter(client, channel)
        if client.id not in self.clients:  # it went meanwhile
            await self.let_out(client, channel)

    async def let_out(self, client: Client, channel: str) -> None:
        """Take a client out of a channel."""
        client.channels.pop(channel, None)
        self.channels.leave(client, channel)
        if client.present and channel in client.present:
            client.present.discard(channel)
            self.channels.unlisten(client, channel)
            await self.presence.leave(channel, client.id)

    async def may_join(self, client: Client, channel: str) -> None:
        """Refuse a client that may not join a channel.

        Raises:
            PermissionDenied: It may not, or there is no such channel.
        """
        found = self._rooms.find(channel)
        if found is None:
            if self._rooms:
                raise PermissionDenied("There is no channel of this name that you may join.")
            return
        room, variables = found
        if room.roles and not self.allowed(client, room.roles):
            raise PermissionDenied("You may not join this channel.")
        if room.check is not None:
            await room.check(client, variables)

    def allowed(self, client: Client, roles: frozenset[str]) -> bool:
        """Whether a client has one of the roles."""
        guard, identity = self.guard, client.identity
        return guard is not None and identity is not None and guard.allows(identity, roles, frozenset())

    async def still_allowed(self, client: Client) -> None:
        """Take a client out of the channels that it may not be in any more."""
        for channel in list(client.channels):
            found = self._rooms.find(channel)
            if found is not None and found[0].roles and not self.allowed(client, found[0].roles):
                await self.let_out(client, channel)
                client.answer({"left": channel})

    async def _enter(self, client: Client, channel: str) -> None:
        present = client.present = client.present or set()
        self.channels.listen(client, channel)
        if channel not in present:
            present.add(channel)
            await self.presence.enter(channel, Member(client.id, client.user, client.info))
        await self.tell_members(client, channel)

    async def tell_members(self, client: Client, channel: str, **told: Any) -> None:
        """Tell a client who is in a channel. What is announced while that is found out is in it."""
        members: list[Member] = []
        for _ in range(LOOKS):
            seen = self.channels.announced(channel)
            members = await self.presence.members(channel)
            if self.channels.announced(channel) == seen:
                break
        client.answer({"presence": channel, "members": members, **told})

    async def _announce(self, channel: str, verb: str, member: Member) -> None:
        await self.channels.announce(channel, {"presence": channel, verb: member})

    # Its clients.

    def outlet(self, client: Any, send: Callable[[Any], Any]) -> Outlet:
        """The way out to a client."""
        return Outlet(
            send,
            slow=self.limits.slow,
            counters=self.counters,
            too_slow=lambda: client.end(TOO_SLOW, "You took messages too slowly. Connect again."),
            gap=lambda channel: None if channel.startswith(ABOUT) else client.gap_frame(channel),
        )

    @contextlib.asynccontextmanager
    async def connected(self, client: Client) -> Any:
        """A client's time, from its first word to its last."""
        self.clients[client.id] = client
        try:
            yield
        finally:
            del self.clients[client.id]
            client.outlet.closed = True
            self.channels.forget(client, client.channels)
            try:
                for channel in list(client.present or ()):
                    await self.let_out(client, channel)
            except ConsonaError as error:
                log.warning(
                    "%s: presence could not be taken back; it ends with the lease: %s", self.name, error.message
                )
            await client.outlet.close()

    def own(self, task: asyncio.Task[Any]) -> None:
        """Keep a task until it is done, or the server stops."""
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # Its life.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root: str = scope.get("root_path") or ""
        if root and self.path and scope["type"] != "lifespan":
            scope = self._at_own_path(scope, root.rstrip("/"))
        await super().__call__(scope, receive, send)

    def _at_own_path(self, scope: Scope, root: str) -> Scope:
        """Mounted at its own path, it is there; `/live` is not written twice."""
        if not root.endswith(self.path):
            return scope
        path: str = scope["path"]
        if path == f"{root}/":
            path = root
        return {**scope, "root_path": root[: -len(self.path)], "path": path}

    @property
    def compress_sockets(self) -> bool:
        return self.limits.compress

    def mounted_in(self, api: APIServer) -> None:
        """Called by `api.mount`: who may connect is found out by that server's guard."""
        self._around = api

    async def _open(self) -> None:
        if self.guard is None and self._around is not None:
            self.guard = self._around.guard
        self._prepare()
        await super()._open()

    def _prepare(self) -> None:
        """Read the signatures of what was declared."""
        self._rooms.prepare()
        self.admission.check()

    async def _begin(self) -> None:
        await self.presence.start()
        self._rounds.start()

    async def _finish(self) -> None:
        await self._rounds.stop()
        for task in list(self._ending):
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self.presence.stop()

    def begin_drain(self) -> None:
        """Tell all clients to come back, each at a moment of its own, and end their connections."""
        if not self.draining:
            for client in list(self.clients.values()):
                client.reconnect(random.uniform(0, self.limits.spread))  # noqa: S311  no secret
        super().begin_drain()

    def log_failure(self, error: BaseException, client: Client) -> None:
        """Write into the log what went wrong in a handler."""
        if self._serving is not None:
            self._serving.log_if_unexpected(error, client.request)

    def detail(self) -> dict[str, Any]:
        counters = self.counters
        return super().detail() | {
            "clients": len(self.clients),
            "rooms": len(self.channels.names()),
            "queued": sum(client.outlet.waiting for client in self.clients.values()),
            "sent": counters.sent,
            "dropped": counters.dropped,
            "too_slow": counters.disconnected,
            "lag": round(self.channels.lag, 4),
        }


TOO_SLOW: Final = 4008
"""The close code for a client that took messages too slowly."""


def _server_settings(limits: RealtimeSettings) -> ServerSettings:
    return ServerSettings(
        max_message=limits.max_message,
        max_sockets=limits.max_clients,
        max_open=limits.max_clients,
        trusted=limits.trusted,
        proxy_header=limits.proxy_header,
        docs_path="",
        openapi_path="",
    )
