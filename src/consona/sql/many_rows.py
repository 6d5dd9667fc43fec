"""Many rows into a table: `insert_many` and `upsert_many`, in batches, all or nothing.

Rows are mappings, Structs, dataclasses, or sequences with `columns=`. They may come from an endless-looking
source (a generator, an async one): memory holds one batch. An engine with a faster way in (COPY on
PostgreSQL) is given it; the others run one prepared statement.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from consona.errors import ConfigurationError, FieldProblem, ValidationError
from consona.sql.dialect import Dialect
from consona.sql.rows import PIECE_S, in_pieces

if TYPE_CHECKING:  # the queries write many rows with this, so the import can only go one way
    from consona.sql.queries import Queries

__all__ = ["ManyRows", "Source", "Table"]

Source = Iterable[Any] | AsyncIterable[Any]
Table = str | tuple[str, ...]

BATCH_ROWS: Final = 2000
DEADLINE_S: Final = 3600.0
"""How long a load of several batches may take. It has the writer of a SQLite file to itself meanwhile."""


class ManyRows:
    """One call of `insert_many` (no `key`) or `upsert_many`.

    Args:
        table: Its name, or schema and name.
        rows: Where the rows come from.
        columns: Which columns; by default those of the first row.
        key: The columns that say which row is meant; empty for plain inserts.
        update: Which columns of a row that is there already are changed; None for all but the key.
    """

    def __init__(
        self,
        table: Table,
        rows: Source,
        *,
        columns: Sequence[str] | None = None,
        key: Sequence[str] = (),
        update: Sequence[str] | None = None,
    ) -> None:
        self.table = (table,) if isinstance(table, str) else tuple(table)
        self.key = tuple(key)
        self._rows = rows
        self._columns = tuple(columns) if columns is not None else None
        self._update = update
        self._seen = 0

    async def write(self, queries: Queries) -> int:
        """Write them all. Returns how many rows there were."""
        batches = self._batches()
        first = await anext(batches, None)
        if first is None:
            return 0
        second = await anext(batches, None)
        if second is None:
            await self._write_batch(queries, first)
            return self._seen
        queries._session(writes=True)  # refused here where it is beside the task's own transaction
        async with queries._bulk_transaction() as tx:
            await self._write_batch(tx, first)
            await self._write_batch(tx, second)
            async for batch in batches:
                await self._write_batch(tx, batch)
        return self._seen

    async def _write_batch(self, queries: Queries, batch: list[Any]) -> None:
        first = self._seen + 1
        if self._columns is None:
            self._columns = _columns_of(batch[0])
        taken = await in_pieces(self._all_values, batch, first=first)
        await queries._write_rows(
            self.sql(queries.dialect), self.table, self._columns, taken, first, plain=not self.key
        )
        self._seen += len(batch)

    async def _batches(self) -> AsyncIterator[list[Any]]:
        batch: list[Any] = []
        async for row in _each(self._rows):
            batch.append(row)
            if len(batch) >= BATCH_ROWS:
                yield batch
                batch = []
        if batch:
            yield batch

    # One row.

    def _all_values(self, rows: Sequence[Any], first: int = 1) -> list[Sequence[Any]]:
        return [self._values(row, number) for number, row in enumerate(rows, first)]

    def _values(self, row: Any, number: int) -> Sequence[Any]:
        columns = self._columns
        assert columns is not None
        if isinstance(row, Mapping):
            if len(row) != len(columns) or not all(column in row for column in columns):
                raise _misfit(number, [c for c in columns if c not in row], [c for c in row if c not in columns])
            return [row[column] for column in columns]
        if isinstance(row, Sequence) and not isinstance(row, str | bytes) and not hasattr(row, "_fields"):
            if len(row) != len(columns):
                raise _refused(number, f"has {len(row)} values for {len(columns)} columns")
            return row
        take = _taker(type(row), columns)
        if take is None:
            raise _refused(number, f"is of the type {type(row).__name__}, which is no row of {len(columns)} columns")
        return take(row)

    # The statement.

    def sql(self, dialect: Dialect) -> str:
        """The statement for one row.

        Raises:
            ConfigurationError: The key or what is to be updated is not among the columns.
        """
        assert self._columns is not None
        names = {column: dialect.identifier(column) for column in self._columns}
        into = f"INSERT INTO {dialect.identifier(*self.table)} ({', '.join(names.values())})"
        insert = f"{into} VALUES ({', '.join('?' * len(names))})"
        if not self.key:
            return insert
        update = [column for column in names if column not in self.key] if self._update is None else list(self._update)
        if unknown := [column for column in (*self.key, *update) if column not in names]:
            raise ConfigurationError(
                f"The rows for {'.'.join(self.table)} have no column {', '.join(map(repr, unknown))}.",
                hint=f"Their columns: {', '.join(names)}.",
            )
        if dialect.name == "mysql":  # it knows no target: any unique key of the table counts
            changes = [f"{names[column]} = VALUES({names[column]})" for column in update]
            return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(changes) or f'{names[self.key[0]]} = {names[self.key[0]]}'}"
        changes = [f"{names[column]} = excluded.{names[column]}" for column in update]
        target = ", ".join(names[column] for column in self.key)
        action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        return f"{insert} ON CONFLICT ({target}) DO {action}"


async def _each(rows: Source) -> AsyncIterator[Any]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
        return
    if isinstance(rows, str | bytes | Mapping) or not hasattr(rows, "__iter__"):
        raise ConfigurationError(f"Rows are something to iterate over; got {type(rows).__name__}.")
    until = time.perf_counter() + PIECE_S
    for number, row in enumerate(rows):
        yield row
        if number % 32 == 0 and time.perf_counter() > until:
            await asyncio.sleep(0)  # others run too, however many rows there are
            until = time.perf_counter() + PIECE_S


def _columns_of(row: Any) -> tuple[str, ...]:
    if isinstance(row, Mapping):
        return tuple(map(str, row))
    if isinstance(row, msgspec.Struct):
        return tuple(field.encode_name for field in msgspec.structs.fields(row))
    if dataclasses.is_dataclass(row):
        return tuple(field.name for field in dataclasses.fields(row))
    if isinstance(row, tuple) and hasattr(row, "_fields"):
        return tuple(row._fields)
    raise ConfigurationError(
        f"A row of the type {type(row).__name__} does not say which columns its values are for.",
        hint='Give columns=["name", "age"], or rows that are mappings, Structs or dataclasses.',
    )


def _taker(kind: type, columns: tuple[str, ...]) -> Callable[[Any], Sequence[Any]] | None:
    """What takes the values of these columns from a Struct, a dataclass or a NamedTuple."""
    if issubclass(kind, msgspec.Struct):
        attributes = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    elif dataclasses.is_dataclass(kind):
        attributes = {field.name: field.name for field in dataclasses.fields(kind)}
    elif issubclass(kind, tuple):
        attributes = {name: name for name in getattr(kind, "_fields", ())}
    else:
        return None
    if not all(column in attributes for column in columns):
        return None
    get = attrgetter(*itemgetter(*columns)(attributes)) if len(columns) > 1 else attrgetter(attributes[columns[0]])
    return get if len(columns) > 1 else lambda row: (get(row),)


def _misfit(number: int, missing: Sequence[Any], unknown: Sequence[Any]) -> ValidationError:
    problems = [FieldProblem(f"rows[{number}].{name}", "is missing") for name in missing]
    problems += [FieldProblem(f"rows[{number}].{name}", "is no column of the first row") for name in unknown]
    told = "; ".join(f"{problem.path.partition('.')[2]!r} {problem.message}" for problem in problems[:5])
    return ValidationError(
        f"Row {number} has other columns than the first one: {told}.",
        fields=problems,
        hint="Give None for what is not known, or name the columns: columns=[…].",
    )


def _refused(number: int, problem: str) -> ValidationError:
    return ValidationError(f"Row {number} {problem}.", fields=[FieldProblem(f"rows[{number}]", problem)])
