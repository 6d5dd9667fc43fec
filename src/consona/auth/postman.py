"""Sends the mails of accounts after the answer, so that nobody learns from the time of an answer who has an account.

What waits is lost when the process is killed; whoever misses a mail asks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from consona.errors import ConsonaError
from consona.telemetry.observer import Observer

__all__ = ["Postman"]

WAITING: Final = 1000
WORKERS: Final = 4
PATIENCE_S: Final = 10.0

log = logging.getLogger("consona.auth")


class Postman:
    """A bounded row of work, and a few tasks that do it."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._row: asyncio.Queue[Callable[[], Awaitable[None]]]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._row = asyncio.Queue(WAITING)
        self._tasks = [asyncio.create_task(self._work(), name="consona postman") for _ in range(WORKERS)]

    async def stop(self) -> None:
        """Finish what waits, within ten seconds."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._row.join()
        except TimeoutError:
            log.warning("%d mails of accounts were not sent: the process stops.", self._row.qsize() + 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # cancelled by us; `_work` ends in no other way
        self._tasks = []

    def post(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this soon. Where too much waits already, it is left out, and that is told."""
        try:
            self._row.put_nowait(work)
        except asyncio.QueueFull:
            log.warning("A mail of an account was left out: %d wait to be sent already.", WAITING)

    async def drained(self) -> None:
        """Wait until nothing waits."""
        await self._row.join()

    async def _work(self) -> None:
        while True:
            work = await self._row.get()
            try:
                with self._observer.operation("mail"):
                    await work()
            except ConsonaError:
                pass  # its operation has counted and logged it: the mail server is away, the account was removed
            except Exception:
                log.exception("A mail of an account could not be sent.")
            finally:
                self._row.task_done()
