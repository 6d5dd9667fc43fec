"""Answers that are kept and given again, as long as nothing that they come from has changed.

    await db.fetch_all("SELECT * FROM products WHERE price < ?", 10, cache=60)

How it stays right:

- The stamp of the tables is noted before the database is asked, and compared afterwards. Where it moved
  meanwhile, the answer is given to who asked for it, and not kept.
- Many who ask for the same at once wait for one question, unless something changed since that began.
- What is kept are the rows as the driver gave them; everybody gets objects of their own made of them.
- In a transaction nothing is kept and nothing kept is given.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from consona.errors import NotStarted
from consona.sql.cache.facts import Facts
from consona.sql.cache.freshness import Freshness
from consona.sql.cache.kept import Kept, KeptAnswers, bytes_of
from consona.sql.dialect import Dialect
from consona.sql.engine import Rows
from consona.sql.placeholders import Statement

__all__ = ["QueryCache"]

MAX_FACTS: Final = 1000
MAX_REASONS: Final = 50
UNKNOWN: Final = "the engine cannot tell now whether something changed"
MAX_LEARNING: Final = 4
MANY_ROWS: Final = 1000
"""From so many on, an answer is measured in a thread."""
_PLAIN: Final = frozenset({int, str, bytes, bool, type(None)})

Ask = Callable[[], Awaitable[Rows]]


class _Flight:
    """A question that is under way, and how many wait for it. Its task gives the rows, and whether they can be changed."""

    __slots__ = ("stamp", "task", "waiting")

    def __init__(self, task: asyncio.Task[tuple[Rows, bool]], stamp: Hashable) -> None:
        self.task = task
        self.stamp = stamp
        self.waiting = 0


class QueryCache:
    """The cache of one database, in one event loop.

    Args:
        freshness: What the engine knows of changes.
        dialect: How statements are parsed.
        max_bytes: What all kept answers may take together.
        clock: Seconds; never goes back.
    """

    def __init__(
        self, freshness: Freshness, dialect: Dialect, *, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.freshness = freshness
        self._dialect = dialect
        self._clock = clock
        self._kept = KeptAnswers(max_bytes)
        self._facts: dict[str, Facts] = {}
        self._flights: dict[Hashable, _Flight] = {}
        self._refused: dict[str, int] = {}
        self._learning: set[asyncio.Task[Facts]] = set()
        self._closed = False
        self._counts = {
            "hits": 0,
            "misses": 0,
            "joined": 0,
            "changed": 0,
            "expired": 0,
            "thrown_away": 0,
            "too_large": 0,
        }

    def now(self, statement: Statement, values: Sequence[Any], limit: int | None, seconds: float) -> Rows | None:
        """What is kept, if it still holds; None where the database must be asked. Takes microseconds."""
        key = _key(statement.source, values, limit)
        kept = self._kept.get(key)
        if kept is None:
            return None
        facts = self._facts.get(statement.source)
        if facts is None or not self._is_young(key, kept, seconds):
            return None
        if kept.stamp != self.freshness.stamp(facts.reads):
            self._counts["changed"] += 1
            self._kept.drop(key)
            return None
        return self._given(kept)

    async def fetch(
        self, statement: Statement, values: Sequence[Any], limit: int | None, seconds: float, *, strict: bool, ask: Ask
    ) -> tuple[Rows, bool]:
        """(what is kept if it still holds, else what `ask()` gives, which is then kept; whether it was kept).

        Args:
            statement: What is asked.
            values: Its values, checked.
            limit: How many rows are wanted; None for all.
            seconds: How old an answer may be.
            strict: Whether the database is asked each time if the answer still holds.
            ask: Asks the database. May run in another task than this one.
        """
        facts = self._facts.get(statement.source) or await self._learn(statement.source)
        reason = facts.reason or await self._examined(facts, strict=strict)
        stamp = await self._stamp(facts, strict=strict) if not reason else None
        if stamp is None:
            self.refuse(reason or UNKNOWN)
            return await ask(), False
        key = _key(statement.source, values, limit)
        kept = self._kept.get(key)
        if kept is not None and self._is_young(key, kept, seconds):
            if kept.stamp == stamp:
                return self._given(kept), True
            self._counts["changed"] += 1
            self._kept.drop(key)
        return await self._join(key, stamp, partial(self._fill, key, stamp, facts, strict=strict, ask=ask)), False

    def wrote(self, statements: Iterable[str], began: float, *, settled: bool, whole: bool) -> None:
        """These statements of this process have happened together, or (not `settled`) may yet happen.

        Called before their caller goes on. They (or their commit) began at `began`, by `time.perf_counter`.
        `whole`: all of them happened, none was undone by a savepoint.
        """
        tables: set[str] | None = set()
        for sql in statements:
            facts = self._facts.get(sql)
            if facts is None:
                self._learn_soon(sql)
            if facts is None or facts.writes is None:
                tables = None
            elif tables is not None:
                tables |= facts.writes
        if tables is None or tables:
            self.freshness.wrote(None if tables is None else frozenset(tables), began, settled=settled, whole=whole)

    def _learn_soon(self, sql: str) -> None:
        if len(self._learning) < MAX_LEARNING and not self._closed:
            task = asyncio.create_task(self._learn(sql), context=contextvars.Context())
            self._learning.add(task)
            task.add_done_callback(self._learning.discard)

    def clear(self) -> None:
        self._kept.clear()

    def refuse(self, reason: str) -> None:
        """Count a question whose answer cannot be kept."""
        if reason in self._refused or len(self._refused) < MAX_REASONS:
            self._refused[reason] = self._refused.get(reason, 0) + 1

    def stats(self) -> dict[str, Any]:
        return {
            "promise": self.freshness.promise,
            **self._counts,
            "entries": len(self._kept),
            "bytes": self._kept.bytes,
            "max_bytes": self._kept.max_bytes,
            "evicted": self._kept.evicted,
            "not_cached": dict(self._refused),
        }

    async def close(self) -> None:
        self._closed = True
        for flight in list(self._flights.values()):
            flight.task.cancel()
        if tasks := [flight.task for flight in self._flights.values()]:
            await asyncio.wait(tasks)
        if self._learning:
            await asyncio.wait(self._learning)
        self._kept.clear()
        await self.freshness.close()

    async def _examined(self, facts: Facts, *, strict: bool) -> str:
        """Why it cannot be kept, seen while nothing changed; so no view can take a table's place meanwhile."""
        while True:
            before = None if strict else self.freshness.stamp(facts.reads)
            reason = await self.freshness.examine(facts.reads, strict=strict)
            if reason or before is None or before == self.freshness.stamp(facts.reads):
                return reason

    async def _learn(self, sql: str) -> Facts:
        facts = await asyncio.to_thread(_parsed, sql, self._dialect)
        if len(self._facts) >= MAX_FACTS:
            self._facts.clear()
        self._facts[sql] = facts
        return facts

    async def _stamp(self, facts: Facts, *, strict: bool) -> Hashable | None:
        return await self.freshness.asked(facts.reads) if strict else self.freshness.stamp(facts.reads)

    def _is_young(self, key: Hashable, kept: Kept, seconds: float) -> bool:
        if self._clock() - kept.since < seconds:
            return True
        self._counts["expired"] += 1
        self._kept.drop(key)
        return False

    def _given(self, kept: Kept) -> Rows:
        self._counts["hits"] += 1
        return copy.deepcopy(kept.rows) if kept.mutable else kept.rows

    async def _fill(
        self, key: tuple[Any, ...], stamp: Hashable, facts: Facts, *, strict: bool, ask: Ask
    ) -> tuple[Rows, bool]:
        since = self._clock()
        columns, found = await ask()
        rows = Rows(columns, list(map(tuple, found)))  # not a driver's own, which may hold on to more
        if len(rows.rows) < MANY_ROWS:
            size, mutable = bytes_of(rows, key)
        else:
            size, mutable = await asyncio.to_thread(bytes_of, rows, key)
        if await self._stamp(facts, strict=strict) != stamp:
            self._counts["thrown_away"] += 1
        elif not self._kept.put(key, Kept(rows, stamp, since, size, mutable)):
            self._counts["too_large"] += 1
        return rows, mutable

    async def _join(
        self, key: Hashable, stamp: Hashable, fill: Callable[[], Coroutine[Any, Any, tuple[Rows, bool]]]
    ) -> Rows:
        """Wait for the question that is under way, or begin it. It ends when nobody waits for it any more."""
        flight = self._flights.get(key)
        if flight is None or flight.stamp != stamp:  # one that began before a change may have missed it
            self._counts["misses"] += 1
            # A context of its own: the deadline of one who waits is not that of the others.
            task = asyncio.create_task(fill(), context=contextvars.Context())
            flight = self._flights[key] = _Flight(task, stamp)
            task.add_done_callback(partial(self._landed, key, flight))
        else:
            self._counts["joined"] += 1
        flight.waiting += 1
        try:
            rows, mutable = await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.task.cancelled() and self._closed:
                raise NotStarted("The database was stopped while it was asked.") from None
            raise
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
        return copy.deepcopy(rows) if mutable else rows

    def _landed(self, key: Hashable, flight: _Flight, task: asyncio.Task[Any]) -> None:
        self._forget(key, flight)
        if not task.cancelled():
            task.exception()  # seen, also where everybody who waited is gone

    def _forget(self, key: Hashable, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _parsed(sql: str, dialect: Dialect) -> Facts:
    from consona.sql.cache.analysis import analyse  # noqa: PLC0415  loading the parser takes a while: in a thread

    return analyse(sql, dialect)


def _key(sql: str, values: Sequence[Any], limit: int | None) -> tuple[Any, ...]:
    """Equal only for values that are the same to the database: 1 is neither True nor 1.0, and 1.0 not 1.00."""
    for value in values:
        if type(value) not in _PLAIN:
            values = [value if type(value) in _PLAIN else repr(value) for value in values]
            break
    return (sql, limit, *values, *map(type, values))
