"""One task that goes round all clients: looks at their credentials again, and sends heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from consona.errors import ConsonaError

if TYPE_CHECKING:
    from consona.realtime.client import Client
    from consona.realtime.server import RealtimeServer

__all__ = ["Rounds"]

log = logging.getLogger("consona.realtime")

SLICES: Final = 10
"""A round is made in so many pieces, so that no moment has all the work."""


class Rounds:
    """Visits every client of a server once in `recheck` seconds."""

    def __init__(self, server: RealtimeServer) -> None:
        self._server = server
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name=f"{self._server.name} rounds")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        limits = self._server.limits
        pause = min(limits.recheck, limits.heartbeat) / SLICES
        while True:
            clients = list(self._server.clients.values())
            size = -(-len(clients) // SLICES)
            for part in range(SLICES):
                await asyncio.sleep(pause)
                for client in clients[part * size : (part + 1) * size]:
                    await self.visit(client)

    async def visit(self, client: Client) -> None:
        """Look after one client."""
        if client.id not in self._server.clients or client.closing is not None:
            return
        try:
            await self._server.admission.recheck(client)
            self._failing = False
        except Exception as error:  # noqa: BLE001  whoever knows the accounts is away: nobody is turned out for that
            if not self._failing:
                code = error.code if isinstance(error, ConsonaError) else type(error).__name__
                log.warning("%s: logins cannot be looked at again now: %s", self._server.name, code)
            self._failing = True
        now, puts = asyncio.get_running_loop().time(), client.outlet.puts
        if puts != client.seen:
            client.seen, client.last = puts, now
        elif now - client.last >= self._server.limits.heartbeat:
            client.beat()
