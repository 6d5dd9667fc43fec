"""The life of one client at a WebSocket, from the handshake to its end.

| what happens | close code |
|---|---|
| the login has expired, or was taken back | 4401 |
| the role that was needed is gone | 4403 |
| the client takes messages too slowly, and the policy says so | 4008 |
| a message cannot be read as JSON or MessagePack; is too long | 1007; 1009 |
| the server stops | 1012, after `{"reconnect": seconds}` |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from consona.errors import ConsonaError, NotFound, PermissionDenied, RateLimited, ValidationError
from consona.realtime.channels import ALL
from consona.realtime.client import SocketClient
from consona.realtime.frames import Incoming, described, shown
from consona.resilience.rate import next_turn
from consona.rest.server.websocket import WebSocket
from consona.rest.websocket_messages import InvalidMessage, WebSocketClosed, decode_message

if TYPE_CHECKING:
    from consona.realtime.websocket_server import WebSocketServer

__all__ = ["SocketConnection"]

log = logging.getLogger("consona.realtime")

FAREWELL_S: Final = 5.0
"""How long a client may take to say goodbye."""
LONGEST_S: Final = 5.0
"""How long a message waits for its turn; what would have to wait longer is refused."""
HISTORY: Final = 1000


class SocketConnection:
    """One connection.

    Args:
        server: Whose.
        socket: Not accepted yet.
    """

    __slots__ = ("_server", "_socket", "_task", "client")

    client: SocketClient

    def __init__(self, server: WebSocketServer, socket: WebSocket) -> None:
        self._server = server
        self._socket = socket
        self._task = asyncio.current_task()

    async def serve(self) -> None:
        """Let it in, serve it, see it out."""
        server, socket = self._server, self._socket
        identity = await server.admission.identify(socket.request)
        client = self.client = SocketClient(
            server, socket.request, identity, packed=False, plain=server.plain, end=self._end
        )
        client.outlet = server.outlet(client, socket.native)
        address = server.admission.enter(client)
        try:
            await socket.accept()
            client.packed = socket.packed
            async with server.connected(client):
                await self._converse()
        except asyncio.CancelledError:
            if client.closing is None or self._task is None or self._task.uncancel():
                raise
            raise WebSocketClosed(close_code=client.closing[0], reason=client.closing[1]) from None
        finally:
            server.admission.leave(address)

    async def _converse(self) -> None:
        server, client, socket = self._server, self.client, self._socket
        try:
            client.answer({"client": client.id, "heartbeat": server.limits.heartbeat})
            if client.plain:
                await client.join(ALL)
            for hook in server.client_hooks["connect"]:
                await hook(client, {})
            while True:
                await self._take(await socket.receive())
        finally:
            client.outlet.closed = True
            for hook in server.client_hooks["disconnect"]:
                await hook(client, {})

    async def _take(self, data: str | bytes) -> None:
        client, limit = self.client, self._server.limits.messages
        # What comes too fast is read later: the client's own connection is full then, and nobody else's.
        client.turn, wait = next_turn(client.turn, time.monotonic(), limit=limit, max_wait=LONGEST_S)
        if wait > LONGEST_S:  # one who waits does not see that the client goes
            self._tell(RateLimited("You send too much.", retry_after=wait), None)
            return
        if wait:
            await asyncio.sleep(wait)
        if client.plain:
            await self._plain(data)
            return
        asked: int | str | None = None
        packed = isinstance(data, bytes)
        try:
            incoming = decode_message(data, Incoming)
            asked = incoming.id
            await self._answer(incoming, packed=packed)
        except WebSocketClosed:
            raise
        except Exception as error:  # it is told, and the connection goes on
            if isinstance(error, InvalidMessage) and error.close_code != SHAPE:
                raise
            self._tell(error, asked)

    def _tell(self, error: Exception, asked: int | str | None) -> None:
        if not isinstance(error, ConsonaError) or error.status >= 500:
            self._server.log_failure(error, self.client)
        fields: dict[str, Any] = {"error": described(error)}
        self.client.answer(fields if asked is None else {"answer": asked, **fields})

    async def _answer(self, incoming: Incoming, *, packed: bool) -> None:
        wanted = incoming.wanted
        if len(wanted) != 1:
            raise ValidationError("Say one of send, join, leave, history and presence.")
        [(verb, channel)] = wanted
        told = {} if incoming.id is None else {"answer": incoming.id}
        with self._server.observer.operation(verb) as op:
            try:
                await getattr(self, f"_{verb}")(channel, incoming, told, packed=packed)
            except Exception as error:  # noqa: BLE001  it is told
                ours = not isinstance(error, ConsonaError) or error.status >= 500
                op.fail(
                    error.code if isinstance(error, ConsonaError) else type(error).__name__,
                    level=logging.WARNING if ours else logging.DEBUG,
                )
                self._tell(error, incoming.id)

    async def _send(self, channel: str, incoming: Incoming, told: dict[str, Any], *, packed: bool) -> None:
        server, client = self._server, self.client
        found = server.handler_for(channel)
        if found is None:
            raise NotFound("Nobody takes messages to a channel of this name.")
        handler, variables = found
        room = server.room_of(channel)
        if room is not None and room.roles and not server.allowed(client, room.roles):
            raise PermissionDenied("You may not send to this channel.")
        result = await handler(client, variables, incoming.data, packed=packed)
        if told:
            client.answer({**told, "data": result})

    async def _join(self, channel: str, incoming: Incoming, told: dict[str, Any], *, packed: bool) -> None:  # noqa: ARG002
        await self._server.let_in(self.client, channel, after=incoming.after, asked=True, **told)

    async def _leave(self, channel: str, incoming: Incoming, told: dict[str, Any], *, packed: bool) -> None:  # noqa: ARG002
        await self._server.let_out(self.client, channel)
        self.client.answer({"left": channel, **told})

    async def _history(self, channel: str, incoming: Incoming, told: dict[str, Any], *, packed: bool) -> None:  # noqa: ARG002
        self._need_member(channel)
        found = self._server.recent(channel, limit=max(0, min(incoming.limit, HISTORY)))
        self.client.answer({"history": channel, "messages": [shown(message) for message in found], **told})

    async def _presence(self, channel: str, incoming: Incoming, told: dict[str, Any], *, packed: bool) -> None:  # noqa: ARG002
        self._need_member(channel)
        await self._server.tell_members(self.client, channel, **told)

    def _need_member(self, channel: str) -> None:
        if channel not in self.client.channels:
            raise PermissionDenied("You are not in this channel.", hint="Join it first.")

    async def _plain(self, data: str | bytes) -> None:
        handler = self._server.plain_handler
        if handler is None:
            return
        with self._server.observer.operation("send"):
            await handler.plainly(self.client, data)

    def _end(self) -> None:
        """End it from outside of its task."""
        assert self.client.closing is not None
        code, reason = self.client.closing
        self._server.own(asyncio.get_running_loop().create_task(self._say_goodbye(code, reason)))

    async def _say_goodbye(self, code: int, reason: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self.client.outlet.flush()
                await self._socket.close(code, reason)
        if self._task is not None:
            self._task.cancel()


SHAPE: Final = 1008
"""The code of a message that can be read, and is not one that the server knows: answered, and not the end."""
