"""A reading connection of one's own, that stays at one moment until it is closed: for answers read piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from consona.errors import NotStarted
from consona.storage.connections import Connector
from consona.storage.sqlite_errors import translated

__all__ = ["Snapshot"]

T = TypeVar("T")

NUDGE_S = 0.02


class Snapshot:
    """Made by `engine.snapshot()`. One task uses it; its steps run on threads, beside the writer.

    While it is open, the write-ahead log cannot begin anew behind what it sees; so close it soon.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._connection: apsw.Connection | None = None
        self._running: asyncio.Future[Any] | None = None
        self._closed = False

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn(connection)` on a thread; cancelling interrupts it. What it returns may keep a cursor."""
        if self._closed:
            raise NotStarted("The snapshot is closed.", hint="Take a new one.")
        step = asyncio.get_running_loop().run_in_executor(None, self._step, fn)
        self._running = step
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            await self._settled(step)
            raise

    async def close(self) -> None:
        """End what runs, and close the connection. Finishes although its caller is cancelled."""
        self._closed = True
        if self._running is not None:
            await self._settled(self._running)
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self.cut))

    def cut(self) -> None:
        """Close it from any thread."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.interrupt()
            with contextlib.suppress(apsw.Error):
                connection.close(True)  # noqa: FBT003  apsw's only spelling of `force`

    def _step(self, fn: Callable[[apsw.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connector.reader(patient=True)
                self._connection.execute("BEGIN")
            return fn(self._connection)
        except apsw.Error as error:
            ours = translated(error, self._connector.name)
            raise ours from error

    async def _settled(self, step: asyncio.Future[Any]) -> None:
        while not step.done():
            if self._connection is not None:
                self._connection.interrupt()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([step], timeout=NUDGE_S)
        if not step.cancelled():
            step.exception()  # seen, so that asyncio does not log it as forgotten
