"""SQLite: one number tells of every commit to the file, whoever made it."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, Final

import apsw

from consona.sql.cache.deterministic import unknown_word
from consona.sql.dialect import SQLITE
from consona.sql.placeholders import tokens
from consona.storage.sqlite_engine import SQLiteEngine

__all__ = ["SQLiteFreshness"]

_IN_THE_FILE: Final = frozenset({"fts3", "fts4", "fts5", "rtree", "rtree_i32", "geopoly"})
"""Kinds of virtual tables that keep all they have in tables of the file."""


class SQLiteFreshness:
    """A commit to any table of the file makes all kept answers old; so tables need not be told apart."""

    promise = "never stale: each commit to the file is seen, whoever makes it"
    strict_only = False
    wants_writes = False

    def __init__(self, engine: SQLiteEngine) -> None:
        self._engine = engine
        self._schema_version = -1
        self._unsafe: dict[str, str] = {}
        """Views and virtual tables whose rows follow from more than the file, and why."""

    async def examine(self, tables: frozenset[str], *, strict: bool) -> str:  # noqa: ARG002  it is always
        await self._look_at_schema()
        for table in sorted(tables):
            schema, _, name = table.rpartition(".")
            if schema not in {"", "main"}:
                return f"{table} is in another file, or temporary"
            if name.lower() in self._unsafe:
                return self._unsafe[name.lower()]
        return ""

    def stamp(self, tables: frozenset[str]) -> Hashable | None:  # noqa: ARG002  all tables of a file are one
        return self._engine.version_now()

    async def asked(self, tables: frozenset[str]) -> Hashable | None:
        return self.stamp(tables)

    def wrote(self, tables: frozenset[str] | None, began: float, *, settled: bool, whole: bool) -> None:
        """The file tells it."""

    async def close(self) -> None:
        self._unsafe = {}

    async def _look_at_schema(self) -> None:
        version = await self._engine.read_now(lambda db: db.execute("PRAGMA schema_version").get)
        if version == self._schema_version:
            return
        found = await self._engine.read(_views_and_virtual_tables)
        self._unsafe = {name.lower(): why for kind, name, sql in found if (why := _unsafe(kind, name, sql))}
        self._schema_version = version


def _views_and_virtual_tables(db: apsw.Connection) -> list[tuple[Any, ...]]:
    sql = "SELECT type, name, sql FROM sqlite_schema WHERE type = 'view' OR sql LIKE 'CREATE VIRTUAL%'"
    return db.execute(sql).fetchall()


def _unsafe(kind: str, name: str, sql: str) -> str:
    if kind == "view":
        definition = re.sub(r"(?is)^.*?\bAS\b", "", sql, count=1)
        word = unknown_word(list(tokens(definition, SQLITE)))
        return f"the view {name} calls {word}, whose answer may change" if word else ""
    module = re.search(r"(?is)\bUSING\s+[\"\[`]?(\w+)", sql)
    if module is not None and module[1].lower() in _IN_THE_FILE:
        return ""
    return f"the virtual table {name} may read what is not in the file"
