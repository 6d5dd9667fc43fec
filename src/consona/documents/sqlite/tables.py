"""The collections of a file: one table each, and one row of `consona_documents` that says what it is.

    documents_NAME   seq      the order of insertion
                     id       the `_id`, as `keys.encoded_id` writes it
                     data     the other fields, extended JSON as JSONB
                     version  differs after each change

So `SELECT json(data) FROM documents_products` shows the documents to every tool that reads SQLite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import apsw

from consona.documents.extended_json import dumps, loads
from consona.documents.indexes import Index
from consona.documents.sqlite.keys import quoted
from consona.errors import Conflict, NotFound

__all__ = ["FIRST_STEP", "Table", "all_tables", "created", "found_table", "rename_table", "require_table", "save"]

FIRST_STEP: Final = """
    CREATE TABLE consona_documents (
        name TEXT PRIMARY KEY,       -- of the collection
        facts TEXT NOT NULL          -- extended JSON: its table, indexes, rules
    ) STRICT, WITHOUT ROWID
    """

_FACTS: Final = "SELECT facts FROM consona_documents WHERE name = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A collection as it is in the file.

    Attributes:
        name: Of the collection.
        table: Of its table, not quoted.
        indexes: Save that of `_id`.
        rules: The filter that documents must pass.
        logged: Whether changes are written down for those who watch.
    """

    name: str
    table: str
    indexes: tuple[Index, ...] = ()
    rules: Mapping[str, Any] | None = None
    logged: bool = False

    @property
    def sql(self) -> str:
        """The table's name, quoted."""
        return quoted(self.table)

    def facts(self) -> str:
        indexes = [
            {
                "name": index.name,
                "fields": [list(field) for field in index.fields],
                "unique": index.unique,
                "sparse": index.sparse,
                "partial": None if index.partial is None else dict(index.partial),
                "expire_after_s": index.expire_after_s,
            }
            for index in self.indexes
        ]
        rules = None if self.rules is None else dict(self.rules)
        return dumps({"table": self.table, "indexes": indexes, "rules": rules, "logged": self.logged})


@lru_cache(maxsize=1024)
def _table(name: str, facts: str) -> Table:
    read = loads(facts)
    indexes = tuple(
        Index(**{**index, "fields": tuple((path, kind) for path, kind in index["fields"])}) for index in read["indexes"]
    )
    return Table(name=name, table=read["table"], indexes=indexes, rules=read["rules"], logged=read["logged"])


def found_table(db: apsw.Connection, name: str) -> Table | None:
    """The collection of this name, or None."""
    facts: Any = db.execute(_FACTS, (name,)).get
    return None if facts is None else _table(name, facts)


def require_table(db: apsw.Connection, name: str) -> Table:
    """The collection of this name.

    Raises:
        NotFound: It does not exist.
    """
    table = found_table(db, name)
    if table is None:
        raise NotFound(f"There is no collection {name!r}.")
    return table


def all_tables(db: apsw.Connection) -> list[Table]:
    """All collections, by name."""
    return [
        _table(name, facts) for name, facts in db.execute("SELECT name, facts FROM consona_documents ORDER BY name")
    ]


def created(db: apsw.Connection, name: str) -> Table:
    """The collection of this name, made where it does not exist."""
    found = found_table(db, name)
    if found is not None:
        return found
    table = Table(name=name, table=_free_name(db, name))
    db.execute(
        f"CREATE TABLE {table.sql} (seq INTEGER PRIMARY KEY, id ANY NOT NULL UNIQUE, data BLOB NOT NULL,"
        " version INTEGER NOT NULL) STRICT"
    )
    save(db, table)
    return table


def save(db: apsw.Connection, table: Table) -> None:
    """Write down what the collection is now."""
    db.execute("INSERT OR REPLACE INTO consona_documents VALUES (?, ?)", (table.name, table.facts()))


def rename_table(db: apsw.Connection, table: Table, to: str) -> Table:
    """Give the collection another name; its table keeps its own.

    Raises:
        Conflict: There is a collection of that name.
    """
    if found_table(db, to) is not None:
        raise Conflict(f"There is a collection {to!r} already.")
    db.execute("DELETE FROM consona_documents WHERE name = ?", (table.name,))
    renamed = replace(table, name=to)
    save(db, renamed)
    return renamed


def _free_name(db: apsw.Connection, name: str) -> str:
    """A name for the table: SQLite's do not tell capital letters apart, and a renamed collection keeps its table."""
    wanted, number = f"documents_{name}", 1
    while db.execute("SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE", (wanted,)).get is not None:
        number += 1
        wanted = f"documents_{name}_{number}"
    return wanted
