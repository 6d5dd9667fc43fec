"""What was taken back is written into the database, and each process follows it twice a second.

So a token that one process took back counts in none, a second later at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from consona.auth.revocations import Revocations
from consona.errors import ConsonaError

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["RevocationFeed"]

EVERY_S: Final = 0.5
LATE_COMMIT_S: Final = 10.0
"""Rows of a transaction that commits late have lower numbers than some that were seen: so far back is read again."""
STALE_S: Final = 1.5
"""One and a half seconds: the second that is promised, and what one look may take."""

log = logging.getLogger("consona.auth")


class RevocationFeed:
    """Writes and follows."""

    def __init__(
        self,
        db: SQLDatabase,
        revocations: Revocations,
        *,
        every: float = EVERY_S,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._revocations = revocations
        self._every = every
        self._clock = clock
        self._timer = timer
        self._seen: deque[tuple[float, int]] = deque([(float("-inf"), 0)])
        self._heard = float("-inf")
        self._failing = False
        self._following: asyncio.Task[None] | None = None

    @property
    def stale(self) -> bool:
        """Whether the last look that worked is too long ago to promise anything."""
        return self._timer() - self._heard > STALE_S

    async def write(self, tx: Transaction, kind: str, name: str, *, until: float, version: int = 0) -> None:
        """Take something back, in the transaction of what causes it; in this process as soon as it is committed.

        Args:
            tx: The transaction.
            kind: `token`, `session` or `account`.
            name: The id of it.
            until: When the last token that it concerns ends by itself.
            version: Of an account: tokens that were issued before this change do not count.
        """
        await tx.execute(
            "INSERT INTO consona_revocations (kind, name, version, until) VALUES (?, ?, ?, ?)",
            kind,
            name,
            version,
            until,
        )
        tx.on_commit(lambda: self._note(kind, name, version, until))

    async def look(self) -> None:
        """Read what is new.

        Raises:
            ConsonaError: The database does not answer.
        """
        begin = self._timer()
        while len(self._seen) > 1 and self._seen[1][0] < begin - LATE_COMMIT_S:
            self._seen.popleft()
        rows = await self._db.fetch_all(
            "SELECT number, kind, name, version, until FROM consona_revocations WHERE number > ? ORDER BY number",
            self._seen[0][1],
            into=tuple,
        )
        for _, kind, name, version, until in rows:
            self._note(kind, name, version, until)
        if rows and rows[-1][0] > self._seen[-1][1]:
            self._seen.append((begin, rows[-1][0]))
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
        """Look again and again, until cancelled. A database that is away is told once, and asked on."""
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

    async def sweep(self) -> int:
        """Remove what concerns no token any more. Returns how many."""
        done = await self._db.execute("DELETE FROM consona_revocations WHERE until < ?", self._clock() - LATE_COMMIT_S)
        return done.rows

    def _note(self, kind: str, name: str, version: int, until: float) -> None:
        if until < self._clock():
            return
        if kind == "account":
            self._revocations.account(name, version=version, until=until)
        elif kind == "session":
            self._revocations.session(name, until=until)
        else:
            self._revocations.token(name, until=until)
