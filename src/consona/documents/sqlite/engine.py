"""Documents in a SQLite file, shared by all processes that name it, and by the other parts of this one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, Final

import apsw

from consona.address import Address
from consona.documents.engine import (
    Alter,
    Check,
    CollectionFacts,
    Event,
    Plan,
    Query,
    Write,
    Written,
)
from consona.documents.errors import ChangesLost
from consona.documents.filters import wanted_id
from consona.documents.sqlite import changes
from consona.documents.sqlite.altering import alter
from consona.documents.sqlite.expiry import remove_expired
from consona.documents.sqlite.reading import explain, read_documents
from consona.documents.sqlite.scans import ScanLog
from consona.documents.sqlite.tables import FIRST_STEP, all_tables, found_table
from consona.documents.sqlite.writing import do_writes
from consona.documents.values import MISSING, Document
from consona.errors import ConsonaError, NotStarted, QueryError
from consona.storage.schema import prepare
from consona.storage.sqlite_engine import SQLiteEngine, open_sqlite
from consona.storage.sweeping import Sweeper
from consona.storage.transaction import SharedTransaction

__all__ = ["SQLiteDocuments"]

STEPS: Final = (FIRST_STEP, changes.CHANGE_STEP)
FIRST_BATCH: Final = 1000
BATCH: Final = 1000
TOUCH_S: Final = 60.0
"""How often a watch says that it is there."""


class SQLiteDocuments:
    """`sqlite:///catalog.db`, or `sqlite://` for memory shared by the process."""

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address
        self._clock = clock
        self._engine: SQLiteEngine | None = None
        self._sweeper = Sweeper(self.sweep)
        self._scans = ScanLog(address.path.rpartition("/")[2] or "memory")

    @property
    def native(self) -> SQLiteEngine:
        """The storage engine of the file."""
        assert self._engine is not None, "the front checks that it is started"
        return self._engine

    async def open(self) -> None:
        engine = await open_sqlite(self._address)
        try:
            await engine.write(lambda db: prepare(db, "documents", STEPS))
        except BaseException:
            await engine.close()
            raise
        self._engine = engine
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        engine, self._engine = self.native, None
        await engine.close()

    async def read(
        self, collection: str, query: Query, *, tx: SharedTransaction | None = None
    ) -> AsyncIterator[list[Document]]:
        engine = self.native

        def read_all(db: apsw.Connection) -> list[Document]:
            return list(self._noted(db, collection, query))

        if tx is not None or engine.address.is_memory or query.at_once:
            if tx is None and query.limit == 1 and not query.sort and wanted_id(query.filter) is not MISSING:
                yield await engine.read_now(read_all)
            else:
                yield await engine.read(read_all, tx=tx)
            return
        if not query.heavy:
            first = await engine.read(lambda db: list(islice(self._noted(db, collection, query), FIRST_BATCH + 1)))
            if len(first) <= FIRST_BATCH:
                yield first
                return
        async for batch in self._pieces(collection, query):  # from the beginning, all of it at one moment
            yield batch

    def _noted(self, db: apsw.Connection, collection: str, query: Query) -> Iterator[Document]:
        self._scans.look(db, collection, query)
        return read_documents(db, collection, query)

    async def _pieces(self, collection: str, query: Query) -> AsyncIterator[list[Document]]:
        snapshot = self.native.snapshot()
        try:
            documents: Iterator[Document] = await snapshot.run(lambda db: self._noted(db, collection, query))
            while batch := await snapshot.run(lambda _: list(islice(documents, BATCH))):
                yield batch
        finally:
            await snapshot.close()

    async def write(
        self,
        collection: str,
        writes: Sequence[Write],
        *,
        ordered: bool,
        atomic: bool = False,
        check: Check | None = None,
        tx: SharedTransaction | None = None,
    ) -> list[Written | ConsonaError]:
        step = partial(
            do_writes,
            collection=collection,
            writes=writes,
            ordered=ordered,
            atomic=atomic,
            check=check,
            now=self._clock(),
        )
        return await self.native.write(step, tx=tx)

    async def alter(self, collection: str, change: Alter, *, tx: SharedTransaction | None = None) -> None:
        await self.native.write(partial(alter, collection=collection, change=change, now=self._clock()), tx=tx)

    async def describe(
        self, collection: str | None = None, *, tx: SharedTransaction | None = None
    ) -> list[CollectionFacts]:
        return await self.native.read(partial(_facts, collection=collection), tx=tx)

    async def watch(self, collection: str | None, *, after: str | None) -> AsyncIterator[list[Event]]:
        engine = self.native
        head = await engine.write(lambda db: changes.begin_watch(db, collection, self._clock()))
        seen, touched = _place(after, head), self._clock()
        await engine.read(lambda db: changes.require_known(db, collection, seen))
        yield []
        while self._engine is engine:
            try:
                version = engine.data_version()
                events, seen = await engine.read(partial(changes.newer_events, collection=collection, after=seen))
                if events:
                    yield events
                else:
                    await engine.changed(version, timeout=0.5)
                if self._clock() - touched > TOUCH_S:
                    touched = self._clock()
                    await engine.write(lambda db: changes.touch_watch(db, collection, self._clock()))
            except (QueryError, NotStarted):
                if self._engine is engine:
                    raise
                return  # closed meanwhile

    async def explain(self, collection: str, query: Query) -> Plan:
        return await self.native.read(lambda db: explain(db, collection, query))

    @asynccontextmanager
    async def transaction(self, *, name: str, deadline_s: float | None) -> AsyncIterator[SharedTransaction]:
        async with self.native.transaction(name=name, deadline=deadline_s) as tx:
            yield tx

    async def sweep(self) -> int:
        """Remove the documents whose time is over. Returns how many there were."""
        seconds = self._clock()
        now = datetime.fromtimestamp(seconds, UTC)
        engine, removed = self.native, 0
        if await engine.read(partial(remove_expired, now=now, dry=True)):
            removed = await engine.write(partial(remove_expired, now=now))
        if await engine.read(partial(changes.is_due, now=seconds)):
            await engine.write(partial(changes.forget_old, now=seconds))
        return removed

    def stats(self) -> dict[str, Any]:
        return self.native.stats()


def _place(token: str | None, head: int) -> int:
    """The number of the change behind which a watch begins."""
    if token is None:
        return head
    if not token.isascii() or not token.isdigit() or len(token) > 18:
        raise ChangesLost("This token is none that a watch of this database gave.")
    return int(token)


def _facts(db: apsw.Connection, *, collection: str | None) -> list[CollectionFacts]:
    found = found_table(db, collection) if collection is not None else None
    tables = all_tables(db) if collection is None else [found] if found is not None else []
    return [
        CollectionFacts(
            name=table.name,
            documents=db.execute(f"SELECT count(*) FROM {table.sql}").get,
            indexes=table.indexes,
            rules=None if table.rules is None else dict(table.rules),
        )
        for table in tables
    ]
