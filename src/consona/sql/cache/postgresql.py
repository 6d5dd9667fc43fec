"""PostgreSQL: triggers tell of every change, whoever makes it, and a beat tells that nothing was missed.

Each watched table has a trigger (see `postgresql_watching.py`) that sends its name with NOTIFY. A message of
ours, the beat, goes the same way twice a second. PostgreSQL tells messages in the order of their commits, so
when a beat arrives, every change that was committed before it was sent has been told. What is kept is given
only while the last such beat was sent less than `BOUND_S` seconds ago: nothing is ever staler than that,
also when the network or the server hangs; usually it is milliseconds.

Changes of this process count at once, when their statement or transaction has ended.

Source: https://www.postgresql.org/docs/current/sql-notify.html
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from consona.errors import ConsonaError
from consona.sql.cache.postgresql_watching import ABOUT, ASKED, BEAT, CHANNEL, SPREADING, quoted
from consona.storage.postgresql.engine import PostgreSQLEngine

__all__ = ["BOUND_S", "PostgreSQLFreshness"]

log = logging.getLogger("consona.sql")

BEAT_S: Final = 0.5
BOUND_S: Final = 1.5
"""No kept answer is staler than so many seconds, whatever happens."""
START_S: Final = 3.0
"""So long the first question waits for the first beat."""
IDLE_S: Final = 60.0
"""After so many seconds without a question nothing beats any more."""
UNSETTLED_S: Final = 10.0
"""So long nothing is kept after a write whose outcome is not known."""


@dataclass(slots=True)
class _Table:
    """What the catalog says of one table."""

    digest: str
    oid: int
    reason: str
    strict: bool
    """Whether its trigger also counts its changes, for `Strict`."""


@dataclass(slots=True)
class _State:
    """What is known of changes."""

    epoch: int = 0
    """Grows when something may have been missed: the listener was away, the schema changed."""
    unknown: int = 0
    """Grows with each write of which nobody knows the tables."""
    versions: dict[str, int] = field(default_factory=dict)
    tables: dict[str, _Table] = field(default_factory=dict)
    spreading: frozenset[str] | None = None
    """Tables whose changes cause others: they have triggers, rules, or keys that cascade. None: not known yet."""
    spreading_digest: str = ""
    confirmed: float = float("-inf")
    """When the last beat that arrived was sent."""
    unsettled_until: float = float("-inf")
    echoes: dict[str, deque[float]] = field(default_factory=dict)
    """Since when which messages of our own writes are expected."""
    early: dict[str, deque[float]] = field(default_factory=dict)
    """When messages came that were not expected, and may be those of writes whose answers are on their way."""


class PostgreSQLFreshness:
    """For one engine."""

    promise = (
        f"never stale for changes of this process; those of others are seen at once, and never later than {BOUND_S:g} s"
    )
    strict_only = False
    wants_writes = True

    def __init__(self, engine: PostgreSQLEngine, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._engine = engine
        self._clock = clock
        self._state = _State()
        self._beat_channel = f"consona_beat_{secrets.token_hex(8)}"
        self._beat = 0
        self._heard = asyncio.Event()
        self._arrived = 0
        self._wanted = asyncio.Event()
        self._asked_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._stops: list[Callable[[], Awaitable[None]]] = []

    # What the cache asks.

    def stamp(self, tables: frozenset[str]) -> Hashable | None:
        state, now = self._state, self._clock()
        self._asked_at = now
        if now - state.confirmed > BOUND_S or now < state.unsettled_until:
            self._wanted.set()
            return None
        versions = state.versions
        return (state.epoch, state.unknown, *[versions.get(_key(table), 0) for table in tables])

    async def examine(self, tables: frozenset[str], *, strict: bool) -> str:
        state = self._state
        if not strict and not await self._beats():
            return "the connection that listens for changes is not there"
        if missing := [table for table in tables if table not in state.tables]:
            await self._look_up(missing)
        for table in sorted(tables):
            found = state.tables[table]
            if found.reason:
                return found.reason
            if strict and not found.strict:
                return f"{table} is not counted: await db.watch_tables({table!r}, strict=True)"
        return ""

    async def asked(self, tables: frozenset[str]) -> Hashable | None:
        """The state of the tables; None where one of them is not as it was judged, so that it is judged again."""
        known = self._state.tables
        names = [table for table in tables if table in known]
        if len(names) < len(tables):
            return None
        judged = [known[table].digest for table in names]
        values = [[known[table].oid for table in names], [quoted(table) for table in names]]
        [(counted, digests)] = (await self._engine.ask(ASKED, values, reads=True)).rows
        if (digests or []) != judged:
            for table in names:
                known.pop(table, None)
            return None
        return (counted, *judged)

    def wrote(self, tables: frozenset[str] | None, began: float, *, settled: bool, whole: bool) -> None:
        state = self._state
        if not settled:
            state.unsettled_until = self._clock() + UNSETTLED_S
        if tables is None or state.spreading is None or any(_key(table) in state.spreading for table in tables):
            state.unknown += 1
            return
        for table in tables:
            key = _key(table)
            self._changed(key)
            found = state.tables.get(table)
            if settled and whole and found is not None and not found.reason:
                self._expect_echo(key, began)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for stop in self._stops:
            await stop()

    # The beat.

    async def _beats(self) -> bool:
        """Whether changes are told now; begins to listen where nobody does yet."""
        if self._clock() - self._state.confirmed <= BOUND_S:
            return True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_beating(), name=f"{self._engine.name} cache")
        self._wanted.set()
        until = self._clock() + START_S
        while self._clock() - self._state.confirmed > BOUND_S:
            self._heard.clear()
            try:
                async with asyncio.timeout(until - self._clock()):
                    await self._heard.wait()
            except TimeoutError:
                return False
        return True

    async def _keep_beating(self) -> None:
        while True:
            try:
                if not self._stops:
                    await self._listen()
                await self._beat_once()
            except (ConsonaError, TimeoutError):
                log.debug("%s: changes are not told now.", self._engine.name, exc_info=True)
            if self._clock() - self._asked_at > IDLE_S:
                self._wanted.clear()
                await self._wanted.wait()
            else:
                await asyncio.sleep(BEAT_S)

    async def _listen(self) -> None:
        notifications = self._engine.notifications
        self._stops.append(await notifications.listen(CHANNEL, self._told, self._listener_is))
        self._stops.append(await notifications.listen(self._beat_channel, self._beat_arrived))

    async def _beat_once(self) -> None:
        """Send a beat, and see whether the schema changed."""
        state, sent = self._state, self._clock()
        self._beat += 1
        known = dict(state.tables)
        async with asyncio.timeout(BOUND_S):
            values = [[quoted(table) for table in known], self._beat_channel, str(self._beat)]
            [(digests, spreading, _)] = (await self._engine.ask(BEAT, values, reads=True)).rows
            for (table, found), digest in zip(known.items(), digests or (), strict=True):
                if found.digest != digest and state.tables.pop(table, None) is not None:
                    state.epoch += 1
            if spreading != state.spreading_digest:
                rows = (await self._engine.ask(SPREADING, [], reads=True)).rows
                state.spreading, state.spreading_digest = frozenset(name for (name,) in rows), spreading
                state.epoch += 1
            while self._arrived < self._beat:
                self._heard.clear()
                await self._heard.wait()
        state.confirmed = sent
        self._heard.set()

    def _beat_arrived(self, payload: str) -> None:
        self._arrived = max(self._arrived, int(payload))
        self._heard.set()

    def _listener_is(self, there: bool) -> None:  # noqa: FBT001  as the listener tells it
        if not there:
            self._state.epoch += 1
            self._state.confirmed = float("-inf")
        self._wanted.set()

    def _told(self, table: str) -> None:
        """A message. That of our own write was counted when the write ended: once is enough.

        Which message is whose need not be known: of two, one is counted, and it is the later one.
        """
        state = self._state
        if not _take(state.echoes, table, since=self._clock() - BOUND_S):
            state.early.setdefault(table, deque(maxlen=100)).append(self._clock())
            self._changed(table)

    def _expect_echo(self, table: str, began: float) -> None:
        """The message of our own write is to come, unless it came before the answer to the write did."""
        state = self._state
        if not _take(state.early, table, since=began):
            state.echoes.setdefault(table, deque(maxlen=10_000)).append(self._clock())

    def _changed(self, table: str) -> None:
        versions = self._state.versions
        versions[table] = versions.get(table, 0) + 1

    # The catalog.

    async def _look_up(self, tables: list[str]) -> None:
        rows = (await self._engine.ask(ABOUT, [[quoted(table) for table in tables]], reads=True)).rows
        for table, row in zip(tables, rows, strict=True):
            self._state.tables[table] = _judged(table, *row)


def _judged(table: str, digest: str, oid: int | None, kind: str, plain: bool, secured: bool, trigger: str) -> _Table:  # noqa: FBT001
    if oid is None:
        reason = f"there is no table {table}"
    elif kind in {"v", "m"}:
        reason = f"{table} is a view"
    elif kind != "r" or not plain:
        reason = f"{table} is partitioned, inherits, is foreign or temporary"
    elif secured:
        reason = f"{table} has row security, so its rows depend on who asks"
    elif not trigger:
        reason = f"{table} is not watched: await db.watch_tables({table!r})"
    else:
        reason = ""
    return _Table(digest, oid or 0, reason, trigger == "strict")


def _take(noted: dict[str, deque[float]], table: str, *, since: float) -> bool:
    """Take one that was noted for the table, if there is one that is not older."""
    times = noted.get(table)
    while times:
        if times.popleft() >= since:
            return True
    return False


def _key(table: str) -> str:
    """The name without its schema: tables of one name in two schemas are taken for one, which is no harm."""
    return table.rpartition(".")[2]
