"""Queues in a PostgreSQL database, shared by all processes that name it, and by the other parts of this one.

One row for each message; `due` is when it can be taken, so a lease, a delay and a retry are the same
thing: a time in the future. Takers step over rows that another one is just taking (SKIP LOCKED). Of each
key only the first message is `free`; settling it frees the next. Times are the server's.

Source: https://www.postgresql.org/docs/current/sql-select.html#SQL-FOR-UPDATE-SHARE
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import msgspec

from consona.address import Address
from consona.messaging.engine import DeadLetter, Depth, Entry, Failure, Lease, Power
from consona.messaging.postgresql_schema import STEPS
from consona.messaging.taking import taken
from consona.storage.headers import packed, unpacked
from consona.storage.postgresql.engine import PostgreSQLEngine, open_postgresql
from consona.storage.postgresql.schema import prepare
from consona.storage.postgresql.sharing import NOW, joined, now, ring
from consona.storage.postgresql.transaction import PostgreSQLTransaction
from consona.storage.sweeping import Sweeper
from consona.storage.transaction import SharedTransaction

__all__ = ["PostgreSQLQueues"]

SWEEP_LIMIT: Final = 500
POLL_S: Final = 0.5
"""How often a waiting taker looks without being told."""
FIRST_PAUSE_S: Final = 0.005

_NAME: Final = "INSERT INTO consona_queues VALUES ($1) ON CONFLICT DO NOTHING"
# Also those whose name comes with a transaction that puts.
_QUEUES: Final = """
    WITH RECURSIVE held AS (
        SELECT min(queue) AS name FROM consona_queue
        UNION ALL SELECT (SELECT min(queue) FROM consona_queue WHERE queue > held.name) FROM held WHERE name IS NOT NULL)
    SELECT name FROM consona_queues UNION SELECT name FROM held WHERE name IS NOT NULL
    UNION SELECT queue FROM consona_queue_dead ORDER BY name"""
_PUT: Final = f"""
    INSERT INTO consona_queue (queue, free, priority, due, put_at, headers, body)
    SELECT $1, true, e.priority, at + e.delay, at, e.headers, e.body
    FROM unnest($3::integer[], $4::float8[], $5::bytea[], $6::bytea[])
        WITH ORDINALITY AS e (priority, delay, headers, body, place), (SELECT {NOW.format("$2")} AS at) AS clock
    ORDER BY e.place RETURNING id"""
_PUT_KEPT: Final = f"SELECT consona_queue_put($1, {NOW.format('$2')}, $3, $4, $5, $6, $7, $8, $9)"
_TAKE: Final = f"SELECT * FROM consona_queue_take($1, {NOW.format('$2')}, $3, $4, $5)"
_NEXT_DUE: Final = f"""
    SELECT min(next.due) - {NOW.format("$2")} FROM generate_series(0, 9) AS p (priority), LATERAL (
        SELECT due FROM consona_queue WHERE queue = $1 AND priority = p.priority AND free ORDER BY due LIMIT 1) AS next"""
_SETTLE: Final = "SELECT consona_queue_settle($1, $2)"
_RELEASE: Final = f"SELECT consona_queue_release($1, $2, {NOW.format('$3')}, $4, $5, $6)"
_EXTEND: Final = f"""
    UPDATE consona_queue SET due = {NOW.format("$3")} + $4::float8 WHERE id = $1 AND token = $2 RETURNING due"""
_DEPTH: Final = f"""
    SELECT count(*) FILTER (WHERE token IS NOT NULL AND due > at) AS leased,
        count(*) FILTER (WHERE token IS NULL AND free AND due > at) AS delayed,
        count(*) AS messages,
        (SELECT count(*) FROM consona_queue_dead WHERE queue = $1) AS dead
    FROM consona_queue, (SELECT {NOW.format("$2")} AS at) AS clock
    WHERE queue = $1"""
_DEAD: Final = """
    SELECT id, body, headers, attempt, put_at, died_at, reason, priority, key, failures::text FROM consona_queue_dead
    WHERE queue = $1
        AND place > coalesce((SELECT place FROM consona_queue_dead WHERE id = $2), 0)
    ORDER BY place LIMIT $3"""
_BURY: Final = """
    DELETE FROM consona_queue_dead WHERE id = ANY ($2::bigint[])
        AND queue = $1
    RETURNING id, body, headers, priority, key"""
_SWEEP: Final = f"""
    DELETE FROM consona_queue_seen WHERE (queue, dedup) IN (
        SELECT queue, dedup FROM consona_queue_seen WHERE until <= {NOW.format("$1")} LIMIT {SWEEP_LIMIT}
        FOR UPDATE SKIP LOCKED)"""


class PostgreSQLQueues:
    """`postgresql://user:password@host/database`."""

    powers: ClassVar[frozenset[Power]] = frozenset(Power)

    def __init__(
        self,
        address: Address,
        *,
        clock: Callable[[], float] = time.time,
        engine: PostgreSQLEngine | None = None,
        tx: PostgreSQLTransaction | None = None,
    ) -> None:
        self._address = address
        self._clock = clock
        self._engine = engine
        self._tx = tx
        self._known: set[str] = set()
        self._sweeper = Sweeper(self.sweep, pause_s=5.0)

    async def open(self) -> None:
        engine = await open_postgresql(self._address)
        try:
            await prepare(engine, "queue", STEPS)
        except BaseException:
            await engine.close()
            raise
        self._engine = engine
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        engine, self._engine = self._opened(), None
        for queue in self._known:
            engine.doorbell.wake(_bell(queue))
        await engine.close()

    def inside(self, tx: SharedTransaction) -> PostgreSQLQueues:
        engine = self._opened()
        return PostgreSQLQueues(self._address, clock=self._clock, engine=engine, tx=joined(engine, tx, "queue"))

    async def put(self, queue: str, entries: Sequence[Entry]) -> list[str]:
        if self._tx is None:
            await self._note(queue)
        priorities, delays = [entry.priority for entry in entries], [entry.delay_s for entry in entries]
        headers, bodies = [packed(entry.headers) for entry in entries], [entry.body for entry in entries]
        if any(entry.key or entry.dedup for entry in entries):
            keys, dedups = [entry.key or None for entry in entries], [entry.dedup or None for entry in entries]
            windows = [entry.dedup_s for entry in entries]
            values = [queue, now(self._clock), priorities, delays, keys, dedups, windows, headers, bodies]
            rows = await self._ask(_PUT_KEPT, values)
        else:
            rows = await self._ask(_PUT, [queue, now(self._clock), priorities, delays, headers, bodies])
        await ring(self._opened(), _bell(queue), self._tx)
        return [str(name) for (name,) in rows]

    async def take(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Lease]:
        engine = self._opened()
        await self._note(queue)
        until = time.monotonic() + wait_s
        pause = FIRST_PAUSE_S
        while True:
            seen = engine.doorbell.count(_bell(queue))
            leases = await taken(self._take(queue, limit, lease_s), lambda lease: self._give_back(queue, lease))
            left = until - time.monotonic()
            if leases or left <= 0 or self._engine is not engine:
                return leases
            due = (await engine.ask(_NEXT_DUE, [queue, now(self._clock)], reads=True)).rows[0][0]
            if due is not None and due <= 0:  # it is due, and somebody has it locked
                due, pause = pause, min(pause * 2, POLL_S)
            await engine.doorbell.wait(_bell(queue), seen, timeout_s=min(left, POLL_S, POLL_S if due is None else due))
            if self._engine is not engine:
                return []

    async def _take(self, queue: str, limit: int, lease_s: float) -> list[Lease]:
        values = [queue, now(self._clock), limit, lease_s, secrets.token_hex(8)]
        return [_lease(row) for row in await self._ask(_TAKE, values)]

    async def _give_back(self, queue: str, lease: Lease) -> None:
        await self.release(queue, lease, delay_s=0.0, error="", dead=False)

    async def settle(self, queue: str, leases: Sequence[Lease]) -> list[Lease]:
        keyed = any(lease.key for lease in leases)
        ids, tokens = [int(lease.id) for lease in leases], [lease.token for lease in leases]
        rows = await self._ask(_SETTLE, [ids, tokens])
        gone = {str(name) for (name,) in rows}
        if keyed and gone:
            await ring(self._opened(), _bell(queue), self._tx)
        return [lease for lease in leases if lease.id not in gone]

    async def release(self, queue: str, lease: Lease, *, delay_s: float, error: str, dead: bool) -> bool:
        values = [int(lease.id), lease.token, now(self._clock), delay_s, error, dead]
        held: bool = (await self._ask(_RELEASE, values))[0][0]
        if held:
            await ring(self._opened(), _bell(queue), self._tx)
        return held

    async def extend(self, queue: str, lease: Lease, *, lease_s: float) -> Lease | None:
        del queue
        rows = await self._ask(_EXTEND, [int(lease.id), lease.token, now(self._clock), lease_s])
        return replace(lease, until=rows[0][0]) if rows else None

    async def depth(self, queue: str) -> Depth:
        leased, delayed, messages, dead = (await self._ask(_DEPTH, [queue, now(self._clock)], reads=True))[0]
        return Depth(ready=messages - leased - delayed, delayed=delayed, leased=leased, dead=dead)

    async def queues(self) -> list[str]:
        rows = await self._ask(_QUEUES, [], reads=True)
        return [name for (name,) in rows]

    async def dead(self, queue: str, *, after: str, limit: int) -> list[DeadLetter]:
        rows = await self._ask(_DEAD, [queue, int(after or 0), limit], reads=True)
        return [_letter(row) for row in rows]

    async def redrive(self, queue: str, ids: Sequence[str], *, replacement: Entry | None) -> int:
        async with self._opened().transaction(name="redrive") as tx:
            inner = self.inside(tx)
            found = {row["id"]: row for row in await inner._ask(_BURY, [queue, _numbers(ids)])}
            entries = []
            for number in _numbers(ids):
                if number in found:
                    _, body, headers, priority, key = found.pop(number)
                    letter = Entry(body, unpacked(headers), priority=priority, key=key or "")
                    new = replacement or letter
                    entries.append(replace(letter, body=new.body, headers=new.headers))
            if entries:
                await inner.put(queue, entries)
        return len(entries)

    async def bury(self, queue: str, ids: Sequence[str]) -> int:
        return len(await self._ask(_BURY, [queue, _numbers(ids)]))

    async def sweep(self) -> int:
        """Forget duplicates whose window is over, at most 500. Returns how many."""
        return (await self._opened().ask(_SWEEP, [now(self._clock)])).changed

    async def _note(self, queue: str) -> None:
        """Its name, once; never in a transaction of somebody's, for whose end others would wait."""
        if queue not in self._known:
            await self._opened().ask(_NAME, [queue])
            self._known.add(queue)

    async def _ask(self, text: str, values: list[Any], *, reads: bool = False) -> list[Any]:
        asking = self._opened() if self._tx is None else self._tx
        return (await asking.ask(text, values, reads=reads)).rows

    def _opened(self) -> PostgreSQLEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _bell(queue: str) -> str:
    return f"queue {queue}"


def _numbers(ids: Sequence[str]) -> list[int]:
    """Those that can be ids here."""
    return [int(name) for name in ids if name.isascii() and name.isdecimal() and len(name) < 19]


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
        failures=_decode_failures(failures),
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
        failures=_decode_failures(failures),
    )


_decode_failures: Final = msgspec.json.Decoder(list[Failure]).decode
