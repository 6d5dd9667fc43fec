"""Ctrl-C and its relatives, as calls in the event loop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["Once", "stopping_on_signals"]

NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Those that the system has: SIGHUP means that the terminal was closed, SIGBREAK is Windows' Ctrl-Break."""

ONE_PRESS_S: Final = 0.3
"""Ctrl-C under `make` or `timeout` may arrive twice at once: from the terminal, and handed on. That is one wish."""


class Once:
    """Tells a signal that repeats the one just before from a new wish.

    Example:
        >>> once = Once(clock=iter([10.0, 10.1, 11.0]).__next__)
        >>> [once.is_new() for _ in range(3)]
        [True, False, True]
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = float("-inf")

    def is_new(self) -> bool:
        now = self._clock()
        new = now - self._last > ONE_PRESS_S
        if new:
            self._last = now
        return new


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in the running event loop for each signal that asks the process to end."""
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    once = Once()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if once.is_new():
            loop.call_soon_threadsafe(stop)

    # Not loop.add_signal_handler: Windows has none.
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
