"""A table of a SQL database."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec

from consona.errors import ConfigurationError, ConstraintFailed, LockTimeout, ValidationError
from consona.part import Part
from consona.pipelines.batch import Batch
from consona.pipelines.errors import PipelineBusy, PlaceLost, SchemaChanged
from consona.pipelines.sql_schema import add_columns, columns_of, columns_of_rows, columns_of_type, create_table
from consona.pipelines.state import State
from consona.pipelines.target import RowsRefused
from consona.sql import own_tables
from consona.sql.database import SQLDatabase
from consona.sql.values import Json

if TYPE_CHECKING:
    from consona.sql.queries import Queries
    from consona.sql.transaction import Transaction

__all__ = ["SQLTarget"]

Mode = Literal["append", "replace", "upsert", "delete_insert"]
Evolution = Literal["freeze", "evolve", "discard_columns", "discard_rows"]

STEPS: Final = (
    (
        """CREATE TABLE IF NOT EXISTS consona_pipelines
            (pipeline VARCHAR(200) PRIMARY KEY, generation BIGINT NOT NULL, state {text} NOT NULL)""",
    ),
)
MOST_COLUMNS: Final = 2000


class SQLTarget:
    """Rows into a table, each exactly once in effect: the pipeline's state is committed with them.

    Args:
        db: The database, or its address.
        table: Its name, or schema and name with a point. It is made where there is none.
        mode: `append`; `upsert` (rows with the same `key` are changed); `replace` (the table has exactly the rows of
            the last run, and those before it until that ends); `delete_insert` (each value of `partition` that comes
            has exactly the rows of the last run).
        key: The column, or columns, that tell rows apart; needed for `upsert`.
        partition: The column of `delete_insert`.
        schema: What happens to fields that the table has no column for: `freeze` (the run stops), `evolve` (a column is
            added), `discard_columns` (they are left out), `discard_rows` (the rows are refused).

    Raises:
        ConfigurationError: The arguments do not go together.

    Example:
        >>> SQLTarget("sqlite://warehouse", "orders", mode="upsert", key="id").guarantee
        'exactly once'
    """

    guarantee = "exactly once"

    def __init__(
        self,
        db: SQLDatabase | str,
        table: str,
        *,
        mode: Mode = "append",
        key: str | Sequence[str] = (),
        partition: str = "",
        schema: Evolution = "freeze",
    ) -> None:
        self.db = SQLDatabase(db) if isinstance(db, str) else db
        self.table = table
        self.mode = mode
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self._partition = partition
        self._schema = schema
        _check(mode, self.key, partition, schema)
        self.name = table
        self.changes: list[str] = []
        """How the table was changed by this run: columns that were added."""
        self._into = table
        self._columns: list[str] = []
        self._pipeline = ""
        self._stack = AsyncExitStack()
        self._by_batch = True
        self._staged = False
        self._declared: Any = None

    @property
    def parts(self) -> Sequence[Part]:
        return (self.db,)

    def commits_batches(self, *, resumable: bool) -> bool:
        return self.mode == "upsert" or (self.mode == "append" and resumable)

    async def open(self, pipeline: str) -> State:
        self._pipeline = pipeline
        await own_tables.prepare(self.db, "pipelines", STEPS)
        try:
            await self._stack.enter_async_context(self.db.lock(f"pipeline {pipeline}", wait=0))
        except LockTimeout as error:
            raise PipelineBusy(f"The pipeline {pipeline!r} is running already.") from error
        row = await self.db.fetch_one("SELECT generation, state FROM consona_pipelines WHERE pipeline = ?", pipeline)
        state = State() if row is None else State.decode(row["state"])
        state.generation += 1
        if row is None:
            await self.db.execute("INSERT INTO consona_pipelines VALUES (?, ?, ?)", pipeline, 1, state.encode())
        else:
            await self.db.execute(
                "UPDATE consona_pipelines SET generation = ? WHERE pipeline = ?", state.generation, pipeline
            )
        return state

    async def close(self) -> None:
        await self._stack.aclose()

    async def begin(self, state: State, *, by_batch: bool, declared: Any) -> None:  # noqa: ARG002  the port's shape
        self._by_batch = by_batch
        self._declared = declared
        self.changes = []
        self._into = self.table if by_batch else self._beside()
        self._columns = await columns_of(self.db, self.table)
        self._staged = False
        if not by_batch:
            await self.db.execute(f"DROP TABLE IF EXISTS {self._quoted(self._into)}")

    async def save(self, state: State) -> None:
        async with self.db.transaction(name=f"pipeline {self._pipeline}") as tx:
            await self._save(tx, state)

    async def write(self, batch: Batch, state: State) -> None:
        rows = await self._fitted(batch)
        if not self._by_batch:
            if rows:
                await self._guarded(rows)
            return
        async with self.db.transaction(name=f"pipeline {self._pipeline}", deadline=3600) as tx:
            if rows:
                await self._guarded(rows, tx)
            await self._save(tx, state)

    async def finish(self, state: State) -> None:
        async with self.db.transaction(name=f"pipeline {self._pipeline}", deadline=3600) as tx:
            if not self._by_batch:
                await self._move(tx)
            await self._save(tx, state)
        if self._staged:
            await self.db.execute(f"DROP TABLE IF EXISTS {self._quoted(self._into)}")

    # Rows.

    async def _fitted(self, batch: Batch) -> list[Any]:
        """The rows with the columns that the table has, after it was made or changed for them."""
        rows = batch.rows
        if not rows:
            return rows
        declared = columns_of_type(self._declared) if self._declared is not None else {}
        columns = declared if declared and not isinstance(rows[0], dict) else columns_of_rows(rows)
        if len(columns) > MOST_COLUMNS:
            raise SchemaChanged(f"The rows have {len(columns)} fields: is a value used as a name?")
        if not self._columns:
            await create_table(self.db, self.table, columns, self.key if self.mode == "upsert" else ())
            self._columns = await columns_of(self.db, self.table)
        await self._staging()
        unknown = [name for name in columns if name not in self._columns]
        if unknown:
            rows = await self._drifted(batch, columns, unknown)
        if rows and isinstance(rows[0], dict):
            wanted = [name for name in columns if name in self._columns]
            return [{name: _storable(row.get(name)) for name in wanted} for row in rows]
        return rows

    async def _staging(self) -> None:
        """The table beside the target, of the same columns and rules, so far as the engine can copy those."""
        if self._by_batch or self._staged:
            return
        self._staged = True
        staging, table = self._quoted(self._into), self._quoted(self.table)
        if self.db.dialect.name == "postgresql":
            await self.db.execute(f"CREATE UNLOGGED TABLE {staging} (LIKE {table} INCLUDING ALL)")
        elif self.db.dialect.name == "mysql":
            await self.db.execute(f"CREATE TABLE {staging} LIKE {table}")
        else:
            declared = str(await self.db.fetch_value("SELECT sql FROM sqlite_schema WHERE name = ?", self.table))
            await self.db.execute(f"CREATE TABLE {staging} {declared[declared.index('(') :]}")

    async def _drifted(self, batch: Batch, columns: Mapping[str, type], unknown: list[str]) -> list[Any]:
        if self._schema == "evolve":
            added = {name: columns[name] for name in unknown}
            await add_columns(self.db, self.table, added)
            if not self._by_batch:
                await add_columns(self.db, self._into, added)
            self._columns += unknown
            self.changes += [f"added the column {name!r}" for name in unknown]
            return batch.rows
        if self._schema == "discard_columns":
            self.changes += [each for name in unknown if (each := f"left out the field {name!r}") not in self.changes]
            return [msgspec.to_builtins(row) if not isinstance(row, dict) else row for row in batch.rows]
        if self._schema == "discard_rows":
            known = set(self._columns)
            problems = [
                (place, f"has fields that {self.table} has no column for", tuple(sorted(set(row) - known)))
                for place, row in enumerate(batch.rows)
                if not known.issuperset(row)
            ]
            raise RowsRefused(problems)
        raise SchemaChanged(
            f"The rows have {', '.join(map(repr, unknown[:5]))}, and the table {self.table} has no such column.",
            context={"columns": unknown[:20]},
        )

    async def _guarded(self, rows: list[Any], tx: Transaction | None = None) -> None:
        try:
            await self._put(tx or self.db, rows)
        except (ConstraintFailed, ValidationError) as error:
            if tx is not None:
                await tx.rollback()
            problems = await self._refused(rows)
            if not problems:
                raise
            raise RowsRefused(problems) from error

    async def _put(self, into: Queries, rows: list[Any]) -> None:
        table = tuple(self._into.split("."))
        if self.mode != "upsert":
            await into.insert_many(table, rows)
            return
        if self.db.dialect.name == "postgresql" and len(rows) > 100:
            await self._upsert_by_copy(cast("Transaction", into), rows)
            return
        await into.upsert_many(table, rows, key=self.key)

    async def _upsert_by_copy(self, tx: Transaction, rows: list[Any]) -> None:
        """COPY into a table of this transaction, and from there in one statement.

        A row whose key comes twice in a batch counts as it came last, as it would row by row.
        """
        staged = tx.identifier("consona_batch")
        names = list(rows[0]) if isinstance(rows[0], dict) else list(columns_of_type(type(rows[0])))
        quoted = ", ".join(map(tx.identifier, names))
        await tx.execute(
            f"CREATE TEMP TABLE {staged} ON COMMIT DROP AS SELECT {quoted} FROM {self._quoted(self.table)} WHERE false"  # noqa: S608
        )
        await tx.insert_many("consona_batch", _last_of_each(rows, self.key))
        keys = ", ".join(map(tx.identifier, self.key))
        changes = [
            f"{each} = excluded.{each}" for name in names if name not in self.key for each in [tx.identifier(name)]
        ]
        action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        await tx.execute(
            f"INSERT INTO {self._quoted(self.table)} ({quoted}) SELECT {quoted} FROM {staged}"  # noqa: S608  names are quoted
            f" ON CONFLICT ({keys}) DO {action}"
        )

    async def _refused(self, rows: list[Any]) -> list[tuple[int, str, tuple[str, ...]]]:
        """Which rows the table refuses, found out one by one, and undone."""
        problems: list[tuple[int, str, tuple[str, ...]]] = []
        tx = self.db.transaction(name=f"pipeline {self._pipeline}", deadline=3600)
        await tx.begin()
        try:
            for place, row in enumerate(rows):
                try:
                    async with tx.transaction() as one:
                        await self._put(one, [row])
                except (ConstraintFailed, ValidationError) as error:
                    fields = [each.path.rpartition(".")[2] for each in getattr(error, "fields", ())]
                    columns = error.context.get("columns") or fields
                    problems.append((place, f"the target refused it: {error.message}", tuple(columns)))
        finally:
            await tx.rollback()
        return problems

    async def _move(self, tx: Transaction) -> None:
        table, staging = self._quoted(self.table), self._quoted(self._into)
        if self.mode == "replace" and self._columns:
            await tx.execute(f"DELETE FROM {table}")  # noqa: S608  names are quoted
        if not self._staged:
            return
        if self.mode == "delete_insert":
            column = self.db.identifier(self._partition)
            await tx.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT {column} FROM {staging})")  # noqa: S608
        names = ", ".join(map(self.db.identifier, self._columns))
        await tx.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {staging}")  # noqa: S608

    async def _save(self, tx: Transaction, state: State) -> None:
        done = await tx.execute(
            "UPDATE consona_pipelines SET state = ? WHERE pipeline = ? AND generation = ?",
            state.encode(),
            self._pipeline,
            state.generation,
        )
        if done.rows != 1:
            raise PlaceLost(f"The pipeline {self._pipeline!r} was taken over by another runner.")

    def _beside(self) -> str:
        """The name of a table beside the target, for this pipeline alone."""
        schema, point, _ = self.table.rpartition(".")
        mark = hashlib.blake2b(f"{self._pipeline}\n{self.table}".encode(), digest_size=6).hexdigest()
        return f"{schema}{point}consona_staging_{mark}"

    def _quoted(self, table: str) -> str:
        return self.db.identifier(*table.split("."))


def _check(mode: str, key: tuple[str, ...], partition: str, schema: str) -> None:
    if mode not in {"append", "replace", "upsert", "delete_insert"}:
        raise ConfigurationError(
            f"SQLTarget has no mode {mode!r}.", hint="Known: append, replace, upsert, delete_insert."
        )
    if schema not in {"freeze", "evolve", "discard_columns", "discard_rows"}:
        raise ConfigurationError(
            f"SQLTarget(schema={schema!r}): known are freeze, evolve, discard_columns, discard_rows."
        )
    if mode == "upsert" and not key:
        raise ConfigurationError('SQLTarget(mode="upsert") needs key=, the column that tells rows apart.')
    if (mode == "delete_insert") is not bool(partition):
        raise ConfigurationError('SQLTarget(mode="delete_insert") and partition= go together.')


def _storable(value: Any) -> Any:
    return Json(value) if isinstance(value, dict | list) else value


def _last_of_each(rows: list[Any], key: tuple[str, ...]) -> list[Any]:
    if isinstance(rows[0], dict):
        found = {tuple(row[name] for name in key): row for row in rows}
    else:
        found = {tuple(getattr(row, name) for name in key): row for row in rows}
    return list(found.values()) if len(found) < len(rows) else rows
