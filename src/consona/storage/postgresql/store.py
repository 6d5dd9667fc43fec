"""The store in a PostgreSQL database, shared by all processes that name it, and by the other parts of this one.

One table. Each row notes the transaction that wrote it last (`xact`). What a watcher has not seen is what its
last snapshot did not show: that is exact, also for transactions that began early and committed late. A deleted
key stays for a minute as a row without a value, which tells watchers; then it is purged.

Needs PostgreSQL 13 or newer. Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from consona.address import Address
from consona.errors import QueryError
from consona.storage.postgresql.engine import PostgreSQLEngine, open_postgresql
from consona.storage.postgresql.schema import prepare
from consona.storage.postgresql.sharing import NOW, joined, now, ring
from consona.storage.postgresql.transaction import PostgreSQLTransaction
from consona.storage.store import Change, Item
from consona.storage.sweeping import Sweeper
from consona.storage.transaction import SharedTransaction

__all__ = ["PostgreSQLStore"]

SWEEP_LIMIT: Final = 500
PAGE_BYTES: Final = 4 << 20
WATCH_PAGE: Final = 500
GRAVE_S: Final = 60.0
"""How long a deleted key can still be told to a watcher."""
POLL_S: Final = 0.5
BELL: Final = "store"

STEPS: Final = (
    (
        "CREATE SEQUENCE consona_store_version",
        """CREATE TABLE consona_store (
            key text COLLATE "C" PRIMARY KEY,
            value bytea,                  -- NULL: deleted
            version bigint NOT NULL,
            expires double precision,     -- seconds since the epoch; of a deleted key: when it is purged
            xact xid8 NOT NULL            -- the transaction that wrote it last
        ) WITH (fillfactor = 80)""",
        "CREATE INDEX consona_store_expires ON consona_store (expires) WHERE expires IS NOT NULL",
        "CREATE INDEX consona_store_xact ON consona_store (xact)",
        "CREATE TABLE consona_store_purged (xact xid8 NOT NULL)",
        "INSERT INTO consona_store_purged VALUES ('0')",
    ),
)

_NEXT: Final = "nextval('consona_store_version'), pg_current_xact_id()"


def _live(now: str, table: str = "") -> str:
    return f"({table}value IS NOT NULL AND ({table}expires IS NULL OR {table}expires > {NOW.format(now)}))"


_GET: Final = f"SELECT key, value, version, expires FROM consona_store WHERE key = $1 AND {_live('$2')}"
_PUT: Final = f"""
    INSERT INTO consona_store AS old (key, value, expires, version, xact)
    VALUES ($1, $2, {NOW.format("$4")} + $3::float8, {_NEXT})
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires,
        version = nextval('consona_store_version'), xact = excluded.xact"""
_PUT_ANY: Final = f"{_PUT} RETURNING version"
_PUT_ABSENT: Final = f"{_PUT} WHERE NOT {_live('$4', 'old.')} RETURNING version"
_PUT_VERSION: Final = f"""
    UPDATE consona_store SET value = $2, expires = {NOW.format("$4")} + $3::float8,
        version = nextval('consona_store_version'), xact = pg_current_xact_id()
    WHERE key = $1 AND version = $5 AND {_live("$4")} RETURNING version"""
_DELETE: Final = f"""
    UPDATE consona_store SET value = NULL, expires = {NOW.format("$2")} + {GRAVE_S},
        version = nextval('consona_store_version'), xact = pg_current_xact_id()
    WHERE key = $1 AND {_live("$2")} AND ($3::bigint IS NULL OR version = $3)"""
# The window keeps a page of large values from filling the memory.
_SCAN: Final = f"""
    SELECT key, value, version, expires FROM (
        SELECT *, sum(octet_length(value)) OVER (ORDER BY key) - octet_length(value) AS before FROM (
            SELECT key, value, version, expires FROM consona_store
            WHERE key >= $1 AND ($2::text IS NULL OR key < $2) AND {_live("$3")} ORDER BY key LIMIT $4) AS page
        ) AS sized WHERE before < {PAGE_BYTES} ORDER BY key"""
_SNAPSHOT: Final = "SELECT pg_current_snapshot()::text"
# What the snapshot $1 did not show and this one does; the snapshot is that of this very statement.
_NEWER: Final = f"""
    SELECT pg_current_snapshot()::text AS snapshot,
        NOT pg_visible_in_snapshot(purged.xact, $1::text::pg_snapshot) AS too_late,
        key, value, version, value IS NOT NULL AND NOT {_live("$4", "store.")} AS expired
    FROM consona_store_purged AS purged LEFT JOIN consona_store AS store
        ON store.xact >= pg_snapshot_xmin($1::text::pg_snapshot)
        AND NOT pg_visible_in_snapshot(store.xact, $1::text::pg_snapshot)
        AND store.key >= $2 AND ($3::text IS NULL OR store.key < $3)
    ORDER BY version"""
_SWEEP: Final = f"""
    UPDATE consona_store SET value = NULL, expires = {NOW.format("$1")} + {GRAVE_S},
        version = nextval('consona_store_version'), xact = pg_current_xact_id()
    WHERE key IN (
        SELECT key FROM consona_store WHERE expires <= {NOW.format("$1")} AND value IS NOT NULL
        LIMIT {SWEEP_LIMIT} FOR UPDATE SKIP LOCKED)"""
_PURGE: Final = f"""
    WITH gone AS (
        DELETE FROM consona_store WHERE key IN (
            SELECT key FROM consona_store WHERE expires <= {NOW.format("$1")} AND value IS NULL
            LIMIT {SWEEP_LIMIT} FOR UPDATE SKIP LOCKED)
        RETURNING xact),
    noted AS (
        UPDATE consona_store_purged SET xact = greatest(xact, (SELECT max(xact::text::numeric)::text::xid8 FROM gone))
        WHERE EXISTS (SELECT FROM gone))
    SELECT count(*) FROM gone"""
_DUE: Final = f"SELECT EXISTS (SELECT FROM consona_store WHERE expires <= {NOW.format('$1')})"
# Restored from a dump into a younger server, rows would have been written by transactions of the future.
_REBASE: Final = "UPDATE consona_store SET xact = '0' WHERE xact > pg_current_xact_id()"


class PostgreSQLStore:
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
        self._sweeper = Sweeper(self.sweep)

    async def open(self) -> None:
        engine = await open_postgresql(self._address)
        try:
            await prepare(engine, "store", STEPS)
            await engine.ask(_REBASE)
        except BaseException:
            await engine.close()
            raise
        self._engine = engine
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        engine, self._engine = self._opened(), None
        engine.doorbell.wake(BELL)
        await engine.close()

    def inside(self, tx: SharedTransaction) -> PostgreSQLStore:
        engine = self._opened()
        return PostgreSQLStore(self._address, clock=self._clock, engine=engine, tx=joined(engine, tx, "store"))

    async def get(self, key: str) -> Item | None:
        rows = await self._ask(_GET, [key, now(self._clock)], reads=True)
        return Item(*rows[0]) if rows else None

    async def put_if(self, key: str, value: bytes, *, version: int | None, ttl_s: float | None) -> int | None:
        values: list[Any] = [key, value, ttl_s, now(self._clock)]
        if version is None:
            rows = await self._change(_PUT_ANY, values)
        elif version == 0:
            rows = await self._change(_PUT_ABSENT, values)
        else:
            rows = await self._change(_PUT_VERSION, [*values, version])
        return rows[0][0] if rows else None

    async def delete(self, key: str, *, version: int | None) -> bool:
        return bool(await self._change(f"{_DELETE} RETURNING key", [key, now(self._clock), version]))

    async def scan(self, prefix: str, *, after: str, limit: int) -> list[Item]:
        begin = f"{after}\x01" if after >= prefix else prefix  # keys hold no control characters
        rows = await self._ask(_SCAN, [begin, _behind(prefix), now(self._clock), limit], reads=True)
        return [Item(*row) for row in rows]

    async def watch(self, prefix: str) -> AsyncIterator[list[Change]]:
        engine = self._opened()
        bell = engine.doorbell
        seen = bell.count(BELL)
        snapshot = (await engine.ask(_SNAPSHOT, reads=True)).rows[0][0]
        last = ""
        while page := await self.scan(prefix, after=last, limit=WATCH_PAGE):
            last = page[-1].key
            yield [Change(item.key, item.value, item.version) for item in page]
        while self._engine is engine:
            rows = (await engine.ask(_NEWER, [snapshot, prefix, _behind(prefix), now(self._clock)], reads=True)).rows
            snapshot = rows[0]["snapshot"]
            if rows[0]["too_late"]:
                raise QueryError(
                    f"This watch of {engine.name} fell more than {GRAVE_S:g} s behind, so deletions may have escaped it.",
                    hint="Do less between two changes, and begin the watch again.",
                )
            # What has expired is told when it is swept, as deleted.
            changes = [
                Change(row["key"], row["value"], row["version"]) for row in rows if row["key"] and not row["expired"]
            ]
            if changes:
                yield changes
            else:
                await bell.wait(BELL, seen, timeout_s=POLL_S)
            seen = bell.count(BELL)

    async def sweep(self) -> int:
        """Mark expired items as deleted and purge old marks, at most 500 of each. Returns how many there were."""
        at = now(self._clock)
        if not (await self._opened().ask(_DUE, [at], reads=True)).rows[0][0]:
            return 0
        expired = (await self._opened().ask(_SWEEP, [at])).changed
        if expired:
            self._opened().doorbell.ring(BELL)
        purged: int = (await self._opened().ask(_PURGE, [at])).rows[0][0]
        return expired + purged

    def stats(self) -> dict[str, Any]:
        return self._opened().stats()

    async def _ask(self, text: str, values: list[Any], *, reads: bool = False) -> list[Any]:
        asking = self._opened() if self._tx is None else self._tx
        return (await asking.ask(text, values, reads=reads)).rows

    async def _change(self, text: str, values: list[Any]) -> list[Any]:
        rows = await self._ask(text, values)
        if rows:
            await ring(self._opened(), BELL, self._tx)
        return rows

    def _opened(self) -> PostgreSQLEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _behind(prefix: str) -> str | None:
    """The smallest text that is greater than everything that begins with `prefix`; None where there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)  # no halves of surrogate pairs
        prefix = prefix[:-1]
    return None
