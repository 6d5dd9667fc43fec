"""What changed in a SQLite file, written down in the transaction that changes it, for those who watch.

A collection's changes are written down by triggers from the moment somebody first watches it, so nobody else pays for
that, and changes made by plain SQL are told too. What is older than a day is forgotten; a collection that nobody has
watched for a day is no longer written down.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import apsw

from consona.documents.engine import Event
from consona.documents.errors import ChangesLost
from consona.documents.sqlite.keys import decoded_id, quoted
from consona.documents.sqlite.rows import read_document
from consona.documents.sqlite.tables import Table, all_tables, created, save

__all__ = [
    "ALL",
    "CHANGE_STEP",
    "REPLACED",
    "begin_watch",
    "forget_old",
    "is_due",
    "log_new_table",
    "log_renamed",
    "newer_events",
    "require_known",
    "tell",
    "touch_watch",
]

ALL: Final = ""
"""The name under which somebody watches every collection."""
REPLACED: Final = 2
"""By how much the version grows where a document is replaced; an update adds 1. So the trigger can tell them apart."""
KEPT_S: Final = 86_400.0
PAGE: Final = 500
PURGED_AT_ONCE: Final = 2000

CHANGE_STEP: Final = """
    CREATE TABLE consona_document_changes (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,            -- seconds since the epoch
        collection TEXT NOT NULL,
        kind TEXT NOT NULL,
        id ANY,
        before BLOB,
        after BLOB
    ) STRICT;
    CREATE INDEX consona_document_changes_at ON consona_document_changes (at);
    CREATE TABLE consona_document_watches (
        collection TEXT PRIMARY KEY, -- '': all
        since INTEGER NOT NULL,      -- what came after this change is known
        used REAL NOT NULL           -- when somebody last watched
    ) STRICT, WITHOUT ROWID
    """

_HEAD: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'consona_document_changes'"
_INSERT: Final = "INSERT INTO consona_document_changes (at, collection, kind, id, before, after)"
_NOW: Final = "unixepoch('subsec')"


def begin_watch(db: apsw.Connection, collection: str | None, now: float) -> int:
    """Write changes down from now on, if nobody watches already. Returns the number of the last change."""
    name = ALL if collection is None else collection
    if db.execute("SELECT 1 FROM consona_document_watches WHERE collection = ?", (name,)).get is None:
        tell(db, name, "watch", None, now)  # so that tokens from before a time without a watch are told apart
        head: Any = db.execute(_HEAD).get
        db.execute("INSERT INTO consona_document_watches VALUES (?, ?, ?)", (name, head, now))
        for table in all_tables(db) if collection is None else [created(db, collection)]:
            _log(db, table)
    else:
        touch_watch(db, collection, now)
    last: int = db.execute(_HEAD).get
    return last


def touch_watch(db: apsw.Connection, collection: str | None, now: float) -> None:
    """Note that somebody watches."""
    name = ALL if collection is None else collection
    db.execute("UPDATE consona_document_watches SET used = ? WHERE collection = ?", (now, name))


def require_known(db: apsw.Connection, collection: str | None, after: int) -> None:
    """Refuse to go on after a change when what came next may be unknown.

    Raises:
        ChangesLost: It is.
    """
    since: Any = db.execute(
        "SELECT min(since) FROM consona_document_watches WHERE collection IN (?, ?)", (collection or ALL, ALL)
    ).get
    if since is None or after < since or after > db.execute(_HEAD).get:
        raise ChangesLost("What changed after this token is not known any more.")


def newer_events(db: apsw.Connection, collection: str | None, after: int) -> tuple[list[Event], int]:
    """The changes after one, and the number up to which these are all; at most 500."""
    require_known(db, collection, after)
    head: int = db.execute(_HEAD).get
    condition = "" if collection is None else " AND collection = ?"
    rows: list[Any] = db.execute(
        "SELECT seq, at, collection, kind, id, json(before), json(after) FROM consona_document_changes"
        f" WHERE seq > ?{condition} AND kind <> 'watch' ORDER BY seq LIMIT ?",
        (after, *(() if collection is None else (collection,)), PAGE),
    ).fetchall()
    events = [_event(*row) for row in rows]
    return events, int(events[-1].token) if len(events) == PAGE else head


def _event(
    seq: int, at: float, collection: str, kind: Any, identity: Any, before: str | None, after: str | None
) -> Event:
    images = [None if text is None else read_document(identity, text) for text in (before, after)]
    known = next((image for image in images if image is not None), None)
    return Event(
        token=str(seq),
        kind=kind,
        collection=collection,
        key=decoded_id(identity) if known is None else known["_id"],
        before=images[0],
        after=images[1],
        at=at,
    )


def tell(db: apsw.Connection, collection: str, kind: str, detail: Any, now: float) -> None:
    """Write down a change of a collection itself."""
    db.execute(f"{_INSERT} VALUES (?, ?, ?, ?, NULL, NULL)", (now, collection, kind, detail))


def log_new_table(db: apsw.Connection, table: Table) -> Table:
    """Write down the changes of a collection that was made now, where somebody watches all of them."""
    if db.execute("SELECT 1 FROM consona_document_watches WHERE collection = ?", (ALL,)).get is None:
        return table
    return _log(db, table)


def _log(db: apsw.Connection, table: Table) -> Table:
    if table.logged:
        return table
    text = "'" + table.name.replace("'", "''") + "'"
    kind = f"CASE new.version - old.version WHEN {REPLACED} THEN 'replace' ELSE 'update' END"
    for when, event, values in (
        ("insert", "INSERT", "'insert', new.id, NULL, new.data"),
        ("update", "UPDATE OF data", f"{kind}, new.id, old.data, new.data"),
        ("delete", "DELETE", "'delete', old.id, old.data, NULL"),
    ):
        db.execute(
            f"CREATE TRIGGER {_trigger(table, when)} AFTER {event} ON {table.sql}"
            f" BEGIN {_INSERT} VALUES ({_NOW}, {text}, {values}); END"
        )
    logged = replace(table, logged=True)
    save(db, logged)
    return logged


def log_renamed(db: apsw.Connection, table: Table) -> None:
    """Let the triggers of a renamed collection tell its new name."""
    if table.logged:
        _stop(db, table)
        _log(db, replace(table, logged=False))


def _stop(db: apsw.Connection, table: Table) -> None:
    for when in ("insert", "update", "delete"):
        db.execute(f"DROP TRIGGER IF EXISTS {_trigger(table, when)}")
    save(db, replace(table, logged=False))


def _trigger(table: Table, when: str) -> str:
    return quoted(f"{table.table} watched {when}")


def forget_old(db: apsw.Connection, now: float) -> int:
    """Remove what is older than a day, and end what nobody watches any more. Returns how many changes were removed."""
    rows = db.execute(
        "SELECT seq FROM consona_document_changes WHERE at < ? ORDER BY at LIMIT ?", (now - KEPT_S, PURGED_AT_ONCE)
    )
    old = rows.fetchall()
    if old:
        db.executemany("DELETE FROM consona_document_changes WHERE seq = ?", old)
        db.execute("UPDATE consona_document_watches SET since = max(since, ?)", max(old))
    for (name,) in db.execute(
        "SELECT collection FROM consona_document_watches WHERE used < ?", (now - KEPT_S,)
    ).fetchall():
        db.execute("DELETE FROM consona_document_watches WHERE collection = ?", (name,))
    watched = {name for (name,) in db.execute("SELECT collection FROM consona_document_watches")}
    if ALL not in watched:
        for table in all_tables(db):
            if table.logged and table.name not in watched:
                _stop(db, table)
    return len(old)


def is_due(db: apsw.Connection, now: float) -> bool:
    """Whether `forget_old` has something to do."""
    sql = (
        "SELECT EXISTS (SELECT 1 FROM consona_document_changes WHERE at < ?)"
        " OR EXISTS (SELECT 1 FROM consona_document_watches WHERE used < ?)"
    )
    return bool(db.execute(sql, (now - KEPT_S, now - KEPT_S)).get)
