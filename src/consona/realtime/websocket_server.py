"""A server of WebSockets whose clients are in rooms, in as many processes as there are.

live = WebSocketServer(path="/live", channels="sqlite:///bus.db")

@live.on_message("chat.{room}")
async def chat(message: Chat, room: str) -> None:
await live.broadcast(f"chat.{room}", message)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from consona.address import Address
from consona.errors import ConfigurationError
from consona.realtime.channels import ALL, Channels
from consona.realtime.handler import Handler
from consona.realtime.listening import declare_listening
from consona.realtime.pattern import Pattern
from consona.realtime.server import RealtimeServer
from consona.realtime.settings import RealtimeSettings
from consona.realtime.socket_connection import SocketConnection
from consona.rest.server.guards import Guard
from consona.rest.server.websocket import WebSocket
from consona.rest.websocket_messages import PACKED
from consona.telemetry.observer import Observer

__all__ = ["WebSocketServer"]

Function = TypeVar("Function", bound=Callable[..., Any])


class WebSocketServer(RealtimeServer):
    """Clients at WebSockets send messages to handlers, join channels, and get what is broadcast there.

    Args:
        path: Where it answers. It is an ASGI application: run it alone, or `api.mount("/live", live)`.
        channels: The engine that joins the processes: `memory://` (this process alone), `sqlite:///bus.db` (the
            processes of one machine), `postgresql://…`, `redis://…` (many machines); or `Channels` that others use too.
        name: What the dashboard calls it.
        plain: Messages are text or bytes with nothing around them: each client is in the channel `all`, and each
            message goes to the one handler without a pattern. For clients that know nothing of channels.
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
        >>> live = WebSocketServer("/live")
        >>> @live.on_message("chat.{room}")
        ... async def chat(message: str, room: str) -> str:
        ...     await live.broadcast(f"chat.{room}", message)
        ...     return "said"
        >>> async def main():
        ...     async with live.test_client() as client, client.websocket("/live") as socket:
        ...         await socket.receive()
        ...         await socket.send({"join": "chat.tea"})
        ...         await socket.receive()
        ...         await socket.send({"send": "chat.tea", "data": "hello"})
        ...         return (await socket.receive(dict))["data"]
        >>> asyncio.run(main())
        'hello'
    """

    def __init__(
        self,
        path: str = "/live",
        channels: str | Address | Channels = "memory://",
        *,
        name: str = "live",
        plain: bool = False,
        guard: Guard | None = None,
        public: bool = False,
        roles: Iterable[str] = (),
        settings: RealtimeSettings | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(
            path, channels, name=name, guard=guard, public=public, roles=roles, settings=settings, observer=observer
        )
        self.plain = plain
        self.handlers: list[Handler] = []
        self.plain_handler: Handler | None = None
        self.client_hooks: dict[str, list[Handler]] = {"connect": [], "disconnect": []}
        options: dict[str, Any] = {} if self.limits.origins is None else {"origins": self.limits.origins}

        @self.websocket(self.path or "/", subprotocols=(PACKED,), **options)
        async def connect(socket: WebSocket) -> None:
            await SocketConnection(self, socket).serve()

        declare_listening(self)

    def on_message(self, pattern: str = "", *, roles: Iterable[str] = ()) -> Callable[[Function], Function]:
        """Call `async def function(message, client, room)` for each message that a client sends to such a channel.

        What the parameter `message` declares (the one that is neither `client` nor a variable of the pattern) is
        what messages are decoded to; others are refused. What the function returns is the answer to a client that
        asks for one; what it raises is told to the client, and the connection goes on. Messages of one client are
        handled one after the other. Clients may join the channels that they may send to.

        Args:
            pattern: A channel's name, such as `chat.{room}`; none on a `plain` server.
            roles: Who sends, or joins, needs one of these.

        Raises:
            ConfigurationError: The function cannot be a handler, or the server has started.
        """
        self._not_started("a handler")
        if self.plain is bool(pattern):
            raise ConfigurationError(
                "A plain server has one handler, without a pattern; any other server's handlers have one each.",
                hint='Write on_message("chat.{room}"), or on_message() with plain=True.',
            )
        namespace = dict(sys._getframe(1).f_locals)

        def register(function: Function) -> Function:
            if not pattern:
                self.plain_handler = Handler(Pattern("all"), function, namespace, takes_message=True)
                return function
            room = self._rooms.declare(pattern)
            room.roles = room.roles or frozenset(roles)
            self.handlers.append(Handler(room.pattern, function, namespace, takes_message=True))
            return function

        return register

    def on_connect(self, function: Function) -> Function:
        """Call `async def function(client)` when a client has connected; what it raises ends the connection."""
        return self._hook("connect", function)

    def on_disconnect(self, function: Function) -> Function:
        """Call `async def function(client)` when a client has gone, for whatever reason."""
        return self._hook("disconnect", function)

    def _hook(self, when: str, function: Function) -> Function:
        self._not_started("a hook")
        self.client_hooks[when].append(Handler(Pattern("all"), function, {}, takes_message=False))
        return function

    async def broadcast(self, channel: str, message: Any, *, event: str = "") -> str:
        """Send a message to all who are in a channel, in all processes. Returns its position.

        It returns when the engine has the message; a client that comes back within what is kept gets it then.

        Args:
            channel: Its name; it needs no members.
            message: Anything that can be JSON; on a plain server text or bytes.
            event: A name for it.

        Raises:
            ValidationError: The name cannot be one, or the message is too large.
        """
        return await self.channels.publish(channel, message, event=event, plain=self.plain)

    async def broadcast_to_all(self, message: Any) -> str:
        """Send a message to all clients that are connected."""
        return await self.broadcast(ALL, message)

    def handler_for(self, channel: str) -> tuple[Handler, dict[str, str]] | None:
        """Who answers messages to a channel, and the variables of its name."""
        for handler in self.handlers:
            variables = handler.pattern.match(channel)
            if variables is not None:
                return handler, variables
        return None

    def _prepare(self) -> None:
        super()._prepare()
        plain = [] if self.plain_handler is None else [self.plain_handler]
        for handler in [*self.handlers, *plain, *self.client_hooks["connect"], *self.client_hooks["disconnect"]]:
            handler.prepare()
