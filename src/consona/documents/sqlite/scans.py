"""Queries that look at a whole large collection are logged, with the index that would help.

Once for each kind of query in a process: its collection, its fields and its order; never its values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import apsw

from consona.documents import conditions as ask
from consona.documents.engine import Query
from consona.documents.filter_nodes import AllPass, Field, Node
from consona.documents.paths import is_index
from consona.documents.sqlite.reading import scans
from consona.documents.sqlite.tables import found_table

__all__ = ["MOST_SCANNED", "ScanLog", "helpful_index"]

MOST_SCANNED: Final = 10_000
"""Documents that a query may look at one by one before it is told."""
MOST_KINDS: Final = 1000

logger = logging.getLogger("consona.documents")

Keys = tuple[tuple[str, int], ...]


class ScanLog:
    """What one database has told of already."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: set[tuple[str, Keys]] = set()

    def look(self, db: apsw.Connection, collection: str, query: Query) -> None:
        """Tell of the query, if it is of a kind that scans and was not told of."""
        keys = helpful_index(query)
        if not keys or (collection, keys) in self._told or (query.limit is not None and not query.sort):
            return
        table = found_table(db, collection)
        if table is None or (db.execute(f"SELECT max(seq) FROM {table.sql}").get or 0) < MOST_SCANNED:
            return
        count: int = db.execute(f"SELECT count(*) FROM {table.sql}").get
        if count < MOST_SCANNED or len(self._told) >= MOST_KINDS or not scans(db, table, query):
            return
        self._told.add((collection, keys))
        logger.warning(
            "%s: a query of %s looked at all of its %d documents; this index would help: create_index(%s)",
            self._name,
            collection,
            count,
            [*keys],
        )


def helpful_index(query: Query) -> Keys:
    """The fields that an index should have: what must be equal, then the order, then what lies between bounds.

    Source: https://www.mongodb.com/docs/manual/tutorial/equality-sort-range-guideline/
    """
    equal: dict[str, int] = {}
    between: dict[str, int] = {}
    if query.filter.collation is not None:
        return ()
    for node in _fields(query.filter.node):
        path = ".".join(node.path)
        if any(is_index(part) for part in node.path) or node.path[0] == "_id":
            continue
        if isinstance(node.condition, ask.In) or (
            isinstance(node.condition, ask.Compare) and node.condition.op == "$eq"
        ):
            equal[path] = 1
        elif isinstance(node.condition, ask.Compare) or (
            isinstance(node.condition, ask.Matches) and node.condition.pattern.prefix
        ):
            between[path] = 1
    if not equal and not between:
        return ()
    order = dict(query.sort.fields)
    keys = {**equal, **order, **between} if equal else {**between, **order}
    return tuple(keys.items())


def _fields(node: Node) -> Iterator[Field]:
    """The questions that every document that passes must answer with yes."""
    if isinstance(node, AllPass):
        for inner in node.nodes:
            yield from _fields(inner)
    elif isinstance(node, Field):
        yield node
