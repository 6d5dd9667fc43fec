"""The store in a SQLite file, shared by all processes that name it, and by the other parts of this one.

One table. A row's id is its version, new with each change, so what changed since version n are the
rows behind n, in the order in which it happened. A deleted key stays for a minute as a row without
a value, which tells watchers of other processes; then it is purged.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import apsw

from consona.address import Address
from consona.errors import QueryError
from consona.storage.schema import prepare
from consona.storage.sqlite_engine import SQLiteEngine, open_sqlite
from consona.storage.store import Change, Item
from consona.storage.sweeping import Sweeper
from consona.storage.transaction import SharedTransaction

__all__ = ["SQLiteStore"]

SWEEP_LIMIT: Final = 500
PAGE_BYTES: Final = 4 << 20
WATCH_PAGE: Final = 500
GRAVE_S: Final = 60.0
"""How long a deleted key can still be told to a watcher."""

STEPS: Final = (
    """
    CREATE TABLE consona_store (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        value BLOB,        -- NULL: deleted
        expires REAL       -- seconds since the epoch; of a deleted key: when it is purged
    ) STRICT;
    CREATE INDEX consona_store_expires ON consona_store (expires) WHERE expires IS NOT NULL;
    CREATE TABLE consona_store_purged (version INTEGER NOT NULL) STRICT;
    INSERT INTO consona_store_purged VALUES (0);
    """,
)

_WRITE: Final = "INSERT OR REPLACE INTO consona_store (key, value, expires) VALUES (?, ?, ?)"
_VERSION: Final = """
    SELECT version FROM consona_store WHERE key = ? AND value IS NOT NULL AND (expires IS NULL OR expires > ?)"""
_GET: Final = """
    SELECT key, value, version, expires FROM consona_store
    WHERE key = ? AND value IS NOT NULL AND (expires IS NULL OR expires > ?)"""
_SCAN: Final = """
    SELECT key, value, version, expires FROM consona_store
    WHERE key >= ? AND key < ? AND value IS NOT NULL AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?"""
# The plus keeps SQLite from walking the whole prefix through the index on keys: few rows are new.
_NEWER: Final = """
    SELECT key, value, version, expires FROM consona_store
    WHERE version > ? AND +key >= ? AND +key < ? ORDER BY version LIMIT ?"""
_HEAD: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'consona_store'"
_BEHIND_ALL: Final = "\U0010ffff" * 129
"""Greater than every key: keys have at most 512 bytes."""


class SQLiteStore:
    """`sqlite:///app.db`, or `sqlite://` for memory shared by the process."""

    def __init__(
        self,
        address: Address,
        *,
        clock: Callable[[], float] = time.time,
        engine: SQLiteEngine | None = None,
        tx: SharedTransaction | None = None,
    ) -> None:
        self._address = address
        self._clock = clock
        self._engine = engine
        self._tx = tx
        self._sweeper = Sweeper(self.sweep)

    async def open(self) -> None:
        engine = await open_sqlite(self._address)
        try:
            await engine.write(lambda db: prepare(db, "store", STEPS))
        except BaseException:
            await engine.close()
            raise
        self._engine = engine
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        engine, self._engine = self._opened(), None
        await engine.close()

    def inside(self, tx: SharedTransaction) -> SQLiteStore:
        return SQLiteStore(self._address, clock=self._clock, engine=self._opened(), tx=tx)

    async def get(self, key: str) -> Item | None:
        def look_up(db: apsw.Connection) -> Item | None:
            row = db.execute(_GET, (key, self._clock())).fetchone()
            return None if row is None else Item(*row)

        if self._tx is not None:
            return await self._opened().read(look_up, tx=self._tx)
        return await self._opened().read_now(look_up)

    async def put_if(self, key: str, value: bytes, *, version: int | None, ttl_s: float | None) -> int | None:
        def put(db: apsw.Connection) -> int | None:
            now = self._clock()
            if version is not None and version != (db.execute(_VERSION, (key, now)).get or 0):
                return None
            db.execute(_WRITE, (key, value, None if ttl_s is None else now + ttl_s))
            return db.last_insert_rowid()

        return await self._opened().write(put, tx=self._tx)

    async def delete(self, key: str, *, version: int | None) -> bool:
        def delete(db: apsw.Connection) -> bool:
            now = self._clock()
            present = db.execute(_VERSION, (key, now)).get
            if present is None or version not in {None, present}:
                return False
            db.execute(_WRITE, (key, None, now + GRAVE_S))
            return True

        return await self._opened().write(delete, tx=self._tx)

    async def scan(self, prefix: str, *, after: str, limit: int) -> list[Item]:
        begin = f"{after}\x01" if after >= prefix else prefix  # keys hold no control characters

        def read_page(db: apsw.Connection) -> list[Item]:
            page, size = [], 0
            for row in db.execute(_SCAN, (begin, _behind(prefix), self._clock(), limit)):
                item = Item(*row)
                page.append(item)
                size += len(item.value)
                if size >= PAGE_BYTES:
                    break
            return page

        return await self._opened().read(read_page, tx=self._tx)

    async def watch(self, prefix: str) -> AsyncIterator[list[Change]]:
        engine = self._opened()
        seen = engine.data_version()
        _, _, since = await engine.read(partial(_newer, since=1 << 62, prefix=prefix, now=0.0))
        last = ""
        while page := await self.scan(prefix, after=last, limit=WATCH_PAGE):
            last = page[-1].key
            yield [Change(item.key, item.value, item.version) for item in page]
        while self._engine is engine:
            purged, changes, head = await engine.read(partial(_newer, since=since, prefix=prefix, now=self._clock()))
            if since < purged:
                raise QueryError(
                    f"This watch of {engine.name} fell more than {GRAVE_S:g} s behind, so deletions may have escaped it.",
                    hint="Do less between two changes, and begin the watch again.",
                )
            if changes:
                yield changes
            if head > since:
                since = head
            else:
                seen = await engine.changed(seen, timeout=0.5)

    async def sweep(self) -> int:
        """Mark expired items as deleted and purge old marks, at most 500 of each. Returns how many there were."""
        engine, now = self._opened(), self._clock()
        due = "SELECT 1 FROM consona_store WHERE expires <= ? LIMIT 1"
        if await engine.read_now(lambda db: db.execute(due, (now,)).get) is None:
            return 0
        return await engine.write(lambda db: _sweep(db, now))

    def stats(self) -> dict[str, Any]:
        return self._opened().stats()

    def _opened(self) -> SQLiteEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _behind(prefix: str) -> str:
    """The smallest text that is greater than everything that begins with `prefix`."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)  # no halves of surrogate pairs
        prefix = prefix[:-1]
    return _BEHIND_ALL


def _newer(db: apsw.Connection, *, since: int, prefix: str, now: float) -> tuple[int, list[Change], int]:
    """What was purged, the changes after version `since`, and the version up to which that is all."""
    purged: Any = db.execute("SELECT version FROM consona_store_purged").get
    head: Any = db.execute(_HEAD).get
    rows: list[Any] = db.execute(_NEWER, (since, prefix, _behind(prefix), WATCH_PAGE)).fetchall()
    # What has expired is told when it is swept, as deleted.
    changes = [Change(key, value, version) for key, value, version, end in rows if not _expired(value, end, now)]
    return purged, changes, rows[-1][2] if len(rows) == WATCH_PAGE else head


def _expired(value: bytes | None, expires: float | None, now: float) -> bool:
    return value is not None and expires is not None and expires <= now


def _sweep(db: apsw.Connection, now: float) -> int:
    expired = "SELECT key FROM consona_store WHERE expires <= ? AND value IS NOT NULL LIMIT ?"
    keys = db.execute(expired, (now, SWEEP_LIMIT)).fetchall()
    db.executemany(_WRITE, [(key, None, now + GRAVE_S) for (key,) in keys])
    old = "SELECT version FROM consona_store WHERE expires <= ? AND value IS NULL LIMIT ?"
    marks = db.execute(old, (now, SWEEP_LIMIT)).fetchall()
    if marks:
        db.executemany("DELETE FROM consona_store WHERE version = ?", marks)
        db.execute("UPDATE consona_store_purged SET version = max(version, ?)", max(marks))
    return len(keys) + len(marks)
