"""Rows of a SQL database."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from consona.errors import ConfigurationError, PipelineError
from consona.part import Part
from consona.pipelines.batch import Position, Row
from consona.pipelines.source import Extracted, Room, batched
from consona.pipelines.state import pack_value, unpack_value
from consona.sql.database import SQLDatabase

__all__ = ["SQLSource"]

MAX_SEEN: Final = 10_000


class SQLSource:
    """What a statement finds, as of one moment, in bounded memory.

    With `cursor=`, the rows come in the order of that column, and a run reads those that are new since the last
    one. Rows with the same value as the last one read are read again and recognised, so that none is missed and
    none is given twice; rows without a value are only read by the first run.

    Args:
        db: The database, or its address.
        sql: One statement that reads; or `table=`.
        values: For its `?`, or one mapping for its `:names`.
        table: Read the whole table of this name instead.
        cursor: A column of the answer that only grows: a counted key, the time of the last change.
        key: The column that tells rows with the same cursor apart; by default all columns together.
        lookback: How far before the last cursor it begins to read, for rows that are committed late. Such rows
            come again: load them with `mode="upsert"`.

    Raises:
        ConfigurationError: The arguments do not go together.

    Example:
        >>> SQLSource("sqlite://shop", "SELECT id, total FROM orders", cursor="id").incremental
        True
    """

    def __init__(
        self,
        db: SQLDatabase | str,
        sql: str = "",
        *values: Any,
        table: str = "",
        cursor: str = "",
        key: str = "",
        lookback: Any = None,
        name: str = "",
    ) -> None:
        self.db = SQLDatabase(db) if isinstance(db, str) else db
        if bool(sql) == bool(table):
            raise ConfigurationError("SQLSource takes a statement or table=, and not both.")
        if lookback is not None and not cursor:
            raise ConfigurationError("SQLSource(lookback=…) needs cursor=.")
        self._sql = sql or f"SELECT * FROM {self.db.identifier(*table.split('.'))}"  # noqa: S608  it is quoted
        self._values = values
        self._cursor = cursor
        self._key = key
        self._lookback = lookback
        self.name = name or table or self.db.name
        self.incremental = self.resumable = bool(cursor)

    @property
    def parts(self) -> Sequence[Part]:
        return (self.db,)

    async def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        if not self._cursor:
            async with aclosing(self._stream(self._sql, self._values, room)) as found:
                async for rows in found:
                    yield Extracted(rows)
            return
        last = unpack_value(position["cursor"]) if position else None
        seen = set(position["seen"]) if position else set()
        sql, values = self._after(last)
        async with aclosing(self._stream(sql, values, room)) as found:
            async for several in found:
                rows = [row for row in several if not seen or row[self._cursor] != last or self._mark(row) not in seen]
                if rows:
                    position = self._position(rows, position)
                    yield Extracted(rows, position)

    def _after(self, last: Any) -> tuple[str, tuple[Any, ...]]:
        column = self.db.identifier(self._cursor)
        inner = f"SELECT * FROM ({self._sql.rstrip().rstrip(';')}) AS consona_source"  # noqa: S608  the program's own
        if last is None:
            return f"{inner} ORDER BY {column}", self._values
        begin = last if self._lookback is None else last - self._lookback
        if self._values and isinstance(self._values[0], Mapping):
            values: tuple[Any, ...] = ({**self._values[0], "consona_after": begin},)
            return f"{inner} WHERE {column} >= :consona_after ORDER BY {column}", values
        return f"{inner} WHERE {column} >= ? ORDER BY {column}", (*self._values, begin)

    async def _stream(self, sql: str, values: tuple[Any, ...], room: Room) -> AsyncGenerator[list[Row]]:
        async with aclosing(self.db.stream(sql, *values)) as found:
            async for rows in batched(found, room):
                yield rows

    def _position(self, rows: list[Row], before: Position) -> Position:
        last = rows[-1].get(self._cursor)
        if self._cursor not in rows[-1]:
            raise PipelineError(
                f"The rows of {self.name} have no column {self._cursor!r}, which is the cursor.",
                hint=f"Their columns: {', '.join(rows[-1])}.",
            )
        if last is None:
            return before
        packed = pack_value(last)
        seen = list(before["seen"]) if before and before["cursor"] == packed else []
        for row in reversed(rows):
            if row[self._cursor] != last:
                break
            seen.append(self._mark(row))
        if len(seen) > MAX_SEEN:
            raise PipelineError(
                f"More than {MAX_SEEN} rows of {self.name} have the same {self._cursor!r}, so it is no cursor.",
                hint="Use a column that grows with almost each row, such as a counted key.",
            )
        return {"cursor": packed, "seen": seen}

    def _mark(self, row: Row) -> str:
        what = repr(row[self._key]) if self._key else repr(sorted(row.items(), key=lambda item: item[0]))
        return hashlib.blake2b(what.encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()
