"""A line in which tasks wait for a thing, first come first served, each until its own time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

__all__ = ["Waiter", "WaitingLine"]

T = TypeVar("T")

TOLERANCE_S: Final = 0.001
"""A timer of the event loop may fire this much early, by rounding."""


class Waiter(Generic[T]):
    """One who waits: for what, since when, until when, and from where in the user's code."""

    __slots__ = ("future", "place", "since", "task", "until")

    def __init__(self, place: str, since: float, until: float) -> None:
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.place = place
        self.since = since
        self.until = until


class WaitingLine(Generic[T]):
    """Those who wait, on one timer: most are served in time, so a timer for each would cost more than it gives.

    Args:
        clock: Seconds; never goes back.
        late: Makes the error of somebody whose time is over.
    """

    def __init__(self, clock: Callable[[], float], late: Callable[[Waiter[T]], BaseException]) -> None:
        self._clock = clock
        self._late = late
        self._waiters: OrderedDict[Waiter[T], None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, waiter: Waiter[T]) -> None:
        self._waiters[waiter] = None
        self._set_timer(waiter.until)

    def leave(self, waiter: Waiter[T]) -> None:
        self._waiters.pop(waiter, None)

    def first(self) -> Waiter[T] | None:
        """Take out the one who waits longest; whoever asks serves it now."""
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.future.done():
                return waiter
        return None

    def refuse_all(self, error: Callable[[], BaseException]) -> None:
        """Tell everybody that there is nothing to wait for; `error` makes one for each."""
        while (waiter := self.first()) is not None:
            waiter.future.set_exception(error())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._refuse_late)

    def _refuse_late(self) -> None:
        self._timer = None
        now = self._clock() + TOLERANCE_S
        for waiter in [waiter for waiter in self._waiters if waiter.until <= now]:
            del self._waiters[waiter]
            if not waiter.future.done():
                waiter.future.set_exception(self._late(waiter))
        if self._waiters:
            self._set_timer(min(waiter.until for waiter in self._waiters))
