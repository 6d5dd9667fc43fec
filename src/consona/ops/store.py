"""`ops.db`: what the processes of a system did, kept within bounds.

    store = await OpsStore.open("sqlite:///ops.db")
    await store.save(batch)                            # each process, every second
    spans = await store.trace("4bf92f3577b34da6a3ce929d0e0e4736")
    await store.close()

Every process writes its own rows; everyone reads all. Written with `synchronous=NORMAL`: a power cut
may lose the last seconds of observations, and cannot damage the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec
from msgspec.structs import astuple

from consona.address import Address
from consona.ops import schema
from consona.ops.figures import Figures
from consona.ops.records import Batch, PartRecord, Point, SeriesRecord
from consona.storage.settings import SQLiteSettings
from consona.storage.sqlite_engine import open_sqlite

__all__ = ["SLOT_S", "Limits", "OpsStore"]

SLOT_S: Final = 5
"""Seconds that one point of the time series covers."""

SETTINGS: Final = SQLiteSettings(synchronous="NORMAL", readers=2, cache_mib=4)  # small: it lives in every process
ALL_IDS: Final = (1 << 63) - 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is kept; beyond it, the oldest goes. Times in seconds."""

    points: float = 3600.0
    """How long the figures of each five seconds are kept, and the last state of a process that ended."""
    age: float = 86400.0
    """How long single operations and traces are kept."""
    spans: int = 100_000
    """Spans of all traces together."""
    entries: int = 300
    """Single operations of one part of one service with one outcome."""


class OpsStore:
    """The observations of a system in one SQLite file. Make it with `OpsStore.open`."""

    def __init__(self, engine: Any, address: Address, limits: Limits, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._path = "" if address.is_memory else address.path
        self._file = self._identity()
        self._limits = limits
        self._clock = clock

    @classmethod
    async def open(
        cls, url: str | Address, *, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> Self:
        """Open the file, and make the tables where it is new.

        Raises:
            ConfigurationError: A newer release of Consona made the tables, and this one cannot use them.
            AddressError: The address is not one of an SQLite file.
        """
        address = Address.parse(url)
        engine = await open_sqlite(address, SETTINGS)
        try:
            await engine.write(lambda connection: schema.prepare(connection, str(address)))
        except BaseException:
            await engine.close()
            raise
        return cls(engine, address, limits or Limits(), clock)

    async def close(self) -> None:
        await self._engine.close()

    def is_lost(self) -> bool:
        """Whether the file was deleted or replaced, so that what is written here is seen by nobody. Asks the disk."""
        return self._identity() != self._file

    def _identity(self) -> tuple[int, int] | None:
        if not self._path:
            return None
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    # Writing.

    async def save(self, batch: Batch) -> None:
        """Keep what one process reports: all of it or, when this raises, nothing."""
        await self._engine.write(lambda connection: _save(connection, batch))

    async def prune(self) -> None:
        """Delete what is beyond the limits. Cheap where nothing is."""
        now = self._clock()
        await self._engine.write(lambda connection: _prune(connection, self._limits, now))

    # Reading. Each answer is of one moment.

    async def read(self, query: Callable[[Any], T]) -> T:
        """Run a function of a connection (see `queries.py`) on a reading thread."""
        result: T = await self._engine.read(query)
        return result


def _save(connection: Any, batch: Batch) -> None:
    _put(connection, "INSERT OR REPLACE INTO ops_processes", [astuple(batch.process)])
    _put(connection, "INSERT OR REPLACE INTO ops_parts", map(_row, batch.parts))
    _put(connection, "INSERT OR REPLACE INTO ops_series", map(_row, batch.series))
    _put(connection, "INSERT OR REPLACE INTO ops_points", map(_row, batch.points))
    _put(connection, "INSERT INTO ops_entries", map(astuple, batch.entries))
    _put(connection, "INSERT INTO ops_spans", ((*astuple(span), None) for span in batch.spans))


def _put(connection: Any, insert: str, rows: Iterable[tuple[Any, ...]]) -> None:
    rows = list(rows)
    if rows:
        connection.executemany(f"{insert} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _row(record: PartRecord | SeriesRecord | Point) -> tuple[Any, ...]:
    """The fields in the order of the table's columns; the figures as JSON."""
    return tuple(
        msgspec.json.encode(value).decode() if isinstance(value, Figures) else value for value in astuple(record)
    )


_SAME = "service = ? AND part = ? AND kind = ? AND outcome = ?"


def _prune(connection: Any, limits: Limits, now: float) -> None:
    run = connection.execute
    run("DELETE FROM ops_points WHERE slot < ?", (int(now - limits.points),))
    run("DELETE FROM ops_processes WHERE seen < ?", (now - limits.points,))
    run("DELETE FROM ops_parts WHERE process NOT IN (SELECT id FROM ops_processes)")
    run("DELETE FROM ops_series WHERE process NOT IN (SELECT id FROM ops_processes)")
    # Ids follow time, so the oldest rows are those with the smallest, and no index on time is needed.
    run("DELETE FROM ops_spans WHERE id <= (SELECT max(id) FROM ops_spans) - ?", (limits.spans,))
    oldest = now - limits.age
    run(
        "DELETE FROM ops_spans WHERE id < ifnull((SELECT id FROM ops_spans WHERE start_ns >= ? ORDER BY id LIMIT 1), ?)",
        (int(oldest * 1e9), ALL_IDS),
    )
    run(
        "DELETE FROM ops_entries WHERE id < ifnull((SELECT id FROM ops_entries WHERE at >= ? ORDER BY id LIMIT 1), ?)",
        (oldest, ALL_IDS),
    )
    crowded = run(
        "SELECT service, part, kind, outcome FROM ops_entries GROUP BY 1, 2, 3, 4 HAVING count(*) > ?",
        (limits.entries,),
    )
    for group in list(crowded):
        run(
            f"DELETE FROM ops_entries WHERE {_SAME} AND id <= "  # noqa: S608 - the text is the line above
            f"(SELECT id FROM ops_entries WHERE {_SAME} ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (*group, *group, limits.entries),
        )
