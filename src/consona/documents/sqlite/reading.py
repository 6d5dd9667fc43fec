"""Answering a query from a SQLite file: on one connection, at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import apsw

from consona.documents.engine import Plan, Query
from consona.documents.filters import wanted_id
from consona.documents.indexes import ID_INDEX
from consona.documents.paths import is_index, split
from consona.documents.sorting import Sort
from consona.documents.sqlite.bounds import NO, YES, Bounds, Sql
from consona.documents.sqlite.filters import Places, filter_bounds
from consona.documents.sqlite.keys import encoded_id
from consona.documents.sqlite.rows import read_document
from consona.documents.sqlite.tables import Table, found_table
from consona.documents.values import MISSING, Document

__all__ = ["Reading", "explain", "found_rows", "read_documents", "scans", "source"]

_UNSORTED_KEYS: Final = "({key} >= x'0a' AND {key} < x'1f') OR {key} >= x'2f'"
"""Keys that do not sort as their values do: of arrays, odd numbers, documents, binary data, patterns."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of a query are read.

    Attributes:
        table: Of the collection.
        bounds: The filter.
        order: The SQL that sorts as the query asks; empty where Python must sort.
        by_id: Whether one row is looked up by its `_id`.
    """

    table: Table
    bounds: Bounds
    order: str
    by_id: bool = False

    def select(self, columns: str, condition: Sql, more: str = "") -> tuple[str, tuple[Any, ...]]:
        where = "" if condition == YES else f" WHERE {condition.text}"
        return f"SELECT {columns} FROM {self.table.sql}{where}{more}", condition.values


def read_documents(db: apsw.Connection, collection: str, query: Query) -> Iterator[Document]:
    """The documents, as the query wants them."""
    documents = _documents(db, collection, query)
    return documents if query.finish is None else query.finish(documents, source(db))


def source(db: apsw.Connection) -> Any:
    """Reads other collections on the same connection."""
    return lambda collection, query: read_documents(db, collection, query)


def _documents(db: apsw.Connection, collection: str, query: Query) -> Iterator[Document]:
    table = found_table(db, collection)
    if table is None:
        if query.count:
            yield {"n": 0}
        return
    reading = _reading(db, table, query)
    if query.count:
        yield {"n": _count(db, reading, query)}
        return
    rows = _rows(db, reading, query)
    if query.sort and not reading.order:
        last = None if query.limit is None else query.skip + query.limit
        yield from (query.sort.sorted(rows) if last is None else query.sort.first(rows, last))[query.skip :]
        return
    if reading.bounds.exact:
        yield from rows  # SQL skipped and limited
        return
    for at, document in enumerate(rows):
        if query.limit is not None and at >= query.skip + query.limit:
            return
        if at >= query.skip:
            yield document


def _reading(db: apsw.Connection, table: Table, query: Query) -> Reading:
    identity = wanted_id(query.filter)
    places = Places(db, table)
    if identity is not MISSING:
        exact = Bounds.exactly(Sql("id = ?", (encoded_id(identity),)))
        bounds = filter_bounds(query.filter.node, places, None)
        return Reading(table, exact if bounds == exact else Bounds(NO, exact.maybe), "", by_id=True)
    bounds = filter_bounds(query.filter.node, places, query.filter.collation)
    return Reading(table, bounds, _order(db, table, places, query.sort))


def _order(db: apsw.Connection, table: Table, places: Places, sort: Sort) -> str:
    """How SQL sorts; empty where keys do not sort as the values do."""
    if not sort:
        return ""
    if sort.collation is not None:
        return ""
    columns: list[str] = []
    for path, direction in sort.fields:
        parts = split(path, "a sort")
        if (parts[0] == "_id" and len(parts) > 1) or any(is_index(part) for part in parts):
            return ""
        place = places[parts]
        unsorted = _UNSORTED_KEYS.format(key=place.key)
        if place.key == "id":
            unsorted = "(id >= x'05' AND id < x'1f') OR id >= x'2f'"
        if db.execute(f"SELECT 1 FROM {table.sql} WHERE {unsorted} LIMIT 1").get is not None:
            return ""
        columns.append(f"{place.key} DESC" if direction < 0 else place.key)
    return f" ORDER BY {', '.join(columns)}, seq"


def _rows(db: apsw.Connection, reading: Reading, query: Query) -> Iterator[Document]:
    """The documents that pass; skipped and limited only where SQL does all of it."""
    bounds, more = reading.bounds, reading.order
    if bounds.exact and not (query.sort and not reading.order):
        more += _page(query)
    sql, values = reading.select("id, json(data), version", bounds.maybe, more)
    matches = None if bounds.exact else query.filter.matches
    for identity, text, version in db.execute(sql, values):
        document = read_document(identity, text)
        if matches is None or matches(document):
            if query.versions:
                document["_version"] = version
            yield document


def _page(query: Query) -> str:
    if query.limit is None and not query.skip:
        return ""
    return f" LIMIT {-1 if query.limit is None else query.limit} OFFSET {query.skip}"


def _count(db: apsw.Connection, reading: Reading, query: Query) -> int:
    last = None if query.limit is None else query.skip + query.limit
    sql, values = reading.select("count(*)", reading.bounds.sure)
    count: int = db.execute(sql, values).get if reading.bounds.sure != NO else 0
    if not reading.bounds.exact and (last is None or count < last):
        sql, values = reading.select("id, json(data)", reading.bounds.doubtful)
        matches = query.filter.matches
        count += sum(matches(read_document(*row)) for row in db.execute(sql, values))
    return max(0, (count if last is None else min(count, last)) - query.skip)


def found_rows(db: apsw.Connection, table: Table, query: Query) -> Iterator[tuple[int, int, Document]]:
    """For writes: `seq`, version and document of each row that passes, sorted and limited as the query asks."""
    reading = _reading(db, table, query)
    more = reading.order or ("" if query.limit is None or query.sort else " ORDER BY seq")
    sql, values = reading.select("seq, version, id, json(data)", reading.bounds.maybe, more)
    matches = None if reading.bounds.exact else query.filter.matches
    rows = ((seq, version, read_document(identity, text)) for seq, version, identity, text in db.execute(sql, values))
    if matches is not None:
        rows = (row for row in rows if matches(row[2]))
    if query.sort and not reading.order:
        by_document = {id(document): (seq, version, document) for seq, version, document in rows}
        ordered = query.sort.sorted(document for _, _, document in by_document.values())
        rows = (by_document[id(document)] for document in ordered)
    for at, row in enumerate(rows):
        if query.limit is not None and at >= query.limit:
            return
        yield row


def explain(db: apsw.Connection, collection: str, query: Query) -> Plan:
    """How a query is answered, and over how many rows."""
    table = found_table(db, collection)
    if table is None:
        return Plan(stage="EOF", estimated=0, examined=0, returned=0)
    reading = _reading(db, table, query)
    sql, values = reading.select("id, json(data)", reading.bounds.maybe, reading.order)
    detail = _plan(db, sql, values)
    examined: int = db.execute(f"SELECT count(*) FROM ({sql})", values).get
    rows: int = db.execute(f"SELECT count(*) FROM {table.sql}").get
    index = _index_used(table, detail)
    scans = index is None and not reading.by_id
    return Plan(
        stage="IDHACK" if reading.by_id else "IXSCAN" if index is not None else "COLLSCAN",
        index=ID_INDEX if reading.by_id else index,
        exact=reading.bounds.exact,
        sorted_by_index=bool(reading.order) and not any("TEMP B-TREE FOR ORDER BY" in line for line in detail),
        estimated=1 if reading.by_id else rows if scans else examined,
        examined=rows if scans else examined,
        returned=sum(1 for _ in _documents(db, collection, query)),
        detail=detail,
    )


def scans(db: apsw.Connection, table: Table, query: Query) -> bool:
    """Whether all rows are looked at, since no index answers the query."""
    reading = _reading(db, table, query)
    sql, values = reading.select("id, json(data)", reading.bounds.maybe, reading.order)
    return not reading.by_id and _index_used(table, _plan(db, sql, values)) is None


def _plan(db: apsw.Connection, sql: str, values: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values))


def _index_used(table: Table, detail: tuple[str, ...]) -> str | None:
    for line in detail:
        for index in table.indexes:
            if f"{table.table} {index.name} " in line or f"{table.table}.{index.name} " in line:
                return index.name
        if f"sqlite_autoindex_{table.table}_1" in line:
            return ID_INDEX
    return None
