"""Locks by name that hold between processes, and end with whoever has them.

PostgreSQL and MariaDB have locks that end with the connection that holds them; a SQLite file has a lock
file beside it, whose lock ends with its process. All of them are asked for again and again, since
waiting inside the server would stand in the way of a CREATE INDEX CONCURRENTLY.

Sources: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS,
https://mariadb.com/kb/en/get_lock/, flock(2).
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import hashlib
import os
import random
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from consona.errors import ConsonaError, LockLost
from consona.sql.dialect import MYSQL, POSTGRESQL
from consona.sql.engine import Session
from consona.sql.placeholders import compile_statement
from consona.storage.turn import try_lock, unlock

__all__ = ["FileLock", "Lock", "MemoryLock", "MySQLLock", "PostgreSQLLock", "held", "who"]

PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.25


class Lock(Protocol):
    """A lock that is tried for, never waited for."""

    async def take(self) -> bool: ...

    async def give_back(self) -> bool:
        """False where it was lost before: the connection that it was on is another one now."""

    async def holder(self) -> str:
        """Who has it, in words; empty where that is not known."""


def who() -> str:
    """Who this program is, for others who wait: `ada@laptop, process 4711`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a name for its user
        user = "unknown"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"[:200]


@asynccontextmanager
async def held(lock: Lock, *, wait_s: float, refused: Callable[[str], Exception]) -> AsyncGenerator[None]:
    """Have the lock for the time of the block.

    Args:
        lock: Which one.
        wait_s: How long to wait where somebody else has it.
        refused: Makes the error for who waited in vain; gets who has it, in words, or nothing.

    Raises:
        LockLost: It ended before the block did.
    """
    until, pause = time.monotonic() + wait_s, PAUSE_S
    while not await lock.take():
        left = until - time.monotonic()
        if left <= 0:
            raise refused(await lock.holder())
        await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311  no secret
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
    try:
        yield
    except BaseException:
        with contextlib.suppress(ConsonaError):  # what happened in the block is what the caller must hear
            await lock.give_back()
        raise
    lost: ConsonaError | None = None
    try:
        kept = await lock.give_back()
    except ConsonaError as error:
        kept, lost = False, error
    if not kept:
        raise LockLost("The lock ended before the work that it was for.") from lost


class PostgreSQLLock:
    """An advisory lock of a session; each database has its own."""

    def __init__(self, session: Session, purpose: str) -> None:
        self._session = session
        self._key = int.from_bytes(hashlib.sha256(f"consona {purpose}".encode()).digest()[:8], "big", signed=True)

    async def take(self) -> bool:
        return bool(await self._ask("SELECT pg_try_advisory_lock(?)", self._key))

    async def give_back(self) -> bool:
        return bool(await self._ask("SELECT pg_advisory_unlock(?)", self._key))

    async def holder(self) -> str:
        found = await self._ask(
            "SELECT concat_ws(', ', a.usename || coalesce('@' || host(a.client_addr), ''),"
            " nullif(a.application_name, ''), 'session ' || a.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (l.classid::bigint << 32) | l.objid::bigint = ?",
            self._key,
        )
        return str(found or "")

    async def _ask(self, sql: str, *values: Any) -> Any:
        rows = (await self._session.fetch(compile_statement(sql, POSTGRESQL), values)).rows
        return rows[0][0] if rows else None


class MySQLLock:
    """A named lock of a session. Names hold for a whole server, so the database is part of it."""

    def __init__(self, session: Session, purpose: str) -> None:
        self._session = session
        self._key = hashlib.sha256(purpose.encode()).hexdigest()[:20]  # with the rest 61 of the 64 characters allowed

    async def take(self) -> bool:
        return bool(await self._ask(f"SELECT GET_LOCK({_NAME}, 0)", self._key) == 1)

    async def give_back(self) -> bool:
        return bool(await self._ask(f"SELECT RELEASE_LOCK({_NAME})", self._key) == 1)

    async def holder(self) -> str:
        session = await self._ask(f"SELECT IS_USED_LOCK({_NAME})", self._key)
        if session is None:
            return ""
        who_it_is = await self._ask(
            "SELECT CONCAT(user, '@', host) FROM information_schema.processlist WHERE id = ?", session
        )
        return f"{who_it_is or 'somebody'}, session {session}"

    async def _ask(self, sql: str, *values: Any) -> Any:
        rows = (await self._session.fetch(compile_statement(sql, MYSQL), values)).rows
        return rows[0][0] if rows else None


_NAME: Final = "CONCAT('consona_', LEFT(SHA2(DATABASE(), 256), 32), '_', ?)"


class FileLock:
    """A lock file beside a SQLite file. It is there while somebody has the lock, and says who."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
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

    async def give_back(self) -> bool:
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            unlock(self._fd)
        os.close(self._fd)
        return True

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

    async def give_back(self) -> bool:
        _in_memory.discard(self._name)
        return True

    async def holder(self) -> str:
        return "another task of this process"


_in_memory: Final[set[str]] = set()
