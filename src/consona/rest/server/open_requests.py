"""The requests under way: until when each may take, and who is left when the server stops.

All of them share the server's timeout, so they run out in the order in which they came, and one timer,
for the oldest, is enough for any number: a request costs one entry in a dict. Requests with a deadline of
their own (the caller's, the route's) are listed here too, and watched by `consona.resilience.deadline`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

__all__ = ["UNTIMED", "OpenRequests"]

UNTIMED: Final = math.inf
"""In place of a moment: nobody here cuts this request."""

_TOLERANCE_S: Final = 0.0001
"""A timer of the event loop may fire this much early, by rounding."""


class OpenRequests:
    """Tasks, oldest first, each with the moment (by `clock`) until which its answer must begin."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.until: dict[asyncio.Task[Any], float] = {}
        self.cut: set[asyncio.Task[Any]] = set()
        """Interrupted here, and not taken back yet."""
        self.timer: asyncio.TimerHandle | None = None
        self._clock = clock

    def arm(self, at: float) -> None:
        """Look again at that moment. Called with the first entry after there was none."""
        loop = asyncio.get_running_loop()
        # The timer outlives the request that set it, and must not keep that one's variables alive.
        self.timer = loop.call_later(max(0.0, at - self._clock()), self._fire, context=Context())

    def _fire(self) -> None:
        self.timer = None
        now = self._clock() + _TOLERANCE_S
        late = []
        for task, until in self.until.items():
            if until <= now:
                late.append(task)
            elif until != UNTIMED:
                self.arm(until)
                break
        for task in late:
            self.until[task] = UNTIMED
            if not task.cancelling():  # else somebody else is at it, and theirs must not be taken back
                self.cut.add(task)
                task.cancel()

    def was_cut(self, task: asyncio.Task[Any]) -> bool:
        """Take back our own cancellation. True if there was one, and nobody else's."""
        if task not in self.cut:
            return False
        self.cut.discard(task)
        return task.uncancel() == 0

    def close(self) -> None:
        """Let go of the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
