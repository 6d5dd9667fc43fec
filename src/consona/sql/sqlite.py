"""SQLite, on the engine of `storage`: one writer with group commit, readers beside it.

How values are stored, since SQLite knows text, numbers and bytes only: Decimal, date, time and UUID as
their text; a datetime as text in UTC with six digits of a second (`2026-01-02 03:04:05.000000+00:00`),
so that it sorts by time and SQLite's date functions read it; bool as 0 and 1; JSON as text. Read with
`into=`, they come back as they were; without, as what is stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

import apsw

from consona.address import Address
from consona.errors import DatabaseReadOnly, FieldProblem, ValidationError
from consona.sql.dialect import SQLITE
from consona.sql.engine import Begin, Done, Rows
from consona.sql.placeholders import WRITING, Statement
from consona.sql.values import Array, JsonText
from consona.storage.sqlite_engine import SQLiteEngine, open_sqlite
from consona.storage.transaction import Transaction

__all__ = ["SQLite", "SQLiteTransaction"]

_AS_IT_IS: Final = frozenset({int, str, float, bytes, bool, type(None)})
INSERTING: Final = frozenset({"INSERT", "REPLACE"})


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

    async def close(self) -> None:
        engine, self._engine = self.native, None
        await engine.close()

    @property
    def native(self) -> SQLiteEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        return await self.native.write(_executing(statement, encoded(values)))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        return await self.native.write(_executing_many(statement, [encoded(row) for row in rows]))

    async def fetch(self, statement: Statement, values: Sequence[Any]) -> Rows:
        fetching = _fetching(statement, encoded(values))
        if statement.reads and statement.text not in self._writes:
            try:
                return await self.native.read(fetching)
            except DatabaseReadOnly:
                if len(self._writes) < 1000:
                    self._writes.add(statement.text)
        return await self.native.write(fetching)

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        if self._address.is_memory or not statement.reads:
            # One connection: what others do between two batches would change the answer.
            columns, rows = await self.fetch(statement, values)
            for begin in range(0, len(rows) or 1, batch):
                yield Rows(columns, rows[begin : begin + batch])
            return
        snapshot = self.native.snapshot()
        try:
            columns, cursor = await snapshot.run(_opening(statement, encoded(values)))
            first = True
            while (rows := await snapshot.run(lambda _: list(islice(cursor, batch)))) or first:
                first = False
                yield Rows(columns, rows)
        finally:
            await snapshot.close()

    async def begin(self, how: Begin) -> SQLiteTransaction:
        transaction = self.native.transaction(name=how.name, deadline=how.deadline_s, where=how.where)
        await transaction.begin()
        return SQLiteTransaction(transaction, how)

    async def execute_script(self, sql: str) -> None:
        def run(db: apsw.Connection) -> None:
            for _ in db.execute(sql):
                pass

        await self.native.write(run)

    async def ping(self) -> None:
        await self.native.read(lambda db: db.execute("SELECT 1"))

    def stats(self) -> dict[str, Any]:
        return self.native.stats()


class SQLiteTransaction:
    """An open transaction; it has the writer to itself."""

    def __init__(self, transaction: Transaction, how: Begin) -> None:
        self.native = transaction
        self._how = how

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        return await self.native.run(_executing(statement, encoded(values)))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        return await self.native.run(_executing_many(statement, [encoded(row) for row in rows]))

    async def fetch(self, statement: Statement, values: Sequence[Any]) -> Rows:
        return await self.native.run(_fetching(statement, encoded(values)))

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        columns, cursor = await self.native.run(_opening(statement, encoded(values)))
        try:
            first = True
            while (rows := await self.native.run(lambda _: list(islice(cursor, batch)))) or first:
                first = False
                yield Rows(columns, rows)
        finally:
            with contextlib.suppress(apsw.Error):
                cursor.close()

    async def begin(self, how: Begin) -> SQLiteTransaction:
        nested = self.native.transaction(name=how.name, where=how.where)
        await nested.begin()
        return SQLiteTransaction(nested, how)

    async def commit(self) -> None:
        await self.native.commit()

    async def rollback(self) -> None:
        await self.native.rollback()


def encoded(values: Sequence[Any]) -> Sequence[Any]:
    """The values as SQLite stores them."""
    for value in values:
        if type(value) not in _AS_IT_IS:
            return [_stored(value) for value in values]
    return values


def _stored(value: Any) -> Any:
    if isinstance(value, JsonText):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(" ", "microseconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, Array):
        raise ValidationError(
            "SQLite has no arrays.",
            fields=[FieldProblem("values", "an Array, which SQLite has not")],
            hint="Store the list as JSON: Json(value).",
        )
    return value


def _executing(statement: Statement, values: Sequence[Any]) -> Callable[[apsw.Connection], Done]:
    text, verb = statement.text, statement.verb

    def execute(db: apsw.Connection) -> Done:
        if verb in INSERTING:
            db.set_last_insert_rowid(0)  # so that a row that was not inserted gives no key, and not another's
            db.execute(text, values).fetchall()
            return Done(db.changes(), db.last_insert_rowid() or None)
        db.execute(text, values).fetchall()  # to the end, also where it gives rows that nobody asked for
        return Done(db.changes() if verb in WRITING else 0)

    return execute


def _executing_many(statement: Statement, rows: Sequence[Sequence[Any]]) -> Callable[[apsw.Connection], Done]:
    def execute(db: apsw.Connection) -> Done:
        before = db.total_changes()
        db.set_last_insert_rowid(0)
        for _ in db.executemany(statement.text, rows):
            pass
        key = db.last_insert_rowid() if statement.verb in INSERTING else 0
        return Done(db.total_changes() - before, key or None)

    return execute


def _fetching(statement: Statement, values: Sequence[Any]) -> Callable[[apsw.Connection], Rows]:
    def fetch(db: apsw.Connection) -> Rows:
        columns, cursor = _opened(db, statement.text, values)
        return Rows(columns, cursor.fetchall())

    return fetch


def _opening(
    statement: Statement, values: Sequence[Any]
) -> Callable[[apsw.Connection], tuple[tuple[str, ...], apsw.Cursor]]:
    return lambda db: _opened(db, statement.text, values)


def _opened(db: apsw.Connection, text: str, values: Sequence[Any]) -> tuple[tuple[str, ...], apsw.Cursor]:
    cursor = db.execute(text, values)
    try:
        return tuple(name for name, *_ in cursor.get_description()), cursor
    except apsw.ExecutionCompleteError:
        return _columns(db, text, values), cursor


def _columns(db: apsw.Connection, text: str, values: Sequence[Any]) -> tuple[str, ...]:
    """What a statement's columns are called that gave no rows: it is prepared once more, and not run."""
    found: list[str] = []

    def look(cursor: apsw.Cursor, _sql: str, _bindings: Any) -> bool:
        found.extend(name for name, *_ in cursor.get_description())
        return False

    cursor = db.cursor()
    cursor.exec_trace = look
    with contextlib.suppress(apsw.ExecTraceAbort):
        cursor.execute(text, values)
    return tuple(found)
