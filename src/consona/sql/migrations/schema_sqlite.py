"""The schema of a SQLite database."""

from __future__ import annotations

from typing import Any

from consona.sql.dialect import SQLITE
from consona.sql.engine import Session
from consona.sql.migrations.schema_text import Schema, ask, is_ours, plain

__all__ = ["read"]


async def read(session: Session) -> Schema:
    schema: Schema = {}
    objects = await ask(
        session,
        SQLITE,
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    for kind, name, table, sql in objects:
        if is_ours(table):
            continue
        details = {"definition": plain(sql or "", SQLITE)}
        if kind == "table":
            details |= await _table(session, name)
        schema[f"{kind} {name}"] = details
    return schema


async def _table(session: Session, name: str) -> dict[str, str]:
    details: dict[str, str] = {}
    columns = 'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)'
    for column, *about in await ask(session, SQLITE, columns, name):
        details[f"column {column}"] = _column(*about)
    keys = 'SELECT "from", "table", "to", on_update, on_delete FROM pragma_foreign_key_list(?) ORDER BY id, seq'
    for column, table, target, on_update, on_delete in await ask(session, SQLITE, keys, name):
        actions = f"on update {on_update}, on delete {on_delete}".lower()
        details[f"foreign key {column} to {table}"] = f"{target or 'its key'}, {actions}"
    return details


def _column(kind: str, not_null: int, default: Any, key: int, hidden: int) -> str:
    words = [kind or "any type"]
    words += ["not null"] if not_null else []
    words += [f"default {default}"] if default is not None else []
    words += [f"primary key {key}"] if key else []
    words += ["generated"] if hidden > 1 else []
    return " ".join(words)
