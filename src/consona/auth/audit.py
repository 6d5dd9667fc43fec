"""What happened to accounts, kept so that a change of it shows: each entry is sealed together with the one before.

The seal is an HMAC with a key that is not in the database, so who can write there cannot make seals.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["AuditEntry", "AuditLog", "AuditVerdict"]

MAX_DETAIL: Final = 2000


class AuditEntry(msgspec.Struct, frozen=True):
    """One event: what happened, to whose account, by whom, from where. Never a secret."""

    number: int
    happened_at: float
    event: str
    account: str
    actor: str
    address: str
    detail: str
    seal: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """Whether the log is whole."""

    entries: int
    """How many were looked at."""
    problem: str = ""
    """What is wrong with it; empty where nothing is."""

    @property
    def whole(self) -> bool:
        return not self.problem


class AuditLog:
    """Append-only, for all processes of a system together."""

    def __init__(self, db: SQLDatabase, *, secret: Callable[[], bytes], clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._secret = secret
        self._clock = clock

    async def append(
        self, tx: Transaction, event: str, *, account: str = "", actor: str = "", address: str = "", **detail: Any
    ) -> None:
        """Add an entry in the transaction of what it tells of: both happen, or neither.

        Args:
            tx: The transaction.
            event: What happened: `login`, `roles changed`.
            account: The account's id.
            actor: Who did it, where that is somebody else.
            address: Where it came from.
            detail: Names and counts.
        """
        # The row's lock makes entries of several processes come one after the other.
        await tx.execute("UPDATE consona_audit_end SET number = number + 1 WHERE id = 1")
        end = await tx.fetch_one("SELECT number, seal FROM consona_audit_end WHERE id = 1")
        assert end is not None, "it is made with the table"
        told = msgspec.json.encode(detail, order="sorted").decode() if detail else ""
        entry = AuditEntry(
            end["number"], round(self._clock(), 3), event, account, actor[:255], address[:60], told[:MAX_DETAIL], ""
        )
        seal = self._seal(end["seal"], entry)
        await tx.execute(
            "INSERT INTO consona_audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *msgspec.structs.astuple(entry)[:-1], seal
        )
        await tx.execute("UPDATE consona_audit_end SET seal = ? WHERE id = 1", seal)

    async def note(self, event: str, **more: Any) -> None:
        """Add an entry of something that changed nothing else: a wrong password."""

        async def add(tx: Transaction) -> None:
            await self.append(tx, event, **more)

        await self._db.run_in_transaction(add, name="audit")

    async def entries(self, *, account: str = "", event: str = "", after: int = 0) -> AsyncGenerator[AuditEntry]:
        """The entries, oldest first.

        Args:
            account: Only those of this account.
            event: Only those of this kind.
            after: Only those with a greater number.
        """
        sql = "SELECT * FROM consona_audit WHERE number > ?"
        values: list[Any] = [after]
        for column, value in (("account", account), ("event", event)):
            if value:
                sql += f" AND {column} = ?"
                values.append(value)
        async with aclosing(self._db.stream(f"{sql} ORDER BY number", *values, into=AuditEntry)) as rows:
            async for entry in rows:
                yield entry

    async def last(self, limit: int, *, account: str = "") -> list[AuditEntry]:
        """The newest entries, the newest first; only those of one account, if it is named."""
        where, values = ("WHERE account = ?", [account]) if account else ("", [])
        return await self._db.fetch_all(
            f"SELECT * FROM consona_audit {where} ORDER BY number DESC LIMIT ?",  # noqa: S608  our own words
            *values,
            limit,
            into=AuditEntry,
        )

    async def verify(self) -> AuditVerdict:
        """Look at all entries: whether one was changed, removed, or put in between."""
        seal, number = "", 0
        async with aclosing(self.entries()) as entries:
            async for entry in entries:
                if entry.number != number + 1:
                    return AuditVerdict(number, f"Entry {number + 1} is missing.")
                seal = self._seal(seal, entry)
                if not hmac.compare_digest(seal, entry.seal):
                    return AuditVerdict(number, f"Entry {entry.number} is not as it was written.")
                number = entry.number
        end = await self._db.fetch_one("SELECT number, seal FROM consona_audit_end WHERE id = 1")
        if end is None or end["number"] != number or end["seal"] != seal:
            return AuditVerdict(number, f"Entries after number {number} are missing.")
        return AuditVerdict(number)

    def _seal(self, before: str, entry: AuditEntry) -> str:
        told = msgspec.json.encode([before, *msgspec.structs.astuple(entry)[:-1]])
        return hmac.digest(self._secret(), told, hashlib.sha256).hex()
