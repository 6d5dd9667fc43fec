"""Tables for rows: made where there is none, and followed where rows change."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Final, Union, get_args, get_origin
from uuid import UUID

import msgspec

from consona.sql.database import SQLDatabase
from consona.validation import fields_of

__all__ = ["add_columns", "columns_of", "columns_of_rows", "columns_of_type", "create_table"]

_TYPES: Final[dict[str, dict[type, str]]] = {
    "sqlite": {
        bool: "INTEGER",
        int: "INTEGER",
        float: "REAL",
        Decimal: "TEXT",
        bytes: "BLOB",
    },
    "postgresql": {
        bool: "BOOLEAN",
        int: "BIGINT",
        float: "DOUBLE PRECISION",
        Decimal: "NUMERIC",
        bytes: "BYTEA",
        datetime: "TIMESTAMPTZ",
        date: "DATE",
        time: "TIME",
        UUID: "UUID",
        dict: "JSONB",
    },
    "mysql": {
        bool: "BOOLEAN",
        int: "BIGINT",
        float: "DOUBLE",
        Decimal: "DECIMAL(38, 9)",
        bytes: "LONGBLOB",
        datetime: "DATETIME(6)",
        date: "DATE",
        time: "TIME(6)",
        dict: "JSON",
    },
}
_WIDER: Final = {frozenset({bool, int}): int, frozenset({int, float}): float, frozenset({int, Decimal}): Decimal}
_KEY_TEXT: Final = {"mysql": "VARCHAR(255)"}
"""Where a text cannot be a key without a length."""


def columns_of_type(declared: Any) -> dict[str, type]:
    """The columns that a Struct, a dataclass or a TypedDict declares, with the plain type of each."""
    fields = fields_of(declared)
    return {} if fields is None else {name: _plain(kind) for name, kind, _ in fields}


def columns_of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, type]:
    """The columns of rows, in the order in which they appear first, with the type that holds all their values."""
    found: dict[str, type] = {}
    for row in rows:
        for name, value in row.items():
            if value is None:
                found.setdefault(name, type(None))
                continue
            kind = _plain(type(value))
            before = found.get(name, type(None))
            if before is not kind:
                found[name] = kind if before is type(None) else _WIDER.get(frozenset({before, kind}), str)
    return found


def _plain(kind: Any) -> type:
    """The one type that a column has: `int` of `Annotated[int | None, …]`; `dict` of what becomes JSON."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        members = {_plain(each) for each in get_args(kind) if each is not type(None)}
        if len(members) == 1:
            return members.pop()
        return _WIDER.get(frozenset(members), str)
    origin = get_origin(kind) or kind
    if origin is typing.Literal:
        return _plain(type(get_args(kind)[0]))
    if not isinstance(origin, type):
        return str
    if issubclass(origin, Enum):
        return _plain(type(next(iter(origin)).value))
    if issubclass(origin, msgspec.Struct | Mapping | list | tuple | set) or dataclasses.is_dataclass(origin):
        return dict
    for known in (bool, int, float, Decimal, datetime, date, time, UUID, bytes, str):
        if issubclass(origin, known):
            return known
    return str


async def columns_of(db: SQLDatabase, table: str) -> list[str]:
    """The columns that a table has; none where there is no such table."""
    names = table.split(".")
    if db.dialect.name == "sqlite":
        return await db.fetch_column("SELECT name FROM pragma_table_info(?)", names[-1], into=str)
    here = "DATABASE()" if db.dialect.name == "mysql" else "CURRENT_SCHEMA()"
    where = "?" if len(names) > 1 else here
    return await db.fetch_column(
        f"SELECT column_name FROM information_schema.columns WHERE table_schema = {where} AND table_name = ?"  # noqa: S608
        " ORDER BY ordinal_position",
        *names[-2:],
        into=str,
    )


def _sql_type(db: SQLDatabase, kind: type, *, key: bool = False) -> str:
    engine = db.dialect.name
    found = _TYPES[engine].get(kind)
    if found is None:
        return _KEY_TEXT.get(engine, "TEXT") if key else "TEXT" if engine != "mysql" else "LONGTEXT"
    return found


async def create_table(db: SQLDatabase, table: str, columns: Mapping[str, type], key: Iterable[str]) -> None:
    """Make a table with these columns; the key is its primary key."""
    keys = list(key)
    parts = [
        f"{db.identifier(name)} {_sql_type(db, kind, key=name in keys)}{' NOT NULL' if name in keys else ''}"
        for name, kind in columns.items()
    ]
    if keys:
        parts.append(f"PRIMARY KEY ({', '.join(map(db.identifier, keys))})")
    await db.execute(f"CREATE TABLE IF NOT EXISTS {db.identifier(*table.split('.'))} ({', '.join(parts)})")


async def add_columns(db: SQLDatabase, table: str, columns: Mapping[str, type]) -> None:
    """Give a table more columns; where rows were before, they hold NULL."""
    for name, kind in columns.items():
        await db.execute(
            f"ALTER TABLE {db.identifier(*table.split('.'))} ADD COLUMN {db.identifier(name)} {_sql_type(db, kind)}"
        )
