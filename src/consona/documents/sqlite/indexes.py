"""Indexes in a SQLite file.

Each has an expression index over the keys of its fields (`keys.py`), which SQLite chooses by itself. What an array
holds stands in a table beside it, `documents_NAME.INDEX`: the keys of the elements of the first field, kept up to date
by triggers. A unique index has a second table, `documents_NAME.INDEX!`, with exactly the keys that MongoDB would
compare: writes keep it, since no expression of SQL could say them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import apsw

from consona.documents.errors import DuplicateKey
from consona.documents.indexes import ID_INDEX, Index
from consona.documents.sqlite.keys import element_key_sql, json_path, key_sql, quoted, same_numbers
from consona.documents.sqlite.rows import read_rows
from consona.documents.sqlite.tables import Table, save
from consona.documents.values import Document

__all__ = [
    "create_index",
    "drop_index",
    "duplicate",
    "elements_table",
    "keep_keys",
    "unique_indexes",
]

PAGE: Final = 1000


def elements_table(table: Table, index: Index) -> str:
    """The table with the keys of the elements of arrays, quoted."""
    return quoted(f"{table.table}.{index.name}")


def _keys_table(table: Table, index: Index) -> str:
    """The table with the keys of a unique index, quoted."""
    return quoted(f"{table.table}.{index.name}!")


def _expression_index(table: Table, index: Index) -> str:
    return quoted(f"{table.table} {index.name}")


def create_index(db: apsw.Connection, table: Table, index: Index) -> None:
    """Make an index over the documents that are there.

    Raises:
        DuplicateKey: It is unique, and two documents have the same key.
    """
    columns = ", ".join(
        (_column(path)) + (" DESC" if kind == -1 else "")
        for path, (_, kind) in zip(index.paths, index.fields, strict=True)
    )
    db.execute(f"CREATE INDEX {_expression_index(table, index)} ON {table.sql} ({columns})")
    if index.paths[0][0] != "_id":
        _create_elements(db, table, index)
    if index.unique:
        _create_keys(db, table, index)
    save(db, replace(table, indexes=(*table.indexes, index)))


def drop_index(db: apsw.Connection, table: Table, index: Index) -> None:
    """Remove an index."""
    db.execute(f"DROP INDEX {_expression_index(table, index)}")
    for name in (elements_table(table, index), _keys_table(table, index)):
        for when in ("insert", "update", "delete"):
            db.execute(f"DROP TRIGGER IF EXISTS {_trigger(name, when)}")
        db.execute(f"DROP TABLE IF EXISTS {name}")
    save(db, replace(table, indexes=tuple(other for other in table.indexes if other != index)))


def _column(path: tuple[str, ...]) -> str:
    return "id" if path == ("_id",) else key_sql(path)


def _trigger(name: str, when: str) -> str:
    return quoted(f"{name[1:-1].replace(chr(34) * 2, chr(34))} {when}")


# The elements of arrays.


def _create_elements(db: apsw.Connection, table: Table, index: Index) -> None:
    name, path = elements_table(table, index), index.paths[0]
    db.execute(f"CREATE TABLE {name} (key ANY, doc INTEGER NOT NULL) STRICT")
    for column in ("key, doc", "doc"):
        db.execute(f"CREATE INDEX {quoted(f'{table.table}.{index.name} {column}')} ON {name} ({column})")
    forget = f"DELETE FROM {name} WHERE doc = old.seq;"
    learn = f"INSERT INTO {name} {_elements_of(path, 'new.seq', 'new.data')};"
    new_array, old_array = f"{key_sql(path, 'new.data')} = x'19'", f"{key_sql(path, 'old.data')} = x'19'"
    triggers = (
        ("insert", "INSERT", new_array, learn),
        ("delete", "DELETE", old_array, forget),
        ("update", "UPDATE OF data", f"{new_array} OR {old_array}", f"{forget} {learn}"),
    )
    for when, event, condition, body in triggers:
        db.execute(
            f"CREATE TRIGGER {_trigger(name, when)} AFTER {event} ON {table.sql} WHEN {condition} BEGIN {body} END"
        )
    rows = _elements_of(path, "seq", "data", f"{table.sql}, ")
    db.execute(f"INSERT INTO {name} {rows} AND {key_sql(path)} = x'19'")


def _elements_of(path: tuple[str, ...], seq: str, data: str, source: str = "") -> str:
    """A SELECT of the keys of the elements that a filter would try, and of the document's `seq`.

    Each step of the path gives a list: the elements of an array, or the one value that is there. What is no document
    ends the path within an array, and means a missing field elsewhere.
    """
    steps: list[str] = []
    conditions: list[str] = ["1"]
    value = data
    for number, part in enumerate(path):
        at, row = json_path((part,)), f"s{number}"
        if number + 1 < len(path):
            single = f"WHEN 'object' THEN jsonb_array({value}->{at}) ELSE '[{{}}]'"
            conditions.append(f"{row}.type = 'object' AND substr({row}.value,1,3) <> '{{\"$'")
        else:
            single = f"ELSE jsonb_array({value}->{at})"
        steps.append(f"json_each(CASE json_type({value},{at}) WHEN 'array' THEN {value}->{at} {single} END) {row}")
        value = f"{row}.value"
    return (
        f"SELECT {element_key_sql(f's{len(path) - 1}')}, {seq} FROM {source}{', '.join(steps)}"
        f" WHERE {' AND '.join(conditions)}"
    )


# The keys of unique indexes.


def unique_indexes(table: Table) -> Sequence[Index]:
    return [index for index in table.indexes if index.unique]


def keep_keys(db: apsw.Connection, table: Table, seq: int, document: Document, *, new: bool) -> None:
    """Write down the keys of a document that is kept under `seq`.

    Args:
        db: The writing connection.
        table: The document's collection.
        seq: Its number.
        document: As it is now.
        new: Whether it had no keys before.

    Raises:
        DuplicateKey: Another document has one of them.
    """
    for index in unique_indexes(table):
        name = _keys_table(table, index)
        if not new:
            db.execute(f"DELETE FROM {name} WHERE doc = ?", (seq,))
        _insert_keys(db, table, index, name, [(seq, document)])


def _insert_keys(
    db: apsw.Connection, table: Table, index: Index, name: str, documents: Iterable[tuple[int, Document]]
) -> None:
    rows = [
        (_stored_key(key), seq) for seq, document in documents if index.covers(document) for key in index.keys(document)
    ]
    try:
        db.executemany(f"INSERT INTO {name} VALUES (?, ?)", rows)
    except apsw.ConstraintError as error:
        raise duplicate(table, index.name) from error


def _create_keys(db: apsw.Connection, table: Table, index: Index) -> None:
    name = _keys_table(table, index)
    db.execute(f"CREATE TABLE {name} (key ANY PRIMARY KEY, doc INTEGER NOT NULL) STRICT, WITHOUT ROWID")
    db.execute(f"CREATE INDEX {quoted(f'{table.table}.{index.name}! doc')} ON {name} (doc)")
    db.execute(
        f"CREATE TRIGGER {_trigger(name, 'delete')} AFTER DELETE ON {table.sql}"
        f" BEGIN DELETE FROM {name} WHERE doc = old.seq; END"
    )
    last = 0
    while page := read_rows(
        db.execute(f"SELECT seq, id, json(data) FROM {table.sql} WHERE seq > ? ORDER BY seq LIMIT ?", (last, PAGE))
    ):
        last = page[-1][0]
        _insert_keys(db, table, index, name, page)


def _stored_key(key: tuple[Any, ...]) -> Any:
    """A key of the reference as a value that is equal where the key is."""
    if len(key) == 1 and len(key[0]) == 2:
        place, value = key[0]
        if place == 15 and type(value) is str:
            return value
        if place == 10 and type(value) in {int, float, Decimal}:
            value = same_numbers(value)
            if type(value) is float or -(1 << 63) <= value < 1 << 63:
                return value
    return repr(same_numbers(key)).encode()


def duplicate(table: Table, index: str = ID_INDEX) -> DuplicateKey:
    return DuplicateKey(
        f"Another document of {table.name!r} has this key in the unique index {index!r}.",
        collection=table.name,
        index=index,
    )
