"""A rate limit that processes share: the turns of `RateLimit`, kept in a `Store`.

    limits = open_store("sqlite:///limits.db")
    async with limits:
        runner = Policy(rate=RateLimit(rate=10, burst=20)).bind("mail", turns=StoredTurns(limits))

Each key's state is one number (the time at which the next turn is due), changed by compare-and-set, so
any number of processes together keep the limit. The times are wall-clock seconds, since processes
compare them: machines that share a limit need clocks that agree within its interval.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from consona.resilience.rate import RateLimit, next_turn
from consona.storage.store import Store

__all__ = ["StoredTurns"]


class StoredTurns:
    """Turns in a store; give it to `Policy.bind(..., turns=)` or `RateLimit.bind(..., shared=)`.

    Args:
        store: Where the keys are kept. They expire by themselves once they say nothing any more.
        prefix: What the keys begin with, so that other things may lie in the store.
        clock: Seconds since the epoch.

    Source: GCRA, ITU-T I.371.
    """

    def __init__(self, store: Store, *, prefix: str = "rate/", clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._prefix = prefix
        self._clock = clock

    async def take(self, key: str, *, limit: RateLimit, max_wait: float) -> float:
        """Take the key's next turn if it comes within `max_wait` seconds.

        Returns:
            The seconds until the turn. If they are above `max_wait`, nothing was taken.
        """
        wait, _ = await self.take_and_tell(key, limit=limit, max_wait=max_wait)
        return wait

    async def take_and_tell(self, key: str, *, limit: RateLimit, max_wait: float) -> tuple[float, float]:
        """As `take`, and how many calls could begin at once after it."""
        name = self._prefix + key
        while True:
            now = self._clock()
            item = await self._store.get(name)
            expected = float(item.value) if item is not None else None
            keep, wait = next_turn(expected, now, limit=limit, max_wait=max_wait)
            left = max(0.0, limit.burst - max(0.0, keep - now) * limit.rate)
            if wait > max_wait:
                return wait, left
            # Past its time the number says the same as none; a second more allows for clocks that differ.
            ttl = math.ceil(max(0.0, keep - now)) + 1.0
            version = item.version if item is not None else 0
            if await self._store.put_if(name, repr(keep).encode(), version=version, ttl=ttl) is not None:
                return max(0.0, wait), left
