"""Telling others that something changed, so that they need not ask for it all the time.

    seen = engine.doorbell.count("store")           # before reading
    ...
    await engine.doorbell.wait("store", seen, timeout_s=0.5)
    engine.doorbell.ring("store")                   # after a commit; never waits

A ring is a hint and nothing more: it may be lost, so who waits looks into the database now and then too.
Rings of one process that come close together are sent as one, since PostgreSQL commits those who NOTIFY
one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from consona.errors import ConsonaError
from consona.storage.postgresql.notifications import Notifications

__all__ = ["Doorbell"]

CHANNEL: Final = "consona_doorbell"
PAUSE_S: Final = 0.005
"""Between two rings that are sent."""
RING: Final = f"SELECT pg_notify('{CHANNEL}', name) FROM unnest($1::text[]) AS name"


class Doorbell:
    """The bells of one engine; each has a name.

    Args:
        notifications: By which the rings of other processes come.
        ask: Runs a statement on the engine.
    """

    def __init__(self, notifications: Notifications, ask: Callable[[str, Sequence[Any]], Awaitable[object]]) -> None:
        self._notifications = notifications
        self._ask = ask
        self._sender = secrets.token_hex(4)
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._pending: set[str] = set()
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def ring(self, name: str) -> None:
        """Tell who waits: those of this engine now, others soon."""
        self.wake(name)
        self._pending.add(name)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="consona doorbell")

    def payload(self, name: str) -> str:
        """What to `pg_notify(CHANNEL, …)` in a transaction, so that it rings when that commits."""
        return f"- {name}"

    def count(self, name: str) -> int:
        """Grows with each ring that is heard."""
        return self._counts.get(name, 0)

    async def wait(self, name: str, seen: int, *, timeout_s: float) -> None:
        """Wait until the count is not `seen`, or until time is over."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="consona doorbell")
        if self.count(name) != seen:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(name, set())
        waiting.add(future)
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            waiting.discard(future)

    async def close(self) -> None:
        for task in (self._sending, self._listening):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        for name in list(self._waiting):
            self.wake(name)

    def wake(self, name: str) -> None:
        """Tell those of this engine who wait."""
        self._counts[name] = self._counts.get(name, 0) + 1
        for future in self._waiting.pop(name, ()):
            if not future.done():
                future.set_result(None)

    async def _send(self) -> None:
        while self._pending:
            names, self._pending = self._pending, set()
            with contextlib.suppress(ConsonaError):
                await self._ask(RING, [[f"{self._sender} {name}" for name in names]])
            await asyncio.sleep(PAUSE_S)

    async def _listen(self) -> None:
        """As long as the server cannot be reached, those who wait ask by themselves."""
        while True:
            with contextlib.suppress(ConsonaError):
                await self._notifications.listen(CHANNEL, self._heard, self._reconnected)
                return
            await asyncio.sleep(1.0)

    def _heard(self, payload: str) -> None:
        sender, _, name = payload.partition(" ")
        if sender != self._sender:
            self.wake(name)

    def _reconnected(self, connected: bool) -> None:  # noqa: FBT001  as listeners are called
        if connected:
            for name in list(self._waiting):
                self.wake(name)
