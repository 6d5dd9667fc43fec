"""What was taken back is written into the database, and each process follows it twice a second.

So a token that one process took back counts in none, a second later at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from consona.auth.revocation_follower import EVERY_S, LATE_COMMIT_S, PAGE, RevocationFollower, Revoked
from consona.auth.revocations import Revocations

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["RevocationFeed"]


class RevocationFeed(RevocationFollower):
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
        super().__init__(revocations, every=every, clock=clock, timer=timer)
        self._db = db

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

    async def after(self, number: int) -> list[Revoked]:
        """What was taken back and has a greater number, at most 5000: for services that have no such database."""
        return await self._read(number)

    async def _read(self, after: int) -> list[Revoked]:
        rows = await self._db.fetch_all(
            f"SELECT number, kind, name, version, until FROM consona_revocations WHERE number > ?"  # noqa: S608
            f" ORDER BY number LIMIT {PAGE}",
            after,
            into=tuple,
        )
        return [Revoked(*row) for row in rows]

    async def sweep(self) -> int:
        """Remove what concerns no token any more. Returns how many."""
        done = await self._db.execute("DELETE FROM consona_revocations WHERE until < ?", self._clock() - LATE_COMMIT_S)
        return done.rows
