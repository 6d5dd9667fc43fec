"""A bulkhead: one slow dependency may hold only so many calls, and the rest of the ship stays dry.

At most `limit` calls run at once; at most `queue` more wait, first come first served; beyond that
they are refused at once, while the caller can still do something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from consona.errors import BulkheadFull, ConfigurationError
from consona.resilience.deadline import enforced
from consona.resilience.keyed import MAX_KEYS, Keyed

__all__ = ["BoundBulkhead", "Bulkhead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulkhead:
    """How many calls run at once, and how many may wait. Each key (host) has places of its own.

    Args:
        limit: Calls that run at once.
        queue: Calls that may wait for a place, within their deadline.

    Example:
        >>> Bulkhead(limit=10, queue=50)
        Bulkhead(limit=10, queue=50)
    """

    limit: int = 100
    queue: int = 1000

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ConfigurationError(f"Bulkhead(limit={self.limit}): at least one call must be able to run.")
        if self.queue < 0:
            raise ConfigurationError(f"Bulkhead(queue={self.queue}): it cannot be negative; 0 lets nobody wait.")

    def bind(self, name: str, *, max_keys: int = MAX_KEYS) -> BoundBulkhead:
        """The bulkhead with its places, for use alone; a policy binds its own."""
        return BoundBulkhead(self, name, max_keys=max_keys)


class Compartment:
    """The places of one key. Each `enter` or `wait` that returns is paid back by one `leave`."""

    __slots__ = ("_waiters", "running", "settings")

    def __init__(self, settings: Bulkhead) -> None:
        self.settings = settings
        self.running = 0
        # A dict is an ordered set here: first in, first out, and a cancelled waiter leaves in constant time.
        self._waiters: dict[asyncio.Future[None], None] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def busy(self) -> bool:
        return self.running > 0

    def enter(self) -> bool:
        """Take a free place, if there is one."""
        if self.running < self.settings.limit:
            self.running += 1
            return True
        return False

    async def wait(self, name: str, key: str) -> None:
        """Wait for a place, behind those who came before.

        Raises:
            BulkheadFull: So many wait already.
        """
        if len(self._waiters) >= self.settings.queue:
            of = f" for {key}" if key else ""
            raise BulkheadFull(
                f"{name}: {self.running} calls{of} are under way and {len(self._waiters)} wait, which is the limit.",
                name=name,
                key=key,
                running=self.running,
                waiting=len(self._waiters),
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiters[turn] = None
        try:
            await turn
        except BaseException:
            # Cancelled in the very moment in which it was given a place: pass the place on.
            if self._waiters.pop(turn, turn) is turn and turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to the first who waits, or back."""
        while self._waiters:
            turn = next(iter(self._waiters))
            del self._waiters[turn]
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def show(self) -> dict[str, Any]:
        """How full it is, as plain values."""
        return {
            "running": self.running,
            "limit": self.settings.limit,
            "waiting": len(self._waiters),
            "queue": self.settings.queue,
        }


class BoundBulkhead:
    """A bulkhead with its places: `async with bulkhead.place("host"): ...`"""

    def __init__(self, settings: Bulkhead, name: str, *, max_keys: int) -> None:
        self.settings = settings
        self.name = name
        self._compartments: Keyed[Compartment] = Keyed(
            lambda _: Compartment(settings), max_keys=max_keys, busy=lambda compartment: compartment.busy
        )

    @asynccontextmanager
    async def place(self, key: str = "") -> AsyncIterator[None]:
        """Run the body in a place; wait for one within the deadline of the work under way.

        Raises:
            BulkheadFull: All places are taken, and the queue is full.
            DeadlineExceeded: No place became free in time.
        """
        compartment = self._compartments.get(key)
        if not compartment.enter():
            async with enforced():
                await compartment.wait(self.name, key)
        try:
            yield
        finally:
            compartment.leave()

    def state(self, *, limit: int = 20) -> dict[str, Any]:
        """The compartments used last, by key."""
        return {"name": self.name, "keys": {key: part.show() for key, part in self._compartments.latest(limit)}}
