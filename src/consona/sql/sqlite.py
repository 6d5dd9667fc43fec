"""SQLite, on the engine of `storage`: one writer with group commit, readers beside it.

How values are stored, since SQLite knows text, numbers and bytes only: Decimal, date, time and UUID as
their text; a datetime as text in UTC with six digits of a second (`2026-01-02 03:04:05.000000+00:00`),
so that it sorts by time and SQLite's date functions read it; bool as 0 and 1; JSON as text. Read with
`into=`, they come back as they were; without, as what is stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import apsw

from consona.address import Address
from consona.errors import ConfigurationError, DatabaseReadOnly
from consona.sql.cache.sqlite import SQLiteFreshness
from consona.sql.dialect import SQLITE
from consona.sql.engine import Begin, Done, OpenTransaction, ReadRows, Rows
from consona.sql.placeholders import Statement
from consona.sql.sqlite_pinned import MemorySession, PinnedSQLite
from consona.sql.sqlite_statements import encoded, executing, executing_many, explaining, fetching, opening, reading
from consona.sql.sqlite_transactions import begin
from consona.storage.sqlite_engine import SQLiteEngine, open_sqlite

__all__ = ["SQLite"]

T = TypeVar("T")

MAX_NOTED: Final = 1000


class SQLite:
    """`sqlite:///shop.db`, or `sqlite://` for memory shared by the process."""

    dialect = SQLITE

    def __init__(self, address: Address) -> None:
        self._address = address
        self._engine: SQLiteEngine | None = None
        self._writes: set[str] = set()
        """Statements that look as if they read, and were found to write."""

    async def open(self) -> None:
        self._engine = await open_sqlite(self._address)
        self._write = self._engine.write

    async def close(self) -> None:
        engine, self._engine = self.native, None
        await engine.close()

    @property
    def native(self) -> SQLiteEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine

    # Not async, but returning what is awaited: each coroutine more costs half a microsecond.

    def execute(self, statement: Statement, values: Sequence[Any]) -> Coroutine[Any, Any, Done]:
        return self._write(executing(statement, encoded(values)))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        return await self.native.write(executing_many(statement, rows))

    async def fetch(self, statement: Statement, values: Sequence[Any], *, limit: int | None = None) -> Rows:
        return await self._read(statement, fetching(statement, encoded(values), limit))

    async def fetch_read(
        self, statement: Statement, values: Sequence[Any], reader: Callable[[tuple[str, ...]], ReadRows]
    ) -> list[Any]:
        return await self._read(statement, reading(statement, encoded(values), reader))

    async def _read(self, statement: Statement, fn: Callable[[apsw.Connection], T]) -> T:
        if statement.reads and statement.text not in self._writes:
            try:
                return await self.native.read(fn)
            except DatabaseReadOnly:
                if len(self._writes) < MAX_NOTED:
                    self._writes.add(statement.text)
        return await self.native.write(fn)

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        if self._address.is_memory or not statement.reads:
            # One connection: what others do between two batches would change the answer.
            columns, rows = await self.fetch(statement, values)
            for begin in range(0, len(rows) or 1, batch):
                yield Rows(columns, rows[begin : begin + batch])
            return
        snapshot = self.native.snapshot()
        try:
            columns, cursor = await snapshot.run(opening(statement, encoded(values)))
            first = True
            while (rows := await snapshot.run(lambda _: list(islice(cursor, batch)))) or first:
                first = False
                yield Rows(columns, rows)
        finally:
            await snapshot.close()

    async def begin(self, how: Begin) -> OpenTransaction:
        return await begin(self.native, how)

    async def execute_script(self, sql: str) -> None:
        def run(db: apsw.Connection) -> None:
            for _ in db.execute(sql):
                pass

        await self.native.write(run)

    def pinned(self) -> MemorySession | PinnedSQLite:
        native = self.native
        return MemorySession(self, native) if self._address.is_memory else PinnedSQLite(native._connector)

    def freshness(self) -> SQLiteFreshness:
        return SQLiteFreshness(self.native)

    async def explain(self, statement: Statement, values: Sequence[Any], *, analyze: bool) -> str:
        if analyze:
            raise ConfigurationError(
                "SQLite does not measure the steps of a run.", hint="Leave out analyze=; the plan is what it will do."
            )
        rows = await self.native.read(explaining(statement, encoded(values)))
        return "\n".join(rows)

    async def ping(self) -> None:
        await self.native.read(lambda db: db.execute("SELECT 1"))

    def stats(self) -> dict[str, Any]:
        return self.native.stats()
