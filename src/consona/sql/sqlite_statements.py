"""Statements on a connection to SQLite: what goes in, what runs there, what comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

import apsw

from consona.errors import FieldProblem, ValidationError
from consona.sql.engine import Done, ReadRows, Rows
from consona.sql.placeholders import WRITING, Statement
from consona.sql.values import Array, JsonText

__all__ = ["encoded", "executing", "executing_many", "explaining", "fetching", "opening", "reading"]

_AS_IT_IS: Final = frozenset({int, str, float, bytes, bool, type(None)})
PIECE_ROWS: Final = 200
INSERTING: Final = frozenset({"INSERT", "REPLACE"})


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


def executing(statement: Statement, values: Sequence[Any]) -> Callable[[apsw.Connection], Done]:
    text, verb = statement.text, statement.verb

    def execute(db: apsw.Connection) -> Done:
        try:
            if verb in INSERTING:
                db.set_last_insert_rowid(0)  # so that a row that was not inserted gives no key, and not another's
                db.execute(text, values).fetchall()
                return Done(db.changes(), db.last_insert_rowid() or None)
            db.execute(text, values).fetchall()  # to the end, also where it gives rows that nobody asked for
            return Done(db.changes() if verb in WRITING else 0)
        except apsw.SQLError as error:
            _note_place(error, statement)
            raise

    return execute


def executing_many(statement: Statement, rows: Sequence[Sequence[Any]]) -> Callable[[apsw.Connection], Done]:
    def execute(db: apsw.Connection) -> Done:
        before = db.total_changes()
        db.set_last_insert_rowid(0)
        for _ in db.executemany(statement.text, map(encoded, rows)):  # here, beside the event loop
            pass
        key = db.last_insert_rowid() if statement.verb in INSERTING else 0
        return Done(db.total_changes() - before, key or None)

    return execute


def _note_place(error: apsw.SQLError, statement: Statement) -> None:
    """Say where in the user's text it is wrong. SQLite counts bytes of what it was given."""
    offset = getattr(error, "error_offset", -1)
    if offset >= 0:
        error.add_note(statement.place(len(statement.text.encode()[:offset].decode(errors="ignore"))))


def fetching(
    statement: Statement, values: Sequence[Any], limit: int | None = None
) -> Callable[[apsw.Connection], Rows]:
    def fetch(db: apsw.Connection) -> Rows:
        columns, cursor = _opened(db, statement, values)
        if limit is None:
            return Rows(columns, cursor.fetchall())
        rows = list(islice(cursor, limit))
        cursor.close()
        return Rows(columns, rows)

    return fetch


def reading(
    statement: Statement, values: Sequence[Any], reader: Callable[[tuple[str, ...]], ReadRows]
) -> Callable[[apsw.Connection], list[Any]]:
    """Read in pieces: the rows of one are gone before the next, which is kinder to memory and to the event loop."""

    def read(db: apsw.Connection) -> list[Any]:
        columns, cursor = _opened(db, statement, values)
        read_rows = reader(columns)
        found: list[Any] = []
        while rows := list(islice(cursor, PIECE_ROWS)):
            found += read_rows(rows, len(found) + 1)
        return found

    return read


def explaining(statement: Statement, values: Sequence[Any]) -> Callable[[apsw.Connection], list[str]]:
    """The steps of a plan, each below the one that it is a part of."""

    def explain(db: apsw.Connection) -> list[str]:
        db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()  # or it plans for the schema as it was
        sql = f"EXPLAIN QUERY PLAN {statement.text}"
        depth = {0: -1}
        lines: list[str] = []
        for number, parent, _, text in db.execute(sql, values, can_cache=False):
            depth[number] = depth.get(parent, -1) + 1
            lines.append("  " * depth[number] + text)
        return lines

    return explain


def opening(
    statement: Statement, values: Sequence[Any]
) -> Callable[[apsw.Connection], tuple[tuple[str, ...], apsw.Cursor]]:
    return lambda db: _opened(db, statement, values)


def _opened(db: apsw.Connection, statement: Statement, values: Sequence[Any]) -> tuple[tuple[str, ...], apsw.Cursor]:
    try:
        cursor = db.execute(statement.text, values)
    except apsw.SQLError as error:
        _note_place(error, statement)
        raise
    try:
        return tuple(name for name, *_ in cursor.get_description()), cursor
    except apsw.ExecutionCompleteError:
        return _columns(db, statement.text, values), cursor


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
