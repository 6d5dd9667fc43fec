"""A connection of its own to a SQLite file: what its writing thread, which others share, cannot do.

Statements outside of a transaction (VACUUM, PRAGMA foreign_keys), and transactions as long as they need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import apsw

from consona.sql.engine import Begin, Done, OpenTransaction, Rows, Session
from consona.sql.placeholders import Statement
from consona.sql.sqlite_statements import encoded, executing, executing_many, fetching
from consona.storage.connections import Connector
from consona.storage.sqlite_engine import SQLiteEngine
from consona.storage.sqlite_errors import translated

__all__ = ["MemorySession", "PinnedSQLite"]

T = TypeVar("T")


class _Connection:
    """One apsw connection and the thread that runs on it."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{connector.name} pinned")
        self._connection: apsw.Connection | None = None

    async def open(self) -> None:
        self._connection = await self._in_thread(self._connector.writer)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._in_thread(lambda: connection.close(True))  # noqa: FBT003  apsw's only spelling of `force`
        self._thread.shutdown(wait=False)

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn(connection)`; cancelling it interrupts the statement and waits for its end."""
        connection = self._connection
        assert connection is not None
        return await self._in_thread(lambda: fn(connection))

    async def _in_thread(self, fn: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._thread, fn)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                if self._connection is not None:
                    self._connection.interrupt()
                await asyncio.wait([future], timeout=0.02)
            future.exception()
            raise
        except apsw.Error as error:
            raise translated(error, self._connector.name) from error


class _Statements:
    """What a pinned connection and its transactions run alike."""

    _connection: _Connection

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        return await self._connection.run(executing(statement, encoded(values)))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        return await self._connection.run(executing_many(statement, rows))

    async def fetch(self, statement: Statement, values: Sequence[Any], *, limit: int | None = None) -> Rows:
        return await self._connection.run(fetching(statement, encoded(values), limit))

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        columns, rows = await self.fetch(statement, values)
        for begin in range(0, len(rows) or 1, batch):
            yield Rows(columns, rows[begin : begin + batch])


class PinnedSQLite(_Statements):
    """A session of the port, open for the time of `async with`."""

    def __init__(self, connector: Connector) -> None:
        self._connection = _Connection(connector)

    async def __aenter__(self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def begin(self, how: Begin) -> _PinnedTransaction:  # noqa: ARG002  it may last
        await self._connection.run(lambda db: db.execute("BEGIN IMMEDIATE"))
        return _PinnedTransaction(self._connection, 0)


class _PinnedTransaction(_Statements):
    def __init__(self, connection: _Connection, depth: int) -> None:
        self._connection = connection
        self._depth = depth

    async def begin(self, how: Begin) -> _PinnedTransaction:  # noqa: ARG002
        nested = _PinnedTransaction(self._connection, self._depth + 1)
        await self._connection.run(lambda db: db.execute(f"SAVEPOINT consona_{nested._depth}"))
        return nested

    async def commit(self) -> None:
        sql = f"RELEASE consona_{self._depth}" if self._depth else "COMMIT"
        try:
            await self._connection.run(lambda db: db.execute(sql))
        except BaseException:
            await self.rollback()
            raise

    async def rollback(self) -> None:
        depth = self._depth
        sql = f"ROLLBACK TO consona_{depth}; RELEASE consona_{depth}" if depth else "ROLLBACK"
        await self._connection.run(lambda db: db.execute(sql) if db.in_transaction else None)


class MemorySession:
    """A memory database has one connection, so nothing can be pinned; only PRAGMA runs outside of transactions."""

    def __init__(self, engine: Session, native: SQLiteEngine) -> None:
        self._engine = engine
        self._native = native
        self.execute_many = engine.execute_many
        self.fetch = engine.fetch
        self.stream = engine.stream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        return None

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        if statement.verb != "PRAGMA":
            return await self._engine.execute(statement, values)
        await self._native.read(lambda db: db.execute(statement.text))
        return Done(0)

    async def begin(self, how: Begin) -> OpenTransaction:
        return await self._engine.begin(how)
