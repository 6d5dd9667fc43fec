"""Documents in the process' memory: the reference, which does nothing but ask the filter, the update and the sort.

Gone when the last user closes it. Every collection is read from end to end, save for a look-up by `_id`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

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
from consona.documents.indexes import ID_INDEX, Index
from consona.documents.memory_space import KEPT_EVENTS, Kept, Space, Work
from consona.documents.paths import reader
from consona.documents.rules import check_rules
from consona.documents.values import MISSING, Document, copied
from consona.errors import ConfigurationError, ConsonaError
from consona.storage.sweeping import Sweeper
from consona.storage.transaction import SharedTransaction

__all__ = ["MemoryDocuments"]


class MemoryDocuments:
    """`memory://`, shared by all in the process who name the same address (`memory://catalog` is another)."""

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address.canonical
        self._clock = clock
        self._space: Space | None = None
        self._sweeper = Sweeper(self.sweep)

    async def open(self) -> None:
        with _lock:
            self._space = _spaces.setdefault(self._address, Space())
            self._space.users += 1
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        space, self._space = self._opened(), None
        with _lock:
            space.users -= 1
            if not space.users:
                _spaces.pop(self._address, None)
        space.changes.announce()

    async def read(
        self, collection: str, query: Query, *, tx: SharedTransaction | None = None
    ) -> AsyncIterator[list[Document]]:
        space = self._opened()
        _refuse_transaction(tx)
        with space.lock:
            moment = space.moment({collection, *query.joins}) if query.heavy else None
            documents = [] if moment else [copied(document) for document in space.read(collection, query)]
        if moment is not None:
            documents = await asyncio.to_thread(lambda: list(moment.read(collection, query)))
        yield documents

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
        space = self._opened()
        _refuse_transaction(tx)
        answers: list[Written | ConsonaError] = []
        with space.lock:
            kept = space.collections.setdefault(collection, Kept(collection))
            done: list[Work] = []
            for write in writes:
                work = Work(kept, check_rules(kept.rules, check), self._clock())
                try:
                    answers.append(work.do(write))
                except ConsonaError as error:
                    work.undo()
                    if atomic:
                        for before in reversed(done):
                            before.undo()
                        raise
                    answers.append(error)
                    if ordered:
                        break
                else:
                    done.append(work)
            for work in done:
                space.tell(work.events)
        space.changes.announce()
        return answers

    async def alter(self, collection: str, change: Alter, *, tx: SharedTransaction | None = None) -> None:
        space = self._opened()
        _refuse_transaction(tx)
        with space.lock:
            space.alter(collection, change, self._clock())
        space.changes.announce()

    async def describe(
        self, collection: str | None = None, *, tx: SharedTransaction | None = None
    ) -> list[CollectionFacts]:
        space = self._opened()
        _refuse_transaction(tx)
        with space.lock:
            return [
                CollectionFacts(
                    name=name, documents=len(kept.rows), indexes=tuple(kept.indexes.values()), rules=kept.rules
                )
                for name, kept in sorted(space.collections.items())
                if collection in {None, name}
            ]

    async def watch(self, collection: str | None, *, after: str | None) -> AsyncIterator[list[Event]]:
        space = self._opened()
        seen = space.last_event if after is None else space.place_of(after)
        yield []
        while self._space is space:
            with space.lock:
                if seen < space.last_event - len(space.events):
                    raise ChangesLost(f"The watch fell more than {KEPT_EVENTS} changes behind.")
                news = [event for event in space.events if int(event.token) > seen]
                seen = space.last_event
            news = [event for event in news if collection in {None, event.collection}]
            if news:
                yield news
            await space.changes.wait(seen, timeout_s=0.5)

    async def explain(self, collection: str, query: Query) -> Plan:
        space = self._opened()
        with space.lock:
            kept = space.collections.get(collection)
            if kept is None:
                return Plan(stage="EOF", estimated=0, examined=0, returned=0)
            returned = sum(1 for _ in space.read(collection, query))
            if wanted_id(query.filter) is MISSING:
                return Plan(stage="COLLSCAN", estimated=len(kept.rows), examined=len(kept.rows), returned=returned)
            return Plan(stage="IDHACK", index=ID_INDEX, estimated=1, examined=returned, returned=returned)

    async def sweep(self) -> int:
        """Remove the documents whose time is over (`expireAfterSeconds`). Returns how many there were."""
        space, now = self._opened(), datetime.fromtimestamp(self._clock(), UTC)
        removed = 0
        with space.lock:
            for kept in space.collections.values():
                for index in kept.indexes.values():
                    if index.expire_after_s is not None:
                        work = Work(kept, None, self._clock())
                        for seq in [seq for seq, row in kept.rows.items() if _is_over(index, row.document, now)]:
                            work.remove(seq)
                            removed += 1
                        space.tell(work.events)
        if removed:
            space.changes.announce()
        return removed

    def _opened(self) -> Space:
        assert self._space is not None, "the front checks that it is started"
        return self._space


def _refuse_transaction(tx: SharedTransaction | None) -> None:
    if tx is not None:
        raise ConfigurationError(
            "Documents in memory take part in no transaction.", hint="Use sqlite://, which is in memory too."
        )


def _is_over(index: Index, document: Document, now: datetime) -> bool:
    """Whether the earliest date in the field is too old."""
    assert index.expire_after_s is not None
    [path] = index.paths
    dates = [value for value in reader(path)(document) if type(value) is datetime]
    return bool(dates) and index.covers(document) and min(dates) + timedelta(seconds=index.expire_after_s) <= now


_lock = threading.Lock()
_spaces: dict[str, Space] = {}
