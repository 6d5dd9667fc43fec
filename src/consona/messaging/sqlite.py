"""Queues in a SQLite file, shared by all processes that name it, and by the other parts of this one.

One row for each message; `due` is when it can be taken, so a lease, a delay and a retry are the same
thing: a time in the future. Of each key only the first message is `free`; settling it frees the next.
"""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import apsw
import msgspec

from consona.address import Address
from consona.messaging.engine import DeadLetter, Depth, Entry, Failure, Lease, Power
from consona.messaging.sqlite_schema import STEPS
from consona.messaging.taking import taken
from consona.storage.headers import packed, unpacked
from consona.storage.schema import prepare
from consona.storage.sqlite_engine import SQLiteEngine, open_sqlite
from consona.storage.sweeping import Sweeper
from consona.storage.transaction import SharedTransaction

__all__ = ["SQLiteQueues"]

AGING_S: Final = 60.0
"""One step of priority counts as much as this many seconds of waiting."""
SWEEP_LIMIT: Final = 500
MAX_FAILURES: Final = 10

_COUNT: Final = """
    INSERT INTO consona_queues (name, messages, priorities) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET messages = messages + excluded.messages, priorities = priorities | excluded.priorities
    RETURNING id"""
_KNOWN: Final = "SELECT id, priorities, messages FROM consona_queues WHERE name = ?"
_PUT: Final = """
    INSERT INTO consona_queue (queue, free, priority, due, put_at, key, headers, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_HEAD: Final = "SELECT id FROM consona_queue WHERE queue = ? AND key = ? ORDER BY id LIMIT 1"
_FREE: Final = """
    UPDATE consona_queue SET free = 1
    WHERE id = (SELECT id FROM consona_queue WHERE queue = ? AND key = ? ORDER BY id LIMIT 1)"""
_READY: Final = """
    SELECT due, id, priority, attempt, token, failures FROM consona_queue
    WHERE queue = ? AND free = 1 AND priority = ? AND due <= ? ORDER BY due, id LIMIT ?"""
_NEXT_DUE: Final = "SELECT min(due) FROM consona_queue WHERE queue = ? AND free = 1 AND priority = ?"
_LEASE: Final = """
    UPDATE consona_queue SET attempt = attempt + 1, due = ?, token = ?, failures = ?
    WHERE id = ? RETURNING id, body, headers, attempt, put_at, due, token, priority, key, failures"""
_HELD: Final = "SELECT queue, key, attempt, failures FROM consona_queue WHERE id = ? AND token = ?"
_SETTLE: Final = "DELETE FROM consona_queue WHERE id = ? AND token = ? RETURNING queue, key"
_DEAD: Final = """
    SELECT id, body, headers, attempt, put_at, died_at, reason, priority, key, failures FROM consona_queue_dead
    WHERE queue = (SELECT id FROM consona_queues WHERE name = ?) AND place > ? ORDER BY place LIMIT ?"""


class SQLiteQueues:
    """`sqlite:///work.db`, or `sqlite://` for memory shared by the process."""

    powers: ClassVar[frozenset[Power]] = frozenset(Power)

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
        self._sweeper = Sweeper(self.sweep, pause_s=5.0)

    async def open(self) -> None:
        engine = await open_sqlite(self._address)
        try:
            await engine.write(lambda db: prepare(db, "queue", STEPS))
        except BaseException:
            await engine.close()
            raise
        self._engine = engine
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        engine, self._engine = self._opened(), None
        await engine.close()

    def inside(self, tx: SharedTransaction) -> SQLiteQueues:
        return SQLiteQueues(self._address, clock=self._clock, engine=self._opened(), tx=tx)

    async def put(self, queue: str, entries: Sequence[Entry]) -> list[str]:
        now = self._clock()
        return await self._opened().write(lambda db: _put(db, queue, entries, now), tx=self._tx)

    async def take(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Lease]:
        engine = self._opened()
        until = time.monotonic() + wait_s
        while True:
            seen = engine.data_version()
            due = await engine.read_now(lambda db: _next_due(db, queue))
            now = self._clock()
            if due is not None and due <= now:
                leases = await self._take(queue, limit, lease_s)
                if leases:
                    return leases
                continue  # another was faster
            left = until - time.monotonic()
            if left <= 0 or self._engine is not engine:
                return []
            await engine.changed(seen, timeout=left if due is None else min(left, due - now))

    async def _take(self, queue: str, limit: int, lease_s: float) -> list[Lease]:
        taking = self._opened().write(lambda db: _take(db, queue, limit, lease_s, self._clock()))
        return await taken(taking, lambda lease: self.release(queue, lease, delay_s=0.0, error="", dead=False))

    async def settle(self, queue: str, leases: Sequence[Lease]) -> list[Lease]:
        del queue  # ids are of one queue
        return await self._opened().write(lambda db: _settle(db, leases), tx=self._tx)

    async def release(self, queue: str, lease: Lease, *, delay_s: float, error: str, dead: bool) -> bool:
        del queue
        now = self._clock()
        return await self._opened().write(lambda db: _release(db, lease, now, delay_s, error, dead=dead))

    async def extend(self, queue: str, lease: Lease, *, lease_s: float) -> Lease | None:
        del queue
        until = self._clock() + lease_s

        def extend(db: apsw.Connection) -> bool:
            db.execute(
                "UPDATE consona_queue SET due = ? WHERE id = ? AND token = ?", (until, int(lease.id), lease.token)
            )
            return bool(db.changes())

        return replace(lease, until=until) if await self._opened().write(extend) else None

    async def depth(self, queue: str) -> Depth:
        now = self._clock()
        return await self._opened().read(lambda db: _depth(db, queue, now))

    async def queues(self) -> list[str]:
        rows = await self._opened().read(lambda db: db.execute("SELECT name FROM consona_queues ORDER BY name"))
        return [name for (name,) in rows]

    async def dead(self, queue: str, *, after: str, limit: int) -> list[DeadLetter]:
        def dead(db: apsw.Connection) -> list[DeadLetter]:
            place = db.execute("SELECT place FROM consona_queue_dead WHERE id = ?", (int(after or 0),)).get or 0
            return [_letter(row) for row in db.execute(_DEAD, (queue, place, limit))]

        return await self._opened().read(dead)

    async def redrive(self, queue: str, ids: Sequence[str], *, replacement: Entry | None) -> int:
        now = self._clock()
        return await self._opened().write(lambda db: _redrive(db, queue, ids, replacement, now))

    async def bury(self, queue: str, ids: Sequence[str]) -> int:
        def bury(db: apsw.Connection) -> int:
            sql = (
                "DELETE FROM consona_queue_dead WHERE id = ? AND queue = (SELECT id FROM consona_queues WHERE name = ?)"
            )
            return sum(db.execute(f"{sql} RETURNING 1", (int(number), queue)).get or 0 for number in ids)

        return await self._opened().write(bury)

    async def sweep(self) -> int:
        """Forget duplicates whose window is over, at most 500. Returns how many."""
        now = self._clock()
        due = "SELECT queue, dedup FROM consona_queue_seen WHERE until <= ? LIMIT ?"
        if await self._opened().read_now(lambda db: db.execute(due, (now, 1)).fetchone()) is None:
            return 0

        def forget(db: apsw.Connection) -> int:
            found = db.execute(due, (now, SWEEP_LIMIT)).fetchall()
            db.executemany("DELETE FROM consona_queue_seen WHERE queue = ? AND dedup = ?", found)
            return len(found)

        return await self._opened().write(forget)

    def _opened(self) -> SQLiteEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _put(db: apsw.Connection, queue: str, entries: Sequence[Entry], now: float) -> list[str]:
    mask = 0
    for entry in entries:
        mask |= 1 << entry.priority
    number: Any = db.execute(_COUNT, (queue, len(entries), mask)).get
    if not any(entry.key or entry.dedup for entry in entries):
        db.executemany(_PUT, [_row(number, entry, now, free=True) for entry in entries])
        last = db.last_insert_rowid()
        return [str(name) for name in range(last - len(entries) + 1, last + 1)]
    ids = [_put_one(db, number, entry, now) for entry in entries]
    if duplicates := sum(1 for _, is_new in ids if not is_new):
        db.execute("UPDATE consona_queues SET messages = messages - ? WHERE id = ?", (duplicates, number))
    return [str(name) for name, _ in ids]


def _put_one(db: apsw.Connection, number: int, entry: Entry, now: float) -> tuple[int, bool]:
    if entry.dedup:
        seen = "SELECT message FROM consona_queue_seen WHERE queue = ? AND dedup = ? AND until > ?"
        first: Any = db.execute(seen, (number, entry.dedup, now)).get
        if first is not None:
            return first, False
    free = not entry.key or db.execute(_HEAD, (number, entry.key)).get is None
    db.execute(_PUT, _row(number, entry, now, free=free))
    name = db.last_insert_rowid()
    if entry.dedup:
        row = (number, entry.dedup, name, now + entry.dedup_s)
        db.execute("INSERT OR REPLACE INTO consona_queue_seen VALUES (?, ?, ?, ?)", row)
    return name, True


def _row(number: int, entry: Entry, now: float, *, free: bool) -> tuple[Any, ...]:
    due = now + entry.delay_s
    return number, free, entry.priority, due, now, entry.key or None, packed(entry.headers), entry.body


def _priorities(db: apsw.Connection, queue: str) -> Iterator[tuple[int, int]]:
    """(the queue's number, a priority that was ever used in it), for each."""
    row: Any = db.execute(_KNOWN, (queue,)).fetchone()
    if row is not None:
        for priority in range(row[1].bit_length()):
            if row[1] >> priority & 1:
                yield row[0], priority


def _next_due(db: apsw.Connection, queue: str) -> float | None:
    dues: list[Any] = [db.execute(_NEXT_DUE, place).get for place in _priorities(db, queue)]
    return min((due for due in dues if due is not None), default=None)


def _take(db: apsw.Connection, queue: str, limit: int, lease_s: float, now: float) -> list[Lease]:
    ready: list[Any] = []
    for place in _priorities(db, queue):
        ready += db.execute(_READY, (*place, now, limit))
    leases = []
    for due, name, _, attempt, token, failures in heapq.nsmallest(limit, ready, key=_rank):
        # Of one that is held the lease has ended, so its worker is dead or too slow.
        known = failures if token is None else _with_failure(failures, Failure(attempt, due, ""))
        row: Any = db.execute(_LEASE, (now + lease_s, secrets.token_hex(8), known, name)).fetchone()
        leases.append(_lease(row))
    return leases


def _rank(row: Any) -> tuple[float, int]:
    return row[0] - AGING_S * row[2], row[1]


def _settle(db: apsw.Connection, leases: Sequence[Lease]) -> list[Lease]:
    lost = []
    gone: dict[int, int] = {}
    for lease in leases:
        row: Any = db.execute(_SETTLE, (int(lease.id), lease.token)).fetchone()
        if row is None:
            lost.append(lease)
            continue
        gone[row[0]] = gone.get(row[0], 0) + 1
        _free_next(db, *row)
    for number, count in gone.items():
        db.execute("UPDATE consona_queues SET messages = messages - ? WHERE id = ?", (count, number))
    return lost


def _release(db: apsw.Connection, lease: Lease, now: float, delay_s: float, error: str, *, dead: bool) -> bool:
    held: Any = db.execute(_HELD, (int(lease.id), lease.token)).fetchone()
    if held is None:
        return False
    number, key, attempt, failures = held
    if error:
        failures = _with_failure(failures, Failure(attempt, now, error))
    else:
        attempt -= 1
    sql = "UPDATE consona_queue SET due = ?, token = NULL, attempt = ?, failures = ? WHERE id = ?"
    db.execute(sql, (now + delay_s, attempt, failures, int(lease.id)))
    if dead:
        db.execute(
            """INSERT INTO consona_queue_dead
                (id, queue, body, headers, attempt, put_at, died_at, reason, priority, key, failures)
            SELECT id, queue, body, headers, attempt, put_at, ?, ?, priority, key, failures FROM consona_queue
            WHERE id = ?""",
            (now, error, int(lease.id)),
        )
        db.execute("DELETE FROM consona_queue WHERE id = ?", (int(lease.id),))
        db.execute("UPDATE consona_queues SET messages = messages - 1 WHERE id = ?", (number,))
        _free_next(db, number, key)
    return True


def _free_next(db: apsw.Connection, number: int, key: str | None) -> None:
    if key is not None:
        db.execute(_FREE, (number, key))


def _depth(db: apsw.Connection, queue: str, now: float) -> Depth:
    row: Any = db.execute(_KNOWN, (queue,)).fetchone()
    if row is None:
        return Depth()
    number, _, messages = row
    held = "SELECT count(*) FROM consona_queue WHERE queue = ? AND token IS NOT NULL AND due > ?"
    later = "SELECT count(*) FROM consona_queue WHERE queue = ? AND free = 1 AND priority = ? AND due > ?"
    leased: Any = db.execute(held, (number, now)).get
    coming: Any = sum(db.execute(later, (*place, now)).get for place in _priorities(db, queue))
    dead: Any = db.execute("SELECT count(*) FROM consona_queue_dead WHERE queue = ?", (number,)).get
    return Depth(ready=messages - coming, delayed=coming - leased, leased=leased, dead=dead)


def _redrive(db: apsw.Connection, queue: str, ids: Sequence[str], new: Entry | None, now: float) -> int:
    taken = """
        DELETE FROM consona_queue_dead WHERE id = ? AND queue = (SELECT id FROM consona_queues WHERE name = ?)
        RETURNING body, headers, priority, key"""
    entries = []
    for name in ids:
        row: Any = db.execute(taken, (int(name), queue)).fetchone()
        if row is not None:
            body, headers, priority, key = row
            letter = Entry(body, unpacked(headers), priority=priority, key=key or "")
            entries.append(letter if new is None else replace(letter, body=new.body, headers=new.headers))
    if entries:
        _put(db, queue, entries, now)
    return len(entries)


def _lease(row: Any) -> Lease:
    name, body, headers, attempt, put_at, until, token, priority, key, failures = row
    return Lease(
        id=str(name),
        body=body,
        headers=unpacked(headers),
        attempt=attempt,
        put_at=put_at,
        until=until,
        token=token,
        priority=priority,
        key=key or "",
        failures=_failures(failures),
    )


def _letter(row: Any) -> DeadLetter:
    name, body, headers, attempts, put_at, died_at, reason, priority, key, failures = row
    return DeadLetter(
        id=str(name),
        body=body,
        headers=unpacked(headers),
        attempts=attempts,
        put_at=put_at,
        died_at=died_at,
        reason=reason,
        priority=priority,
        key=key or "",
        failures=_failures(failures),
    )


def _with_failure(failures: bytes | None, failure: Failure) -> bytes:
    return msgspec.msgpack.encode([*_failures(failures), failure][-MAX_FAILURES:])


def _failures(failures: bytes | None) -> list[Failure]:
    return [] if failures is None else _decode_failures(failures)


_decode_failures: Final = msgspec.msgpack.Decoder(list[Failure]).decode
