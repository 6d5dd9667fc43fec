"""Follows what was taken back, wherever that is written down, and keeps it in memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from consona.auth.revocations import Revocations
from consona.errors import ConsonaError

__all__ = ["PAGE", "RevocationFollower", "Revoked"]

EVERY_S: Final = 0.5
LATE_COMMIT_S: Final = 10.0
"""Rows of a transaction that commits late have lower numbers than some that were seen: so far back is read again."""
STALE_S: Final = 1.5
"""One and a half seconds: the second that is promised, and what one look may take."""
PAGE: Final = 5000
"""So many are read at once."""

log = logging.getLogger("consona.auth")


class Revoked(msgspec.Struct, array_like=True, frozen=True):
    """One thing that was taken back."""

    number: int
    """They grow, and some may be left out."""
    kind: str
    """`token`, `session` or `account`."""
    name: str
    version: int
    until: float


class RevocationFollower(ABC):
    """Looks twice a second. Whoever derives from it says where (`_read`)."""

    def __init__(
        self,
        revocations: Revocations,
        *,
        every: float = EVERY_S,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._revocations = revocations
        self._every = every
        self._clock = clock
        self._timer = timer
        self._seen: deque[tuple[float, int]] = deque([(float("-inf"), 0)])
        self._heard = float("-inf")
        self._failing = False
        self._following: asyncio.Task[None] | None = None

    @abstractmethod
    async def _read(self, after: int) -> list[Revoked]:
        """Those with a greater number, in their order, at most `PAGE`."""

    @property
    def stale(self) -> bool:
        """Whether the last look that worked is too long ago to promise anything."""
        return self._timer() - self._heard > STALE_S

    async def look(self) -> None:
        """Read what is new.

        Raises:
            ConsonaError: Where it is written down does not answer.
        """
        begin = self._timer()
        while len(self._seen) > 1 and self._seen[1][0] < begin - LATE_COMMIT_S:
            self._seen.popleft()
        last = self._seen[0][1]
        while True:
            found = await self._read(last)
            for each in found:
                self._note(each.kind, each.name, each.version, each.until)
            last = found[-1].number if found else last
            if len(found) < PAGE:
                break
        if last > self._seen[-1][1]:
            self._seen.append((begin, last))
        self._heard = begin
        self._revocations.sweep(self._clock())

    def start(self) -> None:
        """Follow, from now until `stop`."""
        self._following = asyncio.create_task(self.follow(), name="consona revocations")

    async def stop(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def follow(self) -> None:
        """Look again and again, until cancelled. What does not answer is told once, and asked on."""
        while True:
            await asyncio.sleep(self._every)
            try:
                async with asyncio.timeout(5.0):
                    await self.look()
            except (ConsonaError, TimeoutError) as error:
                if not self._failing:
                    reason = error.message if isinstance(error, ConsonaError) else "no answer in time"
                    log.warning("It cannot be read which tokens were taken back: %s", reason)
                self._failing = True
            else:
                if self._failing:
                    log.info("It can be read again which tokens were taken back.")
                self._failing = False

    def _note(self, kind: str, name: str, version: int, until: float) -> None:
        if until < self._clock():
            return
        if kind == "account":
            self._revocations.account(name, version=version, until=until)
        elif kind == "session":
            self._revocations.session(name, until=until)
        else:
            self._revocations.token(name, until=until)
