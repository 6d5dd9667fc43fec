"""Removing what has expired, now and then, in batches of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from consona.errors import ConsonaError

__all__ = ["Sweeper"]

log = logging.getLogger("consona.storage")

PAUSE_S: Final = 0.5


class Sweeper:
    """Calls `sweep` every half second (or `pause_s`), from `start` to `stop`; a failure is logged, and tried again later."""

    def __init__(
        self,
        sweep: Callable[[], Awaitable[int]],
        *,
        pause_s: float = PAUSE_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sweep = sweep
        self._pause_s = pause_s
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="consona sweeper")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _work(self) -> None:
        failing = False
        while True:
            await self._sleep(self._pause_s)
            try:
                await self._sweep()
                failing = False
            except ConsonaError as error:
                if not failing:
                    log.warning("What is out of date could not be removed (it is tried again): %s", error.message)
                failing = True
