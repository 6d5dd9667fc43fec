"""What other sessions say with NOTIFY: one connection listens for everybody, and says when it was away.

    stop = await engine.notifications.listen("orders", on_message, on_state)
    ...
    await stop()

A message is told while the connection stands; PostgreSQL keeps none for who is away. So `on_state(False)`
comes when it broke and `on_state(True)` when it stands again: what was said between the two is lost, and
whoever must not miss anything looks into the database then.

Source: https://www.postgresql.org/docs/current/sql-notify.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from consona.errors import ConsonaError
from consona.storage.postgresql.connections import PostgreSQLConnection, PostgreSQLDriver

__all__ = ["Listener", "Notifications"]

log = logging.getLogger("consona.storage")

HEARTBEAT_S: Final = 5.0
"""How often the connection is asked for a sign of life."""
PATIENCE_S: Final = 2.0
"""How long it may take to answer; so a broken network is noticed within seven seconds."""
LONGEST_PAUSE_S: Final = 2.0

OnMessage = Callable[[str], object]
OnState = Callable[[bool], object]


class Listener:
    """One who listens on a channel."""

    __slots__ = ("channel", "on_message", "on_state")

    def __init__(self, channel: str, on_message: OnMessage, on_state: OnState | None) -> None:
        self.channel = channel
        self.on_message = on_message
        self.on_state = on_state


class Notifications:
    """The listening connection of one engine; opened when the first one listens."""

    def __init__(
        self,
        driver: PostgreSQLDriver,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._driver = driver
        self._heartbeat_s = heartbeat_s
        self._clock = clock
        self._rng = rng
        self._listeners: dict[str, list[Listener]] = {}
        self._connection: PostgreSQLConnection | None = None
        self._broken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._first: asyncio.Future[None] | None = None
        self._counts = {"received": 0, "reconnects": 0}

    @property
    def connected(self) -> bool:
        """Whether messages arrive now."""
        return self._connection is not None

    async def listen(
        self, channel: str, on_message: OnMessage, on_state: OnState | None = None
    ) -> Callable[[], Awaitable[None]]:
        """Call `on_message(payload)` for each message on a channel. Returns what ends it.

        Args:
            channel: Its name, up to 63 bytes.
            on_message: Gets the payload; must not wait.
            on_state: Gets True when messages arrive (again), False when the connection broke; must not wait.

        Raises:
            ConnectError: The server cannot be reached now.
        """
        listener = Listener(channel, on_message, on_state)
        async with self._turn:
            if self._task is None:
                await self._begin()
            new = channel not in self._listeners
            self._listeners.setdefault(channel, []).append(listener)
            if new and self._connection is not None:
                await self._tell_server("LISTEN", channel)
        if on_state is not None and self.connected:
            on_state(True)  # noqa: FBT003  the state itself

        async def stop() -> None:
            async with self._turn:
                others = self._listeners.get(channel, [])
                if listener in others:
                    others.remove(listener)
                if not others and self._listeners.pop(channel, None) is not None:
                    await self._tell_server("UNLISTEN", channel)

        return stop

    def stats(self) -> dict[str, Any]:
        return {**self._counts, "connected": self.connected, "channels": len(self._listeners)}

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _begin(self) -> None:
        """Connect for the first time: whoever listens first is told where that fails."""
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._keep(), name=f"{self._driver.name} notifications")

    async def _connect(self) -> PostgreSQLConnection:
        async with asyncio.timeout(self._driver.settings.pool.connect):
            connection = await self._driver.connect()
        self._broken.clear()
        connection.add_termination_listener(lambda _: self._broken.set())
        for channel in self._listeners:
            await connection.add_listener(channel, self._received)
        return connection

    async def _tell_server(self, verb: str, channel: str) -> None:
        connection = self._connection
        if connection is None:
            return  # all channels are told when it stands again
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if verb == "LISTEN":
                await connection.add_listener(channel, self._received)
            else:
                await connection.remove_listener(channel, self._received)

    def _received(self, _connection: object, _pid: int, channel: str, payload: str) -> None:
        self._counts["received"] += 1
        for listener in list(self._listeners.get(channel, ())):
            try:
                listener.on_message(payload)
            except Exception:
                log.exception("%s: a listener on %r failed.", self._driver.name, channel)

    async def _keep(self) -> None:
        """Watch the connection; when it breaks, say so, and connect again."""
        try:
            while True:
                await self._until_broken()
                self._drop()
                self._tell_state(connected=False)
                log.warning("%s: the connection that listens broke.", self._driver.name)
                await self._reconnect()
                self._counts["reconnects"] += 1
                self._tell_state(connected=True)
        finally:
            self._drop()

    async def _until_broken(self) -> None:
        while self._connection is not None and not self._broken.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._broken.wait(), self._heartbeat_s)
                return
            try:
                async with self._turn, asyncio.timeout(PATIENCE_S):
                    await self._driver.ping(self._connection)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                return

    async def _reconnect(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(self._rng() * min(LONGEST_PAUSE_S, 0.05 * 2**attempt))
            try:
                async with self._turn:
                    self._connection = await self._connect()
                return
            except (ConsonaError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                continue

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._driver.terminate(connection)

    def _tell_state(self, *, connected: bool) -> None:
        for listener in [listener for group in self._listeners.values() for listener in group]:
            if listener.on_state is not None:
                try:
                    listener.on_state(connected)
                except Exception:
                    log.exception("%s: a listener on %r failed.", self._driver.name, listener.channel)
