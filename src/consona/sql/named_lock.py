"""`db.lock(name)`: one at a time does something, among all tasks and programs that use the same database.

The tasks of one database object queue here, first come, first served; one of them asks the database. So a
thousand who wait take one connection, and those who have a lock take one each.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consona.errors import ConfigurationError, LockTimeout, QueryError
from consona.sql.dialect import MYSQL, POSTGRESQL
from consona.sql.engine import SupportsPinning
from consona.sql.locks import FileLock, Lock, MemoryLock, MySQLLock, PostgreSQLLock, held

if TYPE_CHECKING:  # the database makes locks, so the import can only go one way
    from consona.sql.database import SQLDatabase

__all__ = ["NamedLocks"]


@dataclass(slots=True)
class _Place:
    """Where the tasks of one database queue for one name."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    task: asyncio.Task[Any] | None = None
    where: str = ""


class NamedLocks:
    """Those of one database."""

    def __init__(self, database: SQLDatabase) -> None:
        self._database = database
        self._places: dict[str, _Place] = {}

    @asynccontextmanager
    async def hold(self, name: Any, *, wait_s: Any, where: str) -> AsyncGenerator[None]:
        """Have the lock for the time of the block. See `SQLDatabase.lock`."""
        if not isinstance(name, str) or not name:
            raise ConfigurationError("A lock has a name.", hint='Write db.lock("nightly report").')
        if not isinstance(wait_s, int | float) or not 0 <= wait_s < math.inf:
            raise ConfigurationError(f"The wait for a lock is a number of seconds from 0 on; it is {wait_s!r}.")
        place = self._places.setdefault(name, _Place())
        task = asyncio.current_task()
        if place.task is task:
            raise QueryError(
                f"This task has the lock {name!r} already (taken at {place.where}), and would wait for itself."
            )
        place.users += 1
        try:
            async with AsyncExitStack() as stack:
                with self._database.observer.operation("LOCK"):
                    left_s = await stack.enter_async_context(self._turn(place, name, wait_s))
                    await stack.enter_async_context(self._held(name, left_s, wait_s))
                place.task, place.where = task, where
                try:
                    yield
                finally:
                    place.task = None
        finally:
            place.users -= 1
            if not place.users:
                self._places.pop(name, None)

    @asynccontextmanager
    async def _turn(self, place: _Place, name: str, wait_s: float) -> AsyncGenerator[float]:
        """The queue of this database's tasks; gives the seconds that are left to wait."""
        until = time.monotonic() + wait_s
        try:
            async with asyncio.timeout(wait_s):
                await place.turn.acquire()
        except TimeoutError:
            raise self._refused(name, wait_s, f"this program at {place.where}" if place.where else "") from None
        try:
            yield max(0.0, until - time.monotonic())
        finally:
            place.turn.release()

    @asynccontextmanager
    async def _held(self, name: str, left_s: float, wait_s: float) -> AsyncGenerator[None]:
        """The lock that holds between programs."""
        db = self._database
        engine = db._engine()

        def refused(holder: str) -> LockTimeout:
            return self._refused(name, wait_s, holder)

        if db.dialect is POSTGRESQL or db.dialect is MYSQL:
            assert isinstance(engine, SupportsPinning)
            async with engine.pinned() as session:
                kind = PostgreSQLLock if db.dialect is POSTGRESQL else MySQLLock
                async with held(kind(session, f"lock {name}"), wait_s=left_s, refused=refused):
                    yield
            return
        async with held(beside(db.native, name), wait_s=left_s, refused=refused):
            yield

    def _refused(self, name: str, wait_s: float, holder: str) -> LockTimeout:
        return LockTimeout(
            f"The lock {name!r} of {self._database.name} was not free within {wait_s:g} s:"
            f" {holder or 'somebody else'} has it.",
            database=self._database.name,
            holder=holder,
        )


def beside(engine: Any, name: str) -> Lock:
    """The lock of a SQLite database: a file beside it, or a name where it is in memory."""
    path: str = engine._connector.path
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    return FileLock(f"{path}-lock-{key}") if path else MemoryLock(f"{engine.name} {name}")
