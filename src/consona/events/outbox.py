"""The transactional outbox: events written in the writer's own transaction, and brought to the bus behind it.

`publish(..., tx=tx)` adds rows to `consona_outbox` in the database of `tx`: both or neither. One process at
a time relays them to the bus in the order of their numbers and then removes them. Killed in between, it
publishes some of them again, with the same id.

Source: C. Richardson, "Pattern: Transactional outbox", microservices.io.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from consona.errors import ConsonaError
from consona.log.log import Entry
from consona.sql import own_tables

if TYPE_CHECKING:
    from consona.events.lease import Lease
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["Outbox", "Relay"]

log = logging.getLogger("consona.events")

POLL_S: Final = 0.25
"""How long an event waits at most that another process wrote."""
BATCH: Final = 500
PAUSE_AFTER_FAILURE_S: Final = 1.0

STEPS: Final = (
    (
        """CREATE TABLE IF NOT EXISTS consona_outbox (
            number {numbered},
            bus VARCHAR(200) NOT NULL,
            headers {bytes} NOT NULL,
            body {bytes} NOT NULL)""",
    ),
)

Append = Callable[[Sequence[Entry]], Awaitable[object]]


class Outbox:
    """The events of one bus that wait in one database."""

    def __init__(self, db: SQLDatabase, bus: str) -> None:
        self.db = db
        self._bus = bus
        self.written = asyncio.Event()
        """Set when a transaction of this process that wrote some is committed."""

    @property
    def place(self) -> str:
        """A short name of the database, the same in every process that writes its address the same way."""
        address = self.db.address
        where = self.db.name if address is None else address.canonical
        return hashlib.blake2b(where.encode(), digest_size=8).hexdigest()

    async def start(self) -> None:
        await self.db.start()
        try:
            await own_tables.prepare(self.db, "outbox", STEPS)
        except BaseException:
            await self.db.stop()
            raise

    async def stop(self) -> None:
        await self.db.stop()

    async def add(self, entries: Sequence[Entry], tx: Transaction) -> None:
        """Write them in `tx`."""
        for entry in entries:
            headers = msgspec.msgpack.encode(dict(entry.headers))
            await tx.execute(
                "INSERT INTO consona_outbox (bus, headers, body) VALUES (?, ?, ?)", self._bus, headers, entry.body
            )
        tx.on_commit(self.written.set)

    async def relay(self, append: Append) -> int:
        """Bring what waits to the bus, oldest first. Returns how many there were, `BATCH` at most."""
        rows = await self.db.fetch_all(
            f"SELECT number, headers, body FROM consona_outbox WHERE bus = ? ORDER BY number LIMIT {BATCH}",  # noqa: S608  a number of ours
            self._bus,
        )
        if not rows:
            return 0
        await append([Entry(bytes(row["body"]), _headers(bytes(row["headers"]))) for row in rows])
        marks = ", ".join("?" * len(rows))
        await self.db.execute(
            f"DELETE FROM consona_outbox WHERE number IN ({marks})",  # noqa: S608  question marks
            *(row["number"] for row in rows),
        )
        return len(rows)


class Relay:
    """Relays one outbox, in the one process of several that holds its lease."""

    def __init__(self, outbox: Outbox, lease: Lease, append: Append, *, renew_s: float) -> None:
        self._outbox = outbox
        self._lease = lease
        self._append = append
        self._renew_s = renew_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name=f"relay of {self._outbox.db.name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            with suppress(ConsonaError):  # then it ends by itself
                await self._lease.give_back()

    async def _work(self) -> None:
        failing = False
        while True:
            try:
                if await self._lease.take():
                    await self._relay_for(self._renew_s)
                else:
                    await asyncio.sleep(self._renew_s)
                failing = False
            except ConsonaError as error:
                if not failing:
                    log.warning(
                        "The outbox in %s could not be relayed (it is tried again): %s",
                        self._outbox.db.name,
                        error.message,
                    )
                failing = True
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def _relay_for(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        written = self._outbox.written
        while asyncio.get_running_loop().time() < until:
            written.clear()
            if await self._outbox.relay(self._append) < BATCH:
                with suppress(TimeoutError):
                    await asyncio.wait_for(written.wait(), POLL_S)


_headers: Final = msgspec.msgpack.Decoder(dict[str, str]).decode
