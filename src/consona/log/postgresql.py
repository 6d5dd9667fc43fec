"""The log in a PostgreSQL database, shared by all processes that name it, and by the other parts of this one.

A record's position is the number of the transaction that appended it, times 2^20, plus its place in that
transaction. Transactions are numbered in the order in which they begin to write, and commit in any order;
so readers stop below the oldest one that still runs. What they see is complete, and nothing can appear
behind them. Appending waits for nobody.

A database that was restored into a younger server counts its transactions from the beginning again: then
`consona_log_base` is added, so that positions go on.

Needs PostgreSQL 13 or newer. Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from consona.address import Address
from consona.errors import FieldProblem, ValidationError
from consona.log.log import Entry, LogPort, Page, Record, Retention
from consona.log.trimming import outdated
from consona.storage.headers import packed, unpacked
from consona.storage.postgresql.engine import PostgreSQLEngine, open_postgresql
from consona.storage.postgresql.schema import prepare
from consona.storage.postgresql.sharing import NOW, joined, now, ring
from consona.storage.postgresql.transaction import PostgreSQLTransaction
from consona.storage.transaction import SharedTransaction

__all__ = ["PostgreSQLLog"]

SHIFT: Final = 20
PLACES: Final = 1 << SHIFT
"""How many records of one stream a transaction can append."""
LARGEST: Final = (1 << 63) - 1
TRIM_LIMIT: Final = 1000
"""How many rows one transaction removes at most, so that others need not wait."""
POLL_S: Final = 0.5
FIRST_PAUSE_S: Final = 0.005

STEPS: Final = (
    (
        "CREATE TABLE consona_log_base (base bigint NOT NULL)",
        "INSERT INTO consona_log_base VALUES (0)",
        """CREATE TABLE consona_log_streams (    -- written by who trims, so that who appends waits for nobody
            stream text COLLATE "C" PRIMARY KEY,
            begin bigint NOT NULL DEFAULT 0,     -- the position of the last record that was trimmed
            counted bigint NOT NULL DEFAULT 0,   -- up to here the records are in the two sums
            records bigint NOT NULL DEFAULT 0,
            size bigint NOT NULL DEFAULT 0       -- their bytes
        )""",
        """CREATE TABLE consona_log (
            stream text COLLATE "C" NOT NULL,
            position bigint NOT NULL,
            at double precision NOT NULL,        -- seconds since the epoch
            headers bytea,                       -- a MessagePack map of texts; NULL for none
            body bytea NOT NULL,
            PRIMARY KEY (stream, position)
        )""",
        "CREATE INDEX consona_log_position ON consona_log (position)",
        "CREATE INDEX consona_log_at ON consona_log (stream, at) INCLUDE (position)",
    ),
)

_FIRST: Final = f"(pg_current_xact_id()::text::bigint + (SELECT base FROM consona_log_base)) << {SHIFT}"
# Everything below it is decided: committed and visible, or never to be seen.
_HORIZON: Final = (
    f"(pg_snapshot_xmin(pg_current_snapshot())::text::bigint + (SELECT base FROM consona_log_base)) << {SHIFT}"
)
_APPEND: Final = f"""
    WITH mine AS MATERIALIZED (SELECT {_FIRST} AS first),
    start AS MATERIALIZED (
        SELECT coalesce((SELECT max(position) + 1 FROM consona_log
                WHERE stream = $1 AND position >= mine.first AND position < mine.first + {PLACES}), mine.first) AS first,
            greatest({NOW.format("$2")}, (SELECT at FROM consona_log WHERE stream = $1 ORDER BY position DESC LIMIT 1)) AS at
        FROM mine)
    INSERT INTO consona_log (stream, position, at, headers, body)
    SELECT $1, start.first + e.place - 1, start.at, e.headers, e.body
    FROM mine, start, unnest($3::bytea[], $4::bytea[]) WITH ORDINALITY AS e (headers, body, place)
    WHERE start.first + cardinality($4::bytea[]) <= mine.first + {PLACES} ORDER BY e.place RETURNING position"""
_BEGIN: Final = "coalesce((SELECT begin FROM consona_log_streams WHERE stream = $1), 0)"
# The window keeps a page of large records from filling the memory.
_READ: Final = f"""
    SELECT {_BEGIN}, r.position, r.at, r.headers, r.body FROM (SELECT $1::text AS name) AS s LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT *, sum(octet_length(body)) OVER (ORDER BY position) - octet_length(body) AS before FROM (
                SELECT position, at, headers, body FROM consona_log
                WHERE stream = s.name AND position > $2 AND position < {_HORIZON} ORDER BY position LIMIT $3) AS page
            ) AS sized WHERE before < $4
        ) AS r ON true ORDER BY r.position"""
_STATE: Final = f"""
    SELECT EXISTS (SELECT FROM consona_log WHERE stream = $1 AND position > $2 AND position < {_HORIZON}),
        EXISTS (SELECT FROM consona_log WHERE stream = $1 AND position > $2)"""
_END: Final = f"""
    SELECT coalesce((SELECT position FROM consona_log WHERE stream = $1 AND position < {_HORIZON}
        ORDER BY position DESC LIMIT 1), {_BEGIN})"""
# Transactions that ran at the same time may have appended with their times crosswise, so all later ones are looked at.
_LOCATE: Final = f"""
    SELECT coalesce((SELECT max(position) FROM consona_log WHERE stream = $1 AND position < {_HORIZON} AND position < (
        SELECT coalesce(min(position), {LARGEST}) FROM consona_log WHERE stream = $1 AND at >= $2)), {_BEGIN})"""
_LOCK: Final = """
    INSERT INTO consona_log_streams AS s (stream) VALUES ($1)
    ON CONFLICT (stream) DO UPDATE SET begin = s.begin RETURNING begin, counted, records, size"""
_COUNT: Final = f"""
    SELECT count(*), coalesce(sum(octet_length(body) + coalesce(octet_length(headers), 0)), 0)::bigint, max(position)
    FROM consona_log WHERE stream = $1 AND position > $2 AND position < {_HORIZON}"""
_OLDEST: Final = f"""
    SELECT position, at, octet_length(body) + coalesce(octet_length(headers), 0) FROM consona_log
    WHERE stream = $1 AND position > $2 AND position <= $3 ORDER BY position LIMIT {TRIM_LIMIT}"""
_TRIM: Final = "DELETE FROM consona_log WHERE stream = $1 AND position > $2 AND position <= $3"
_NOTE: Final = "UPDATE consona_log_streams SET begin = $2, counted = $3, records = $4, size = $5 WHERE stream = $1"
_REBASE: Final = f"""
    UPDATE consona_log_base SET base = newest.number + 1 - pg_current_xact_id()::text::bigint
    FROM (
        SELECT greatest((SELECT max(begin) FROM consona_log_streams), (SELECT max(position) FROM consona_log)) >> {SHIFT}
            AS number) AS newest
    WHERE newest.number > pg_current_xact_id()::text::bigint + base"""


class PostgreSQLLog:
    """`postgresql://user:password@host/database`."""

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
        self._awaited: set[str] = set()

    async def open(self) -> None:
        engine = await open_postgresql(self._address)
        try:
            await prepare(engine, "log", STEPS)
            await engine.ask(_REBASE)
        except BaseException:
            await engine.close()
            raise
        self._engine = engine

    async def close(self) -> None:
        engine, self._engine = self._opened(), None
        for stream in self._awaited:
            engine.doorbell.wake(_bell(stream))
        await engine.close()

    def inside(self, tx: SharedTransaction) -> LogPort:
        engine = self._opened()
        return PostgreSQLLog(self._address, clock=self._clock, engine=engine, tx=joined(engine, tx, "log"))

    async def append(self, stream: str, entries: Sequence[Entry]) -> list[int]:
        headers, bodies = [packed(entry.headers) for entry in entries], [entry.body for entry in entries]
        rows = await self._ask(_APPEND, [stream, now(self._clock), headers, bodies])
        if not rows:
            raise ValidationError(
                f"One transaction can append {PLACES} records to the stream {stream!r}, and these would be more.",
                fields=[FieldProblem("entries", "too many in one transaction")],
            )
        await ring(self._opened(), _bell(stream), self._tx)
        return [position for (position,) in rows]

    async def read(self, stream: str, *, after: int, limit: int, max_bytes: int) -> Page:
        rows = await self._ask(_READ, [stream, min(after, LARGEST), limit, max_bytes], reads=True)
        records = [
            Record(position, at, body, unpacked(headers))
            for _, position, at, headers, body in rows
            if position is not None
        ]
        return Page(records, rows[0][0])

    async def wait(self, stream: str, *, after: int, timeout_s: float) -> None:
        engine = self._opened()
        self._awaited.add(stream)
        until = time.monotonic() + timeout_s
        pause = FIRST_PAUSE_S
        while True:
            seen = engine.doorbell.count(_bell(stream))
            there, hidden = (await self._ask(_STATE, [stream, min(after, LARGEST)], reads=True))[0]
            left = until - time.monotonic()
            if there or left <= 0:
                return
            # Nobody tells when the older transaction ends that hides a record.
            await engine.doorbell.wait(_bell(stream), seen, timeout_s=min(left, pause if hidden else POLL_S))
            pause = min(pause * 2, POLL_S) if hidden else FIRST_PAUSE_S
            if self._engine is not engine:
                return

    async def trim(self, stream: str, retention: Retention) -> int:
        total = 0
        while trimmed := await self._trim_some(stream, retention):
            total += trimmed
            if trimmed < TRIM_LIMIT:
                break
        return total

    async def locate(self, stream: str, at: float) -> int:
        if at == float("inf"):
            rows = await self._ask(_END, [stream], reads=True)
        elif at == -float("inf"):
            rows = await self._ask(f"SELECT {_BEGIN}", [stream], reads=True)
        else:
            rows = await self._ask(_LOCATE, [stream, at], reads=True)
        return int(rows[0][0])

    async def _trim_some(self, stream: str, retention: Retention) -> int:
        async with self._opened().transaction(name=f"trim {stream}") as tx:
            begin, counted, records, size = (await tx.ask(_LOCK, [stream])).rows[0]
            new, bytes_, newest = (await tx.ask(_COUNT, [stream, counted])).rows[0]
            records, size, counted = records + new, size + bytes_, newest or counted
            oldest = (await tx.ask(_OLDEST, [stream, begin, counted])).rows
            at = now(self._clock) or time.time()
            gone = outdated(((row[0], row[1], row[2]) for row in oldest), retention, records=records, size=size, now=at)
            if gone:
                last = gone[-1][0]
                await tx.ask(_TRIM, [stream, begin, last])
                begin, records, size = last, records - len(gone), size - sum(length for _, _, length in gone)
            if gone or new:
                await tx.ask(_NOTE, [stream, begin, counted, records, size])
        return len(gone)

    async def _ask(self, text: str, values: list[Any], *, reads: bool = False) -> list[Any]:
        asking = self._opened() if self._tx is None else self._tx
        return (await asking.ask(text, values, reads=reads)).rows

    def _opened(self) -> PostgreSQLEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _bell(stream: str) -> str:
    return f"log {stream}"
