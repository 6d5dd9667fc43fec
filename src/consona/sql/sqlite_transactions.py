"""Transactions on SQLite: one that writes has the writer to itself, one that only reads has a moment of its own.

SQLite has one level of isolation, serializable, so every level that may be asked for is kept.
Source: https://www.sqlite.org/isolation.html.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

import apsw

from consona.errors import DatabaseReadOnly
from consona.sql.engine import Begin, Done, OpenTransaction, ReadRows, Rows
from consona.sql.placeholders import Statement
from consona.sql.sqlite_statements import encoded, executing, executing_many, fetching, opening, reading
from consona.storage.jobs import Session
from consona.storage.snapshot import Snapshot
from consona.storage.sqlite_engine import SQLiteEngine
from consona.storage.sqlite_errors import open_too_long
from consona.storage.transaction import Transaction

__all__ = ["SQLiteReadOnly", "SQLiteTransaction", "begin"]

T = TypeVar("T")


async def begin(engine: SQLiteEngine, how: Begin) -> OpenTransaction:
    """Begin the kind of transaction that was asked for."""
    if how.read_only and not engine.address.is_memory:
        snapshot = SQLiteReadOnly(engine.snapshot(), engine.name, how)
        await snapshot.begin_now()
        return snapshot
    transaction = engine.transaction(name=how.name, deadline=how.deadline_s, where=how.where, read_only=how.read_only)
    await transaction.begin()
    return SQLiteTransaction(transaction, how)


class _Statements(ABC):
    """What both kinds run alike."""

    @abstractmethod
    async def _run(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn(connection)` in the transaction."""

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        return await self._run(executing(statement, encoded(values)))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        return await self._run(executing_many(statement, rows))

    async def fetch(self, statement: Statement, values: Sequence[Any], *, limit: int | None = None) -> Rows:
        return await self._run(fetching(statement, encoded(values), limit))

    async def fetch_read(
        self, statement: Statement, values: Sequence[Any], reader: Callable[[tuple[str, ...]], ReadRows]
    ) -> list[Any]:
        return await self._run(reading(statement, encoded(values), reader))

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        columns, cursor = await self._run(opening(statement, encoded(values)))
        try:
            first = True
            while (rows := await self._run(lambda _: list(islice(cursor, batch)))) or first:
                first = False
                yield Rows(columns, rows)
        finally:
            with contextlib.suppress(apsw.Error):
                cursor.close()


class SQLiteTransaction(_Statements):
    """An open transaction; it has the writer to itself."""

    def __init__(self, transaction: Transaction, how: Begin) -> None:
        self.native = transaction
        self._how = how

    async def begin(self, how: Begin) -> SQLiteTransaction:
        nested = self.native.transaction(name=how.name, where=how.where)
        await nested.begin()
        return SQLiteTransaction(nested, self._how)

    async def commit(self) -> None:
        await self.native.commit()

    async def rollback(self) -> None:
        await self.native.rollback()

    async def _run(self, fn: Callable[[apsw.Connection], T]) -> T:
        try:
            return await self.native.run(fn)
        except DatabaseReadOnly as error:
            if self._how.read_only:
                raise _only_reads(self._how) from error
            raise


class SQLiteReadOnly(_Statements):
    """An open transaction that reads: a connection of its own that stays at one moment, beside those who write."""

    def __init__(self, snapshot: Snapshot, name: str, how: Begin) -> None:
        self.native = snapshot
        self._name = name
        self._how = how
        self._until: float | None = None

    async def begin_now(self) -> None:
        """Fix the moment. SQLite does so at the first read."""
        if self._how.deadline_s is not None:
            self._until = asyncio.get_running_loop().time() + self._how.deadline_s
        try:
            await self.native.run(lambda db: db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall())
        except BaseException:
            await self.native.close()
            raise

    async def begin(self, how: Begin) -> OpenTransaction:  # noqa: ARG002
        """Nothing can be undone, so a savepoint is nothing."""
        return _Inside(self)

    async def commit(self) -> None:
        late = self._until is not None and asyncio.get_running_loop().time() >= self._until
        await self.native.close()
        if late:
            raise self._too_long()

    async def rollback(self) -> None:
        await self.native.close()

    async def _run(self, fn: Callable[[apsw.Connection], T]) -> T:
        timeout = asyncio.timeout_at(self._until)
        try:
            async with timeout:
                return await self.native.run(fn)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise self._too_long() from error
        except DatabaseReadOnly as error:
            raise _only_reads(self._how) from error

    def _too_long(self) -> BaseException:
        how = self._how
        return open_too_long(self._name, Session(how.name, how.where, how.deadline_s or 0.0))


class _Inside(_Statements):
    """A savepoint of a transaction that only reads."""

    def __init__(self, outer: SQLiteReadOnly) -> None:
        self.native = outer.native
        self._outer = outer

    async def begin(self, how: Begin) -> OpenTransaction:  # noqa: ARG002  only one that writes has names to tell
        return self

    async def commit(self) -> None:
        return None

    async def rollback(self) -> None:
        return None

    async def _run(self, fn: Callable[[apsw.Connection], T]) -> T:
        return await self._outer._run(fn)


def _only_reads(how: Begin) -> DatabaseReadOnly:
    return DatabaseReadOnly(
        f"The transaction {how.name!r} only reads, and this statement writes.",
        hint="Begin it without read_only=True.",
    )
