"""One runner at a time for each database, however many processes start at once.

PostgreSQL and MariaDB have locks that end with the connection that holds them; a SQLite file has a lock
file beside it, whose lock ends with its process. All of them are asked for again and again, since
waiting inside the server would stand in the way of a CREATE INDEX CONCURRENTLY.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from consona.sql.dialect import MYSQL, POSTGRESQL
from consona.sql.engine import Session
from consona.sql.migrations.errors import MigrationLocked
from consona.sql.migrations.history import who
from consona.sql.placeholders import compile_statement
from consona.storage.turn import try_lock, unlock

__all__ = ["FileLock", "Lock", "MemoryLock", "MySQLLock", "PostgreSQLLock", "held"]

PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.25
KEY: Final = int.from_bytes(hashlib.sha256(b"consona migrations").digest()[:8], "big", signed=True)
"""The number that PostgreSQL's lock has in each database."""


class Lock(Protocol):
    """A lock that is tried for, never waited for."""

    async def take(self) -> bool: ...

    async def give_back(self) -> None: ...

    async def holder(self) -> str:
        """Who has it, in words; empty where that is not known."""


@asynccontextmanager
async def held(lock: Lock, name: str, *, wait_s: float) -> AsyncGenerator[None]:
    """Have the lock for the time of the block.

    Raises:
        MigrationLocked: Somebody else had it for `wait_s` seconds.
    """
    until, pause = time.monotonic() + wait_s, PAUSE_S
    while not await lock.take():
        if time.monotonic() >= until:
            holder = await lock.holder()
            raise MigrationLocked(
                f"{name} is being migrated by {holder or 'somebody else'}, for more than {wait_s:g} s.",
                database=name,
                holder=holder,
            )
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  no secret
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
    try:
        yield
    finally:
        await lock.give_back()


class PostgreSQLLock:
    """An advisory lock of a session; each database has its own."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def take(self) -> bool:
        return bool(await self._ask("SELECT pg_try_advisory_lock(?)", KEY))

    async def give_back(self) -> None:
        await self._ask("SELECT pg_advisory_unlock(?)", KEY)

    async def holder(self) -> str:
        found = await self._ask(
            "SELECT concat_ws(', ', a.usename || coalesce('@' || host(a.client_addr), ''),"
            " nullif(a.application_name, ''), 'session ' || a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (l.classid::bigint << 32) | l.objid::bigint = ?",
            KEY,
        )
        return str(found or "")

    async def _ask(self, sql: str, *values: Any) -> Any:
        rows = (await self._session.fetch(compile_statement(sql, POSTGRESQL), values)).rows
        return rows[0][0] if rows else None


class MySQLLock:
    """A named lock of a session. Names hold for a whole server, so the database is part of it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def take(self) -> bool:
        return bool(await self._ask(f"SELECT GET_LOCK({_NAME}, 0)") == 1)

    async def give_back(self) -> None:
        await self._ask(f"SELECT RELEASE_LOCK({_NAME})")

    async def holder(self) -> str:
        session = await self._ask(f"SELECT IS_USED_LOCK({_NAME})")
        if session is None:
            return ""
        who_it_is = await self._ask(
            "SELECT CONCAT(user, '@', host) FROM information_schema.processlist WHERE id = ?", session
        )
        return f"{who_it_is or 'somebody'}, session {session}"

    async def _ask(self, sql: str, *values: Any) -> Any:
        rows = (await self._session.fetch(compile_statement(sql, MYSQL), values)).rows
        return rows[0][0] if rows else None


_NAME: Final = "CONCAT('consona_', LEFT(SHA2(DATABASE(), 256), 32), '_migrations')"


class FileLock:
    """A lock file beside a SQLite file. It is there while somebody migrates, and says who."""

    def __init__(self, database: str) -> None:
        self._path = Path(f"{database}-migrating")
        self._fd = -1

    async def take(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            try_lock(fd)
            if self._path.stat().st_ino != os.fstat(fd).st_ino:  # its holder removed it meanwhile: a new one counts
                os.close(fd)
                return False
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        os.truncate(fd, 0)
        os.write(fd, b" " + who().encode())  # the first byte is what Windows locks, so that others cannot read it
        return True

    async def give_back(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            unlock(self._fd)
        os.close(self._fd)

    async def holder(self) -> str:
        try:
            with self._path.open("rb") as stream:
                stream.seek(1)
                return stream.read(300).decode(errors="replace").strip()
        except OSError:
            return ""


class MemoryLock:
    """For a database in the memory of this process."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def take(self) -> bool:
        if self._name in _in_memory:
            return False
        _in_memory.add(self._name)
        return True

    async def give_back(self) -> None:
        _in_memory.discard(self._name)

    async def holder(self) -> str:
        return "another task of this process"


_in_memory: Final[set[str]] = set()
