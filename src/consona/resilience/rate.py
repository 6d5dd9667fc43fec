"""A rate limit: so many calls a second, with a burst, evenly spaced after it.

GCRA keeps one number for each key, the time at which a call would be exactly on schedule
("theoretical arrival time"), so it needs neither a counter for each window nor a timer.

Source: ITU-T Recommendation I.371 (2004), annex A: the generic cell rate algorithm.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from consona.errors import ConfigurationError, RateLimited
from consona.resilience.deadline import remaining

__all__ = ["BoundRateLimit", "LocalTurns", "RateLimit", "Turns", "next_turn"]

MAX_KEYS = 10_000

_ROUNDING_S = 1e-9
"""A turn this close is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many calls may begin, and how quickly. Each key (host, client) has a rate of its own.

    In any stretch of `t` seconds at most `burst + rate * t` calls begin.

    Args:
        rate: Calls a second; 0.5 is one call in two seconds.
        burst: Calls that may begin at once after a pause.
        max_wait: Seconds that a call waits for its turn, within its deadline; with 0.0 it is refused at once.

    Example:
        >>> limit = RateLimit(rate=5, burst=2, max_wait=0.0).bind("search", clock=lambda: 0.0)
        >>> [limit.turns.take("ada", max_wait=0.0) for _ in range(3)]
        [0.0, 0.0, 0.2]
    """

    rate: float
    burst: int = 1
    max_wait: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ConfigurationError(f"RateLimit(rate={self.rate}): calls a second, above 0.")
        if self.burst < 1:
            raise ConfigurationError(f"RateLimit(burst={self.burst}): at least one call must be able to begin.")
        if not self.max_wait >= 0:
            raise ConfigurationError(f"RateLimit(max_wait={self.max_wait}): seconds from 0 upwards.")

    def bind(
        self,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        shared: Turns | None = None,
        max_keys: int = MAX_KEYS,
    ) -> BoundRateLimit:
        """The limit with its memory, for use alone; a policy binds its own.

        Args:
            name: What errors and the dashboard call it.
            clock: Seconds that only grow.
            sleep: How to wait for a turn.
            max_keys: So many keys are remembered.
            shared: Where the turns are kept when several processes share the limit; by default here.
        """
        return BoundRateLimit(self, name, clock=clock, sleep=sleep, shared=shared, max_keys=max_keys)


def next_turn(expected: float | None, now: float, *, limit: RateLimit, max_wait: float) -> tuple[float, float]:
    """One step of GCRA, without memory: what a shared limit computes inside its store.

    Args:
        expected: The time that was kept for the key (on the same clock as `now`); None for a new key.
        now: Seconds.
        limit: The rate and the burst.
        max_wait: The longest wait that is acceptable to the caller, in seconds.

    Returns:
        The time to keep from now on, and the seconds to wait until the turn. If the wait is above
        `max_wait`, nothing was taken, and what was kept stays.

    Example:
        >>> next_turn(None, 100.0, limit=RateLimit(rate=2), max_wait=0.0)
        (100.5, 0.0)
        >>> next_turn(100.5, 100.0, limit=RateLimit(rate=2), max_wait=0.0)
        (100.5, 0.5)
    """
    interval = 1.0 / limit.rate
    begin = now if expected is None or expected < now else expected
    wait = begin - now - (limit.burst - 1) * interval
    if wait <= _ROUNDING_S:
        return begin + interval, 0.0
    if wait > max_wait:
        return begin, wait
    return begin + interval, wait


class Turns(Protocol):
    """Where a shared limit keeps its turns, such as a store that all processes reach."""

    async def take(self, key: str, *, limit: RateLimit, max_wait: float) -> float:
        """Take the key's next turn if it comes within `max_wait` seconds; `next_turn` says how.

        Returns:
            The seconds until the turn. If they are above `max_wait`, nothing was taken.
        """


class LocalTurns:
    """The turns of this process, of at most `max_keys` keys.

    Keys beyond that share: the latest time of a forgotten key is where a new one begins, so nobody
    gets more by making the table forget them.
    """

    __slots__ = ("_clock", "_expected", "_floor", "_interval", "_limit", "_max_keys", "_slack")

    def __init__(self, limit: RateLimit, *, clock: Callable[[], float], max_keys: int) -> None:
        self._limit = limit
        self._clock = clock
        self._max_keys = max_keys
        self._expected: OrderedDict[str, float] = OrderedDict()
        self._floor = -math.inf
        self._interval = 1.0 / limit.rate
        self._slack = (limit.burst - 1) * self._interval

    def take_now(self, key: str) -> bool:
        """Take the key's turn if it may be used at once. (`next_turn` for that case alone: it is the usual one.)"""
        now = self._clock()
        expected = self._expected.get(key)
        begin = self._floor if expected is None else expected
        if begin - now - self._slack > _ROUNDING_S:
            return False
        self._expected[key] = max(begin, now) + self._interval
        if expected is None:
            self._forget()
        else:
            self._expected.move_to_end(key)
        return True

    def take(self, key: str, *, max_wait: float) -> float:
        """As in `Turns`, at once."""
        begin = self._expected.get(key, self._floor)
        kept, wait = next_turn(begin, self._clock(), limit=self._limit, max_wait=max_wait)
        if wait <= max_wait:
            self._expected[key] = kept
            self._expected.move_to_end(key)
            self._forget()
        return wait

    def _forget(self) -> None:
        if len(self._expected) > self._max_keys:
            _, forgotten = self._expected.popitem(last=False)
            self._floor = max(self._floor, forgotten)

    def tokens(self, key: str) -> float:
        """The calls that could begin at once now."""
        ahead = max(0.0, self._expected.get(key, self._floor) - self._clock())
        return max(0.0, self._limit.burst - ahead / self._interval)

    def latest(self, limit: int) -> list[str]:
        return [key for key, _ in zip(reversed(self._expected), range(limit), strict=False)]


class BoundRateLimit:
    """A rate limit with its memory: `await limit.acquire("host")`, or `async with limit.turn("host"): ...`"""

    def __init__(
        self,
        settings: RateLimit,
        name: str,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        shared: Turns | None,
        max_keys: int,
    ) -> None:
        self.settings = settings
        self.name = name
        self.turns = LocalTurns(settings, clock=clock, max_keys=max_keys)
        self.shared = shared
        self.waiting = 0
        self.refused = 0
        self._sleep = sleep

    def acquire_now(self, key: str = "") -> bool:
        """Take a turn if one is free now; False (and nothing taken) if not, or if only a shared store knows."""
        return self.shared is None and self.turns.take_now(key)

    async def acquire(self, key: str = "") -> None:
        """Wait for the next turn, within `max_wait` and the deadline of the work under way.

        A turn is used up even if the caller is cancelled while waiting for it.

        Raises:
            RateLimited: The turn would come too late; `retry_after` says when.
        """
        left = remaining()
        max_wait = self.settings.max_wait if left is None else min(left, self.settings.max_wait)
        if self.shared is None:
            wait = self.turns.take(key, max_wait=max_wait)
        else:
            wait = await self.shared.take(key, limit=self.settings, max_wait=max_wait)
        if wait <= 0.0:
            return
        if wait > max_wait:
            self.refused += 1
            of = f" for {key}" if key else ""
            raise RateLimited(
                f"{self.name}: more than {self.settings.rate:g} calls a second{of}; the next turn is in {wait:.3f} s.",
                retry_after=wait,
                name=self.name,
                key=key,
            )
        self.waiting += 1
        try:
            await self._sleep(wait)
        finally:
            self.waiting -= 1

    @asynccontextmanager
    async def turn(self, key: str = "") -> AsyncIterator[None]:
        """`acquire` as a context manager: the body begins when its turn has come."""
        await self.acquire(key)
        yield

    def state(self, *, limit: int = 20) -> dict[str, Any]:
        """What is left for the keys used last; for a shared limit, what this process knows."""
        state: dict[str, Any] = {"name": self.name, "waiting": self.waiting, "refused": self.refused}
        if self.shared is None:
            keys = self.turns.latest(limit)
            state["keys"] = {key: {"left": round(self.turns.tokens(key), 2)} for key in keys}
        return state
