"""Sessions: one for each sign-in, kept alive by refresh tokens that are exchanged at each use.

A refresh token is `crt_SESSION_NUMBER_SECRET`. The secret is made by HMAC from the session's salt, the number, and a
key that is not in the database: so the database holds no token and nothing to make one from, each old token can be
told from an invented one, and who asks again for the successor of the same token gets the same one.

Source: RFC 9700, section 4.14 (rotation, and the end of the session when an old token comes again).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from consona.auth.errors import RefreshRefused
from consona.auth.jws import encode

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["SessionInfo", "SessionRow", "Sessions"]

_TOKEN: Final = re.compile(r"crt_([A-Za-z0-9-]{22})_([0-9]{1,15})_([A-Za-z0-9_-]{43})")


class SessionInfo(msgspec.Struct, frozen=True):
    """A sign-in that goes on: for its owner to see, and to end."""

    id: str
    device: str
    address: str
    created_at: float
    last_seen: float
    expires_at: float


class SessionRow(msgspec.Struct):
    """A session as it is kept."""

    id: str
    account: str
    salt: str
    generation: int
    rotated_at: float
    created_at: float
    last_seen: float
    expires_at: float
    device: str
    address: str
    ended_at: float | None


class ReusedError(RefreshRefused):
    """An old refresh token came again: its session was stolen, from its owner or by its owner's thief."""

    code = "auth.refresh_reused"

    def __init__(self, session: SessionRow) -> None:
        super().__init__("This refresh token was used before, so its session is ended.", hint="Sign in again.")
        self.session = session


class Sessions:
    """The sessions of all accounts.

    Args:
        db: Where they are kept.
        secret: The key that makes refresh tokens.
        ttl: Seconds without use after which one ends.
        grace: Seconds for which the last old token gives the same successor again: its answer may have been lost.
    """

    def __init__(
        self,
        db: SQLDatabase,
        *,
        secret: Callable[[], bytes],
        ttl: float,
        grace: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._secret = secret
        self.ttl = ttl
        self.grace = grace
        self._clock = clock

    async def begin(self, tx: Transaction, account: str, *, device: str, address: str) -> tuple[str, str]:
        """A new session: its id, and its first refresh token."""
        now = self._clock()
        row = SessionRow(
            id=secrets.token_urlsafe(16).replace("_", "-"),  # the token is taken apart at underscores
            account=account,
            salt=secrets.token_hex(16),
            generation=1,
            rotated_at=now,
            created_at=now,
            last_seen=now,
            expires_at=now + self.ttl,
            device=printable(device)[:200],
            address=address[:60],
            ended_at=None,
        )
        marks = ", ".join("?" * len(SessionRow.__struct_fields__))
        await tx.execute(f"INSERT INTO consona_sessions VALUES ({marks})", *msgspec.structs.astuple(row))  # noqa: S608
        return row.id, self._token(row, 1)

    async def rotate(self, token: str) -> tuple[SessionRow, str]:
        """The session of a refresh token, and the token that takes its place.

        Raises:
            ReusedError: It was used before, and the grace is over. Whoever calls ends the session.
            RefreshRefused: It is none, or its session has ended.
        """
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise RefreshRefused("This is no refresh token.")
        generation = int(found[2])
        for _ in range(2):
            row = await self.get(found[1])
            # Compared also where there is nothing to compare with; what differs is the message alone.
            if row is None or not hmac.compare_digest(self._token(row, generation), token):
                raise RefreshRefused("This refresh token is not one of ours.")
            now = self._clock()
            if row.ended_at is not None or row.expires_at < now:
                raise RefreshRefused("The session has ended.")
            if generation == row.generation - 1 and now - row.rotated_at <= self.grace:
                return row, self._token(row, row.generation)
            if generation < row.generation:
                raise ReusedError(row)
            done = await self._db.execute(
                "UPDATE consona_sessions SET generation = ?, rotated_at = ?, last_seen = ?, expires_at = ?"
                " WHERE id = ? AND generation = ? AND ended_at IS NULL",
                generation + 1,
                now,
                now,
                now + self.ttl,
                row.id,
                generation,
            )
            if done.rows:
                row.generation = generation + 1
                return row, self._token(row, generation + 1)
        raise RefreshRefused("The session is used by too many at once.")  # pragma: no cover - it ended in between

    async def get(self, session: str) -> SessionRow | None:
        return await self._db.fetch_one("SELECT * FROM consona_sessions WHERE id = ?", session, into=SessionRow)

    async def end(self, tx: Transaction, session: str) -> bool:
        """End one; returns whether it went on until now."""
        done = await tx.execute(
            "UPDATE consona_sessions SET ended_at = ? WHERE id = ? AND ended_at IS NULL", self._clock(), session
        )
        return done.rows == 1

    async def end_all(self, tx: Transaction, account: str, *, but: str = "") -> list[str]:
        """End all sessions of an account, save one; returns their ids."""
        now = self._clock()
        ids: list[str] = await tx.fetch_column(
            "SELECT id FROM consona_sessions WHERE account = ? AND ended_at IS NULL AND expires_at >= ? AND id <> ?",
            account,
            now,
            but,
        )
        for session in ids:
            await self.end(tx, session)
        return ids

    async def of(self, account: str) -> list[SessionInfo]:
        """Those that go on, the one used last first."""
        return await self._db.fetch_all(
            "SELECT id, device, address, created_at, last_seen, expires_at FROM consona_sessions"
            " WHERE account = ? AND ended_at IS NULL AND expires_at >= ? ORDER BY last_seen DESC",
            account,
            self._clock(),
            into=SessionInfo,
        )

    async def sweep(self, *, keep: float) -> int:
        """Remove those that ended `keep` seconds ago or earlier. Returns how many."""
        before = self._clock() - keep
        done = await self._db.execute(
            "DELETE FROM consona_sessions WHERE expires_at < ? OR (ended_at IS NOT NULL AND ended_at < ?)",
            before,
            before,
        )
        return done.rows

    def _token(self, row: SessionRow, generation: int) -> str:
        told = f"{row.id}|{generation}|{row.salt}".encode()
        return f"crt_{row.id}_{generation}_{encode(hmac.digest(self._secret(), told, hashlib.sha256))}"


def printable(text: str) -> str:
    """Without characters that would do something in a log or a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
