"""The log in a SQLite file, shared by all processes that name it, and by the other parts of this one.

A record's row id is its stream's number times 2^40, plus its position: so a stream lies together in the
file, in order, and needs no index. SQLite has one writer at a time, so positions have no gaps, and what
is visible is complete up to the newest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw

from consona.address import Address
from consona.log.log import Entry, Page, Record, Retention
from consona.log.trimming import outdated
from consona.storage.headers import packed, unpacked
from consona.storage.schema import prepare
from consona.storage.sqlite_engine import SQLiteEngine, open_sqlite
from consona.storage.transaction import SharedTransaction

__all__ = ["SQLiteLog"]

SHIFT: Final = 40
TRIM_LIMIT: Final = 1000
"""How many rows one write removes at most, so that others need not wait."""

STEPS: Final = (
    """
    CREATE TABLE consona_log_streams (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        begin INTEGER NOT NULL DEFAULT 0,    -- the position before the oldest record
        last INTEGER NOT NULL DEFAULT 0,     -- the position of the newest
        at REAL NOT NULL,                    -- its time
        size INTEGER NOT NULL DEFAULT 0      -- bytes of all records
    ) STRICT;
    CREATE TABLE consona_log (
        id INTEGER PRIMARY KEY,              -- stream << 40 | position
        at REAL NOT NULL,                    -- seconds since the epoch, never less than the one before
        headers BLOB,                        -- a MessagePack map of texts; NULL for none
        body BLOB NOT NULL
    ) STRICT;
    """,
)

_STREAM: Final = "SELECT id, begin, last, at, size FROM consona_log_streams WHERE name = ?"
_ADD: Final = """
    INSERT INTO consona_log_streams (name, last, at, size) VALUES (?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET last = last + excluded.last, at = max(at, excluded.at), size = size + excluded.size
    RETURNING id, last, at"""
_APPEND: Final = "INSERT INTO consona_log (id, at, headers, body) VALUES (?, ?, ?, ?)"
_READ: Final = "SELECT id, at, headers, body FROM consona_log WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
_SIZES: Final = """
    SELECT id, at, length(body) + coalesce(length(headers), 0) FROM consona_log
    WHERE id > ? AND id < ? ORDER BY id LIMIT ?"""


class SQLiteLog:
    """`sqlite:///bus.db`, or `sqlite://` for memory shared by the process."""

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

    async def open(self) -> None:
        engine = await open_sqlite(self._address)
        try:
            await engine.write(lambda db: prepare(db, "log", STEPS))
        except BaseException:
            await engine.close()
            raise
        self._engine = engine

    async def close(self) -> None:
        engine, self._engine = self._opened(), None
        await engine.close()

    def inside(self, tx: SharedTransaction) -> SQLiteLog:
        return SQLiteLog(self._address, clock=self._clock, engine=self._opened(), tx=tx)

    async def append(self, stream: str, entries: Sequence[Entry]) -> list[int]:
        rows = [(packed(entry.headers), entry.body) for entry in entries]
        size = sum(len(headers or b"") + len(body) for headers, body in rows)

        def append(db: apsw.Connection) -> list[int]:
            row: Any = db.execute(_ADD, (stream, len(rows), self._clock(), size)).fetchone()
            number, last, at = row
            first = last - len(rows) + 1
            base = number << SHIFT
            db.executemany(_APPEND, [(base + first + i, at, *fields) for i, fields in enumerate(rows)])
            return list(range(first, last + 1))

        return await self._opened().write(append, tx=self._tx)

    async def read(self, stream: str, *, after: int, limit: int, max_bytes: int) -> Page:
        def read(db: apsw.Connection) -> Page:
            row: Any = db.execute(_STREAM, (stream,)).fetchone()
            if row is None:
                return Page([], 0)
            number, begin, last, _, _ = row
            base = number << SHIFT
            page, size = [], 0
            for key, at, headers, body in db.execute(_READ, (base + min(after, last), base + (1 << SHIFT), limit)):
                page.append(Record(key - base, at, body, unpacked(headers)))
                size += len(body)
                if size >= max_bytes:
                    break
            return Page(page, begin)

        return await self._opened().read(read, tx=self._tx)

    async def wait(self, stream: str, *, after: int, timeout_s: float) -> None:
        engine = self._opened()
        until = time.monotonic() + timeout_s
        seen = engine.data_version()
        while await self._last(stream) <= after:
            left = until - time.monotonic()
            if left <= 0 or self._engine is not engine:
                return
            seen = await engine.changed(seen, timeout=left)

    async def trim(self, stream: str, retention: Retention) -> int:
        total = 0
        while trimmed := await self._trim_some(stream, retention):
            total += trimmed
            if trimmed < TRIM_LIMIT:
                break
        return total

    async def locate(self, stream: str, at: float) -> int:
        def locate(db: apsw.Connection) -> int:
            row: Any = db.execute(_STREAM, (stream,)).fetchone()
            if row is None:
                return 0
            number, low, high, newest, _ = row
            if at > newest:
                return int(high)
            while low < high:  # times never fall, so halving finds the place
                middle = (low + high) // 2
                key = (number << SHIFT) + middle + 1
                if db.execute("SELECT at FROM consona_log WHERE id = ?", (key,)).get < at:
                    low = middle + 1
                else:
                    high = middle
            return int(low)

        if self._tx is not None:
            return await self._opened().read(locate, tx=self._tx)
        return await self._opened().read_now(locate)

    async def _last(self, stream: str) -> int:
        def last(db: apsw.Connection) -> int:
            row = db.execute(_STREAM, (stream,)).fetchone()
            return 0 if row is None else row[2]

        return await self._opened().read_now(last)

    async def _trim_some(self, stream: str, retention: Retention) -> int:
        now = self._clock()
        # Looked at beside the writer first: mostly there is nothing to do.
        found = await self._opened().read(lambda db: _outdated(db, stream, retention, now))
        if not found:
            return 0
        return await self._opened().write(lambda db: _trim(db, stream, retention, now))

    def _opened(self) -> SQLiteEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _outdated(db: apsw.Connection, stream: str, retention: Retention, now: float) -> list[tuple[int, float, int]]:
    """(row id, time, bytes) of the oldest records that go, at most `TRIM_LIMIT`."""
    row: Any = db.execute(_STREAM, (stream,)).fetchone()
    if row is None:
        return []
    number, begin, last, _, size = row
    base = number << SHIFT
    rows: Any = db.execute(_SIZES, (base + begin, base + (1 << SHIFT), TRIM_LIMIT))
    return outdated(rows, retention, records=last - begin, size=size, now=now)


def _trim(db: apsw.Connection, stream: str, retention: Retention, now: float) -> int:
    found = _outdated(db, stream, retention, now)
    if found:
        first, last = found[0][0], found[-1][0]
        db.execute("DELETE FROM consona_log WHERE id BETWEEN ? AND ?", (first, last))
        position = last & ((1 << SHIFT) - 1)
        freed = sum(length for _, _, length in found)
        db.execute(
            "UPDATE consona_log_streams SET begin = ?, size = size - ? WHERE name = ?", (position, freed, stream)
        )
    return len(found)
