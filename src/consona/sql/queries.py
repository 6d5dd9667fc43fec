"""The ways to ask: the same on a database, where each statement stands alone, and in a transaction."""

from __future__ import annotations

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast, overload

from consona.errors import (
    CommitUnknown,
    ConfigurationError,
    DeadlineExceeded,
    FieldProblem,
    MissingExtra,
    StatementError,
    ValidationError,
)
from consona.sql.cache.strict import Cache, lifetime
from consona.sql.dialect import Dialect
from consona.sql.engine import Done, ReadRows, Rows, Session, SupportsLoading, SupportsReading
from consona.sql.many_rows import ManyRows, Source, Table
from consona.sql.placeholders import Statement, compile_statement
from consona.sql.rows import column_reader, in_pieces, row_reader
from consona.sql.slow_queries import Call
from consona.sql.statement_figures import StatementFigures
from consona.sql.values import checked
from consona.telemetry.observer import Observer, Operation, Series

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Known", "Queries", "StatementOperation", "Statements"]

T = TypeVar("T")

BATCH_ROWS: Final = 500
MIN_LOAD: Final = 50
"""From how many rows on the engine's own way to load them is worth its beginning."""
UNSETTLED: Final = (asyncio.CancelledError, CommitUnknown, DeadlineExceeded)
"""Errors after which a statement may yet happen."""
MAX_KEPT: Final = 1000
MAX_KEPT_CHARS: Final = 20_000
"""Longer statements are compiled each time, so that what is kept stays small."""


class Known(NamedTuple):
    """A statement that was used, the figures of its kind, and its own."""

    statement: Statement
    series: Series
    finer: Series


class StatementOperation(Operation):
    """One run of a statement. An error that has an offset in the driver's text gets the place in the user's."""

    def _note(self, error: BaseException) -> None:
        if isinstance(error, StatementError) and isinstance(self.subject, Call):
            offset = error.context.pop("offset", None)
            if offset is not None:
                place = error.context["place"] = self.subject.statement.place(offset)
                error.args = (f"{error.message.removesuffix('.')} (at {place}).",)
        super()._note(error)


class Statements:
    """The statements of one database that were used lately, each compiled once.

    Args:
        dialect: What they are compiled for.
        observer: Where their figures are kept, by verb and table.
    """

    def __init__(self, dialect: Dialect, observer: Observer) -> None:
        self.dialect = dialect
        self.observer = observer
        self.figures = StatementFigures(dialect)
        self._known: dict[str, Known] = {}

    def __call__(self, sql: str) -> Known:
        try:
            return self._known[sql]
        except (KeyError, TypeError):
            return self._learn(sql)

    def _learn(self, sql: str) -> Known:
        try:
            statement = compile_statement(sql, self.dialect)
            if statement.verb in _CONTROL:
                raise ValidationError(
                    f"{statement.verb} is not executed as a statement.",
                    fields=[FieldProblem("sql", f"begins with {statement.verb}")],
                    hint="Write `async with db.transaction() as tx:`; it begins, commits and rolls back.",
                )
        except ValidationError:
            with self.observer.operation("REFUSED"):
                raise
        series = self.observer.series(statement.verb, statement.target)
        known = Known(statement, series, self.figures.of(statement))
        if len(sql) <= MAX_KEPT_CHARS:
            if len(self._known) >= MAX_KEPT:
                self._known.clear()
            self._known[sql] = known
        return known


class Queries(ABC):
    """What a database and a transaction have in common.

    Statements are text with `?` or `:name` for values, on every engine. Values for `?` are given one by
    one, those for `:name` as one mapping:

        await db.execute("INSERT INTO users (name, age) VALUES (?, ?)", "Ada", 36)
        await db.execute("INSERT INTO users (name, age) VALUES (:name, :age)", {"name": "Ada", "age": 36})

    `into` says what a row becomes: nothing for a dict, a Struct, a dataclass, a TypedDict, a NamedTuple,
    `tuple`, `tuple[int, str]`, or the type of a single value (`int`, `datetime`, `Decimal | None`).
    """

    name: str
    observer: Observer
    dialect: Dialect
    _statements: Statements
    _reads_in_thread: bool

    @abstractmethod
    def _session(self, *, writes: bool) -> Session:
        """Where statements run now."""

    @abstractmethod
    def _ran(self, statement: Statement, began_ns: int, *, settled: bool = True) -> None:
        """A statement has run, or (not `settled`) may yet; for those who keep answers. Must not wait."""

    async def execute(self, sql: str, *values: Any) -> Done:
        """Run a statement that changes something. It has happened when this returns.

        Args:
            sql: One statement.
            values: One for each `?`, or one mapping for `:names`.

        Returns:
            `Done(rows, key)`: how many rows it changed, and the key that was generated for the last inserted one.

        Raises:
            ValidationError: The values do not fit the statement, or would not come back unharmed.
            ConstraintFailed: The change breaks a rule of the schema.
            QueryError: The database refused it, or lost it; nothing was written.
            CommitUnknown: The connection or the disk failed during the commit.
            TransactionOpen: This task has a transaction open, and did not ask that.
        """
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, values)) as op:
            plain, session = checked(statement.values(values)), self._session(writes=True)
            try:
                done = await session.execute(statement, plain)
            except UNSETTLED:
                self._ran(statement, op._start, settled=False)
                raise
            self._ran(statement, op._start)
            op.attributes = {"rows": done.rows}
        return done

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> Done:
        """Run a statement once for each row of values, all or nothing.

        Args:
            sql: One statement.
            rows: Sequences for `?`, mappings for `:names`.

        Returns:
            How many rows were changed altogether, and the key of the last one where the engine tells it.
        """
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, None)) as op:
            plain = await in_pieces(partial(_rows_values, statement), rows)
            session = self._session(writes=True)
            try:
                done = await session.execute_many(statement, plain) if plain else Done(0)
            except UNSETTLED:
                self._ran(statement, op._start, settled=False)
                raise
            self._ran(statement, op._start)
            op.set(rows=done.rows, times=len(plain))
        return done

    async def insert_many(self, table: Table, rows: Source, *, columns: Sequence[str] | None = None) -> int:
        """Insert many rows, all or nothing, the fastest way that the engine has.

        Args:
            table: Its name as the database has it, or schema and name as a tuple.
            rows: Mappings, Structs, dataclasses or NamedTuples that all have the same columns, or sequences. From a
                list, a generator or an async one; memory holds one batch.
            columns: Which columns; by default those of the first row. Sequences need them.

        Returns:
            How many rows there were.

        Raises:
            ValidationError: A row does not fit; the message has its number.
            ConstraintFailed: A row breaks a rule of the schema. Nothing was inserted.
        """
        return await ManyRows(table, rows, columns=columns).write(self)

    async def upsert_many(
        self,
        table: Table,
        rows: Source,
        *,
        key: str | Sequence[str],
        update: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> int:
        """Insert many rows, and change those that are there already; all or nothing.

        Args:
            table: See `insert_many`.
            rows: See `insert_many`.
            key: The column or columns by which a row is recognised; the table has a UNIQUE rule over them. (MariaDB
                and MySQL recognise a row by any of its unique keys.)
            update: Which columns of a row that is there are changed; by default all but the key. Empty: none.
            columns: See `insert_many`.

        Returns:
            How many rows there were, inserted and changed together.
        """
        keys = (key,) if isinstance(key, str) else tuple(key)
        if not keys:
            raise ConfigurationError("upsert_many() needs a key.", hint='Give key="id".')
        return await ManyRows(table, rows, columns=columns, key=keys, update=update).write(self)

    @overload
    async def fetch_all(self, sql: str, *values: Any, cache: Cache = None) -> list[dict[str, Any]]: ...
    @overload
    async def fetch_all(self, sql: str, *values: Any, into: type[T], cache: Cache = None) -> list[T]: ...
    @overload
    async def fetch_all(self, sql: str, *values: Any, into: Any, cache: Cache = None) -> list[Any]: ...
    async def fetch_all(self, sql: str, *values: Any, into: Any = None, cache: Cache = None) -> list[Any]:
        """All rows that a statement gives.

        Args:
            sql: One statement; one that changes rows and returns them (`RETURNING`) is committed first.
            values: One for each `?`, or one mapping for `:names`.
            into: What a row becomes; by default a dict.
            cache: How many seconds old the answer may be: it is kept, and given again while nothing changed.
                How well that is known depends on the engine. `Strict(60)` asks the database each time. What is
                given is the caller's own, to be changed.

        Raises:
            ValidationError: The values do not fit the statement, or the rows do not fit `into`.
            ConfigurationError: `cache` is no time, or the engine can keep answers with `Strict` only.
            QueryError: The database refused it.
        """
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, values)) as op:
            return await self._all(statement, values, cache, partial(row_reader, into, dialect=self.dialect), op)

    async def fetch_rows(self, sql: str, *values: Any, cache: Cache = None) -> Rows:
        """All rows as the engine stores them, with the names of the columns, also where there is no row.

        See `fetch_all`, which makes types of them.
        """
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, values)) as op:
            found = await self._found(statement, values, None, cache, op)
        return Rows(found.columns, list(map(tuple, found.rows)))

    async def fetch_arrow(self, sql: str, *values: Any, schema: pa.Schema | None = None) -> pa.Table:
        """All rows as a `pyarrow.Table`, for work with whole columns: Polars, pandas, DuckDB, Parquet.

        Args:
            sql: One statement that reads.
            values: One for each `?`, or one mapping for `:names`.
            schema: The columns' types, in the order in which they are selected; by default those of what the engine
                stores. An engine that stores dates as text (SQLite) gives text.

        Raises:
            MissingExtra: pyarrow is not installed.
            ValidationError: A column has values that do not go together, or not with its type.
            ConfigurationError: The schema has other columns than the answer.
        """
        try:
            arrow = await asyncio.to_thread(importlib.import_module, "consona.sql.arrow")  # which takes a while
        except ModuleNotFoundError as error:
            raise MissingExtra("fetch_arrow() needs pyarrow.", hint="Run: pip install 'consona[arrow]'") from error
        found = await self.fetch_rows(sql, *values)
        return await asyncio.to_thread(arrow.table_of, found, schema)

    @overload
    async def fetch_one(self, sql: str, *values: Any, cache: Cache = None) -> dict[str, Any] | None: ...
    @overload
    async def fetch_one(self, sql: str, *values: Any, into: type[T], cache: Cache = None) -> T | None: ...
    @overload
    async def fetch_one(self, sql: str, *values: Any, into: Any, cache: Cache = None) -> Any: ...
    async def fetch_one(self, sql: str, *values: Any, into: Any = None, cache: Cache = None) -> Any:
        """The first row, or None where there is none. See `fetch_all`."""
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, values)) as op:
            found = await self._found(statement, values, 1, cache, op)
            rows = row_reader(into, found.columns, self.dialect)(found.rows)
            return rows[0] if rows else None

    @overload
    async def fetch_value(self, sql: str, *values: Any, cache: Cache = None) -> Any: ...
    @overload
    async def fetch_value(self, sql: str, *values: Any, into: type[T], cache: Cache = None) -> T | None: ...
    @overload
    async def fetch_value(self, sql: str, *values: Any, into: Any, cache: Cache = None) -> Any: ...
    async def fetch_value(self, sql: str, *values: Any, into: Any = Any, cache: Cache = None) -> Any:
        """The first column of the first row, or None where there is no row. See `fetch_all`."""
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, values)) as op:
            found = await self._found(statement, values, 1, cache, op)
            column = column_reader(into, found.columns, self.dialect)(found.rows)
            return column[0] if column else None

    @overload
    async def fetch_column(self, sql: str, *values: Any, cache: Cache = None) -> list[Any]: ...
    @overload
    async def fetch_column(self, sql: str, *values: Any, into: type[T], cache: Cache = None) -> list[T]: ...
    @overload
    async def fetch_column(self, sql: str, *values: Any, into: Any, cache: Cache = None) -> list[Any]: ...
    async def fetch_column(self, sql: str, *values: Any, into: Any = Any, cache: Cache = None) -> list[Any]:
        """The first column of all rows. See `fetch_all`."""
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, values)) as op:
            return await self._all(statement, values, cache, partial(column_reader, into, dialect=self.dialect), op)

    async def stream(self, sql: str, *values: Any, into: Any = None, batch: int = BATCH_ROWS) -> AsyncGenerator[Any]:
        """The rows one by one, read in batches, so that memory holds one batch however many rows there are.

        All rows are those of one moment. A loop that is left early (`break`) lets the connection go once the
        generator is closed: write `async with aclosing(db.stream(…)) as rows:` where that must be at once.

        Args:
            sql: One statement that reads.
            values: One for each `?`, or one mapping for `:names`.
            into: What a row becomes; by default a dict.
            batch: How many rows are read at a time.
        """
        if batch < 1:
            raise ConfigurationError(f"stream(batch={batch}): at least 1 row.")
        statement, *_ = self._statements(sql)
        with self.observer.operation("STREAM", statement.target) as op:
            session = self._session(writes=not statement.reads)
            count = 0
            batches = session.stream(statement, checked(statement.values(values)), batch=batch)
            async with aclosing(batches):
                async for columns, raw in batches:
                    for row in await in_pieces(row_reader(into, columns, self.dialect), raw, first=count + 1):
                        yield row
                    count += len(raw)
                    op.set(rows=count)
            self._ran(statement, op._start)

    def identifier(self, *names: str) -> str:
        """Names of tables or columns, quoted for this engine; a point joins several: `identifier("shop", "orders")`.

        For names that are not known when the program is written. Values never go this way: they have placeholders.
        """
        return self.dialect.identifier(*names)

    @abstractmethod
    def _bulk_transaction(self) -> AbstractAsyncContextManager[Queries]:
        """What makes several batches all or nothing."""

    async def _write_rows(
        self, sql: str, table: Sequence[str], columns: Sequence[str], rows: Sequence[Any], first: int, *, plain: bool
    ) -> None:
        """One batch of rows by the statement `sql`, or, if it is a `plain` INSERT, as the engine does it best."""
        statement, series, finer = self._statements(sql)
        with StatementOperation(self.observer, series, finer=finer, subject=Call(statement, None)) as op:
            values = await in_pieces(partial(_rows_values, statement), rows, first=first)
            session = self._session(writes=True)
            loads = plain and len(values) >= MIN_LOAD and isinstance(session, SupportsLoading)
            try:
                if loads:
                    await cast("SupportsLoading", session).load(table, columns, values)
                else:
                    await session.execute_many(statement, values)
            except UNSETTLED:
                self._ran(statement, op._start, settled=False)
                raise
            self._ran(statement, op._start)
            op.set(rows=len(values))

    async def _all(
        self,
        statement: Statement,
        values: Sequence[Any],
        cache: Cache,
        reader: Callable[[tuple[str, ...]], ReadRows],
        op: Operation,
    ) -> list[Any]:
        """All rows, kept or asked for, as `reader` makes them."""
        if cache is None:
            rows = await self._read(statement, values, reader, op)
        else:
            found = await self._cached(statement, values, None, cache, op)
            rows = await in_pieces(reader(found.columns), found.rows)
        op.set(rows=len(rows))
        return rows

    async def _found(
        self, statement: Statement, values: Sequence[Any], limit: int | None, cache: Cache, op: Operation
    ) -> Rows:
        """The rows, kept or asked for, as the engine has them."""
        if cache is None:
            found = await self._fetch(statement, values, op, limit=limit)
        else:
            found = await self._cached(statement, values, limit, cache, op)
        op.set(rows=len(found.rows))
        return found

    async def _cached(
        self, statement: Statement, values: Sequence[Any], limit: int | None, cache: Cache, op: Operation
    ) -> Rows:
        """What is kept, or what the database says. In a transaction nothing is kept; a database does more."""
        lifetime(cache)
        op.set(cache="in a transaction")
        return await self._fetch(statement, values, op, limit=limit)

    async def _fetch(
        self, statement: Statement, values: Sequence[Any], op: Operation, *, limit: int | None = None
    ) -> Rows:
        plain, session = checked(statement.values(values)), self._session(writes=not statement.reads)
        try:
            found = await session.fetch(statement, plain, limit=limit)
        except UNSETTLED:
            self._ran(statement, op._start, settled=False)
            raise
        self._ran(statement, op._start)
        return found

    async def _read(
        self,
        statement: Statement,
        values: Sequence[Any],
        reader: Callable[[tuple[str, ...]], ReadRows],
        op: Operation,
    ) -> list[Any]:
        """Fetch all rows and read them: in the engine's thread where it has one, else in pieces on the loop."""
        if self._reads_in_thread:
            session = cast("SupportsReading", self._session(writes=not statement.reads))
            return await session.fetch_read(statement, checked(statement.values(values)), reader)
        columns, rows = await self._fetch(statement, values, op)
        return await in_pieces(reader(columns), rows)


_CONTROL = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "END", "START", "ABORT"})


def _rows_values(statement: Statement, rows: Sequence[Any], first: int = 1) -> list[Sequence[Any]]:
    return [_row_values(statement, row, number) for number, row in enumerate(rows, first)]


def _row_values(statement: Statement, row: Any, number: int) -> Sequence[Any]:
    try:
        return checked(statement.values([row] if isinstance(row, Mapping) else row))
    except ValidationError as error:
        fields = [FieldProblem(f"rows[{number}].{field.path}", field.message) for field in error.fields]
        raise ValidationError(f"Row {number}: {error.message}", fields=fields, hint=error.hint) from error
