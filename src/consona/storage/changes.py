"""Waiting until a database changes: at once for what is announced, by asking for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Changes"]

FIRST_PAUSE_S: Final = 0.005
LONGEST_PAUSE_S: Final = 0.25


class Changes:
    """Wakes those who wait for a change.

    Args:
        version: Gives a number that differs after each change, whoever made it; takes microseconds.
        shared: Whether other processes can change it too, so that it must be asked for.
    """

    def __init__(
        self, version: Callable[[], int], *, shared: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._version = version
        self._shared = shared
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    def announce(self) -> None:
        """Wake everybody to look. Called on any thread: after each commit of ours, when others ring."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self, since: int, *, timeout_s: float | None = None) -> int:
        """Wait until the version is not `since`, or until time is over. Returns the version then.

        Another process' change is seen when it is announced (see `doorbell`), and without that within 5 ms while
        changes come often, within 250 ms after a quiet time.
        """
        until = None if timeout_s is None else self._clock() + timeout_s
        pause = FIRST_PAUSE_S
        while True:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            with self._lock:
                self._waiting.add(future)
            try:
                version = self._version()  # after the entry in the list, so no change falls between
                left = None if until is None else until - self._clock()
                if version != since or (left is not None and left <= 0):
                    return version
                await asyncio.wait([future], timeout=_shorter(pause if self._shared else None, left))
            finally:
                with self._lock:
                    self._waiting.discard(future)
            pause = min(pause * 2, LONGEST_PAUSE_S)


def _shorter(pause: float | None, left: float | None) -> float | None:
    if pause is None or left is None:
        return left if pause is None else pause
    return min(pause, left)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
