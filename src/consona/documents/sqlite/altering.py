"""Making, changing and removing the collections of a SQLite file."""

from __future__ import annotations

from dataclasses import replace

import apsw

from consona.documents.engine import (
    Alter,
    CreateCollection,
    CreateIndex,
    DropCollection,
    RenameCollection,
    SetRules,
)
from consona.documents.sqlite.changes import log_new_table, log_renamed, tell
from consona.documents.sqlite.indexes import create_index, drop_index
from consona.documents.sqlite.tables import Table, created, found_table, rename_table, require_table, save
from consona.errors import Conflict

__all__ = ["alter"]


def alter(db: apsw.Connection, collection: str, change: Alter, now: float) -> None:
    """Change a collection, all or nothing."""
    if isinstance(change, CreateCollection):
        if found_table(db, collection) is not None:
            raise Conflict(f"There is a collection {collection!r} already.")
        save(db, replace(_made(db, collection), rules=change.rules))
    elif isinstance(change, SetRules):
        save(db, replace(_made(db, collection), rules=change.rules))
    elif isinstance(change, RenameCollection):
        table = require_table(db, collection)
        target = found_table(db, change.to)
        if target is not None and change.replace:
            _drop(db, target)
        log_renamed(db, rename_table(db, table, change.to))
        if table.logged:
            tell(db, collection, "rename", change.to, now)
    elif isinstance(change, CreateIndex):
        create_index(db, _made(db, collection), change.index)
    elif isinstance(change, DropCollection):
        table_or_none = found_table(db, collection)
        if table_or_none is not None:
            _drop(db, table_or_none)
            if table_or_none.logged:
                tell(db, collection, "drop", None, now)
    else:
        for index in require_table(db, collection).indexes:
            if change.name in {None, index.name}:
                drop_index(db, require_table(db, collection), index)


def _made(db: apsw.Connection, collection: str) -> Table:
    return found_table(db, collection) or log_new_table(db, created(db, collection))


def _drop(db: apsw.Connection, table: Table) -> None:
    for index in table.indexes:
        drop_index(db, require_table(db, table.name), index)
    db.execute(f"DROP TABLE {table.sql}")
    db.execute("DELETE FROM consona_documents WHERE name = ?", (table.name,))
