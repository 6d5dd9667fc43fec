"""Removing documents whose time is over (`expireAfterSeconds`), in batches of bounded size."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import apsw

from consona.documents.indexes import Index
from consona.documents.sqlite.indexes import elements_table
from consona.documents.sqlite.keys import key_of, key_sql
from consona.documents.sqlite.rows import read_rows
from consona.documents.sqlite.tables import Table, all_tables

__all__ = ["remove_expired"]

LIMIT: Final = 500


def remove_expired(db: apsw.Connection, now: datetime, *, dry: bool = False) -> int:
    """Remove them, or (`dry`) only count them; at most 500 of each index."""
    removed = 0
    for table in all_tables(db):
        for index in table.indexes:
            if index.expire_after_s is None:
                continue
            over = _over(db, table, index, now)
            removed += len(over)
            if not dry:
                db.executemany(f"DELETE FROM {table.sql} WHERE seq = ?", [(seq,) for seq in over])
    return removed


def _over(db: apsw.Connection, table: Table, index: Index, now: datetime) -> list[int]:
    assert index.expire_after_s is not None
    end = key_of(now - timedelta(seconds=index.expire_after_s))
    between = "{key} >= x'2d' AND {key} <= ?"
    key = key_sql(index.paths[0])
    rows = db.execute(
        f"SELECT seq, id, json(data) FROM {table.sql} WHERE ({between.format(key=key)})"
        f" OR seq IN (SELECT doc FROM {elements_table(table, index)} WHERE {between.format(key='key')}) LIMIT ?",
        (end, end, LIMIT),
    )
    return [seq for seq, document in read_rows(rows) if index.covers(document)]
