"""One SQLite file, written by one thread and read by several; shared by all parts of the process that name it.

    engine = await open_sqlite("sqlite:///shop.db")
    await engine.write(lambda db: db.execute("INSERT INTO orders (total) VALUES (?)", (990,)))
    rows = await engine.read(lambda db: db.execute("SELECT id, total FROM orders"))
    async with engine.transaction() as tx:
        order = await tx.run(place)
        await store.put("last-order", order, tx=tx)
    await engine.close()

The functions get an apsw connection, run on another thread, and return plain data (a cursor that is
returned is read to its end). Those given to `write` may run more than once, so they change the
database and nothing else.

Do not open the same file with Python's own `sqlite3` module in the same process: that is a second copy
of SQLite, and the locks of two copies in one process do not see each other. In other processes it is
safe. Source: https://www.sqlite.org/howtocorrupt.html, section 2.2.1.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import apsw

from consona.address import Address
from consona.errors import AddressError, ConfigurationError, NotStarted, TransactionOpen
from consona.storage.changes import Changes
from consona.storage.connections import Connector
from consona.storage.doorbell import Doorbell, folder_of
from consona.storage.jobs import Read, Stop, Write, plain, settled
from consona.storage.readers import Readers
from consona.storage.settings import SQLiteSettings
from consona.storage.snapshot import Snapshot
from consona.storage.sqlite_errors import translated
from consona.storage.transaction import SharedTransaction, Transaction, caller
from consona.storage.writer import Writer

__all__ = ["SQLiteEngine", "SQLiteSettings", "open_sqlite"]

T = TypeVar("T")


class SQLiteEngine:
    """The one engine of a file in this process. Get it with `open_sqlite`; give it back with `close`.

    It may be used from several event loops at the same time.
    """

    def __init__(
        self, address: Address, settings: SQLiteSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.address = address
        self.settings = settings
        self._connector = Connector(address, settings)
        self.name = self._connector.name
        self._commits = 0
        self._changes = Changes(self.data_version, shared=not address.is_memory, clock=clock)
        shared = not address.is_memory
        self._bell = Doorbell(folder_of(self._connector.path), on_ring=self._changes.announce) if shared else None
        self._writer = Writer(self._connector, on_commit=self._committed, clock=clock)
        self._readers = Readers(self._connector)
        self._snapshots: weakref.WeakSet[Snapshot] = weakref.WeakSet()
        self._quick: apsw.Connection | None = None
        self._quick_lock = threading.Lock()
        self._last_version = 0
        self._open: dict[asyncio.Task[Any] | None, Transaction] = {}
        self._users = 0
        self._started: Future[None] = Future()
        self._pid = os.getpid()
        self._closed = False

    # Writing.

    async def write(self, fn: Callable[[apsw.Connection], T], *, tx: SharedTransaction | None = None) -> T:
        """Run `fn(connection)` on the writing thread, and return its result once that is committed.

        Writes of many tasks are committed together; when one fails, it alone is undone. Cancelled while it
        waits, it never happens; cancelled later, it happens (or fails), and then the cancellation goes on.

        Args:
            fn: Changes the database and nothing else, since it may run twice.
            tx: Run it in this open transaction instead.

        Raises:
            QueryError: SQLite refused it (`ConstraintFailed`, `DiskFull`, …); nothing of it was written.
            DatabaseLocked: Somebody else held the database for too long; nothing was written.
            CommitUnknown: The disk failed during COMMIT, so it may have been written or not.
            TransactionOpen: This task has a transaction open, and did not pass it.
        """
        if tx is not None:
            return await self._own(tx).run(fn)
        self._usable()
        self._refuse_own("write")
        job = Write(fn, asyncio.get_running_loop(), self._writer.clock())
        self._writer.put(job)
        try:
            value: T = await job.future
            return value
        except asyncio.CancelledError:
            if not self._writer.withdraw(job):
                await settled(job)
            raise

    def transaction(
        self,
        *,
        name: str = "",
        deadline: float | None = None,
        tx: SharedTransaction | None = None,
        where: str = "",
        read_only: bool = False,
    ) -> Transaction:
        """Several steps that happen together: `async with engine.transaction() as tx: await tx.run(fn)`.

        Nobody else writes meanwhile, so keep it short. Where this task has a transaction open already (or
        `tx` is one), the new one is a savepoint in that.

        Args:
            name: What messages call it; by default the task's name.
            deadline: Seconds that it may be open; by default those of the settings.
            tx: The open transaction to nest it in.
            where: What messages say about the place where it began; by default the caller's.
            read_only: Refuse what writes. It keeps the writer waiting all the same; a `snapshot()` does not.

        Raises:
            DatabaseLocked: (when entered) Somebody else held the database for too long; the message says who.
            DeadlineExceeded: (when left) It was open for too long, and was rolled back.
            CommitUnknown: (when left) The disk failed during COMMIT.
        """
        self._usable()
        task = asyncio.current_task()
        parent = self._own(tx) if tx is not None else self._open.get(task)
        name = name or (task.get_name() if task is not None else "unnamed")
        limit_s = self.settings.transaction if deadline is None else deadline
        if limit_s <= 0:
            raise ConfigurationError(f"The deadline of a transaction must be above 0 seconds; it is {limit_s:g}.")
        return Transaction(
            self, name=name, where=where or caller(), limit_s=limit_s, parent=parent, read_only=read_only
        )

    # Reading.

    async def read(self, fn: Callable[[apsw.Connection], T], *, tx: SharedTransaction | None = None) -> T:
        """Run `fn(connection)` on a reading thread, beside the writer; all of it sees the same moment.

        Cancelling it interrupts its statement. A memory database has one connection, so there reads and
        writes take turns.

        Args:
            fn: Reads and returns plain data.
            tx: Read in this open transaction instead, to see what it changed.

        Raises:
            QueryError: SQLite refused it.
            DatabaseReadOnly: It tried to write.
            TransactionOpen: A memory database, and this task has a transaction open that it did not pass.
        """
        if tx is not None:
            return await self._own(tx).run(fn)
        self._usable()
        job = Read(fn, asyncio.get_running_loop(), self._writer.clock())
        if self.address.is_memory:
            self._refuse_own("read")
            self._writer.put(job)
        else:
            self._readers.put(job)
        try:
            value: T = await job.future
            return value
        except asyncio.CancelledError:
            if not self.address.is_memory:
                self._readers.cut(job)
            elif not self._writer.withdraw(job):
                await settled(job, lambda: self._writer.interrupt(job))
            raise

    def snapshot(self) -> Snapshot:
        """A reading connection of one's own that stays at one moment; close it. A memory database has none.

        Raises:
            ConfigurationError: A memory database: it has one connection only.
        """
        self._usable()
        if self.address.is_memory:
            raise ConfigurationError(f"{self.name} is in memory, where there are no snapshots.", hint="Use read().")
        snapshot = Snapshot(self._connector)
        self._snapshots.add(snapshot)
        return snapshot

    async def read_now(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run one small look-up by key at once, on the event loop itself.

        Ten times as fast as a reading thread, and nothing else runs meanwhile: only for statements that
        read a bounded number of rows through an index. Where the file is locked (or in memory), a thread
        does it.
        """
        if self._quick is not None:
            self._usable()
            try:
                with self._quick_lock:
                    return plain(fn(self._quick))  # type: ignore[no-any-return]
            except (apsw.BusyError, apsw.LockedError):
                pass
            except apsw.Error as error:
                raise translated(error, self.name) from error
        return await self.read(fn)

    # Changes.

    def data_version(self) -> int:
        """A number that differs after every commit of this or another process. Takes about 3 microseconds."""
        if self._quick is None:
            return self._commits
        self._usable()
        try:
            with self._quick_lock:
                self._last_version = int(self._quick.execute("PRAGMA data_version").get)
        except apsw.BusyError:
            pass  # somebody recovers the log: the next call will see
        except apsw.Error as error:
            raise translated(error, self.name) from error
        return self._last_version

    def version_now(self) -> int | None:
        """`data_version()` for those who rely on it: None where it cannot be known at this moment."""
        if self._quick is None:
            return self._commits
        self._usable()
        try:
            with self._quick_lock:
                return int(self._quick.execute("PRAGMA data_version").get)
        except apsw.BusyError:
            return None  # somebody recovers the log
        except apsw.Error as error:
            raise translated(error, self.name) from error

    async def changed(self, since: int, *, timeout: float | None = None) -> int:  # noqa: ASYNC109  no scope is cancelled
        """Wait until `data_version()` is not `since`; returns it. After `timeout` seconds, returns `since`."""
        self._usable()
        if self._bell is not None:
            self._bell.listen()
        return await self._changes.wait(since, timeout_s=timeout)

    # Life.

    def stats(self) -> dict[str, Any]:
        """Counts since it was opened, and who holds the writer now."""
        writer, readers = self._writer, self._readers
        holder = writer.holder
        return {
            **writer.stats(),
            "reads": readers.done,
            "reads_under_way": readers.outstanding,
            "reads_interrupted": readers.interrupted,
            "reading_threads": readers.threads,
            "users": self._users,
            "holder": None if holder is None else {"name": holder.name, "where": holder.where},
        }

    async def close(self) -> None:
        """Give it back. The last one who does ends what still reads, lets the writes finish, and closes the file."""
        if not _give_back(self):
            return
        closing = asyncio.get_running_loop().run_in_executor(None, self._close)
        await asyncio.shield(closing)

    def _start(self) -> None:
        """Open the file. Blocks; `_started` holds the outcome for those who open it at the same time."""
        self._writer.thread.start()
        try:
            self._writer.opened.result()
            if not self.address.is_memory:
                self._quick = self._connector.reader(patient=False)
                self.data_version()
        except BaseException as error:
            self._closed = True
            self._writer.put(Stop())
            self._started.set_exception(error)
            raise
        self._started.set_result(None)

    def _close(self) -> None:
        """Blocks."""
        self._closed = True
        self._readers.close()
        for snapshot in list(self._snapshots):
            snapshot.cut()
        if self._bell is not None:
            self._bell.close()
        with self._quick_lock:
            quick, self._quick = self._quick, None
            if quick is not None:
                quick.close(True)  # noqa: FBT003  apsw's only spelling of `force`
        self._writer.put(Stop())
        self._writer.closed.result()
        self._changes.announce()

    def _committed(self) -> None:
        self._commits += 1
        self._changes.announce()
        if self._bell is not None:
            self._bell.ring()

    def _usable(self) -> None:
        if self._pid != os.getpid():
            raise ConfigurationError(
                f"{self.name} was opened before this process was forked, and cannot be used in both.",
                hint="Open it after the fork: in each worker.",
            )
        if self._closed:
            raise NotStarted(f"{self.name} is closed.", hint="Open it again with open_sqlite().")

    def _own(self, tx: SharedTransaction) -> Transaction:
        tx = tx.native
        if isinstance(tx, Snapshot):
            raise ConfigurationError(
                "That transaction only reads, so nothing can take part in it.", hint="Begin it without read_only=True."
            )
        if not isinstance(tx, Transaction):
            raise ConfigurationError(
                f"That is a transaction of another engine, and cannot span {self.name}.",
                hint="One transaction spans the parts that name the same file.",
            )
        if tx.engine is not self:
            raise ConfigurationError(
                f"The transaction {tx.name!r} is one of {tx.engine.name}, and cannot span {self.name}.",
                hint="One transaction spans the parts that name the same file.",
            )
        return tx

    def _refuse_own(self, verb: str) -> None:
        if not self._open:
            return
        mine = self._open.get(asyncio.current_task())
        if mine is not None:
            raise TransactionOpen(
                f"This task has the transaction {mine.name!r} open (begun at {mine.where}), for whose end this {verb}"
                " would wait.",
                database=self.name,
            )

    def _enter(self, task: asyncio.Task[Any] | None, tx: Transaction) -> None:
        self._open[task] = tx

    def _leave(self, task: asyncio.Task[Any] | None, parent: Transaction | None = None) -> None:
        if parent is not None and parent._task is task:
            self._open[task] = parent
        else:
            self._open.pop(task, None)


_lock = threading.Lock()
_engines: Final[dict[str, SQLiteEngine]] = {}
_inherited: Final[list[SQLiteEngine]] = []
"""Engines of the process that this one was forked from: never closed here, since that would touch its file."""


def _after_fork() -> None:
    global _lock  # noqa: PLW0603  whoever held the old one does not exist in this process
    _lock = threading.Lock()
    _inherited.extend(_engines.values())
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def open_sqlite(url: str | Address, settings: SQLiteSettings | None = None) -> SQLiteEngine:
    """The engine of a file, opened now or shared with those of this process who opened it before.

    Args:
        url: `sqlite:///shop.db` (relative), `sqlite:////srv/shop.db` (absolute), `sqlite://` or `sqlite://name`
            (in memory, shared by the process). Settings may follow: `?synchronous=NORMAL`.
        settings: How; None takes what the address says, and of a file that is open already, what it has.

    Raises:
        ConfigurationError: The file is open with other settings, or its folder does not exist. Folders are
            not made, so that a disk that is not mounted is noticed.
        QueryError: The file cannot be opened, is damaged, or is no database.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     engine = await open_sqlite("sqlite://")
        ...     await engine.write(lambda db: db.execute("CREATE TABLE pets (name)"))
        ...     await engine.write(lambda db: db.execute("INSERT INTO pets VALUES (?)", ("Rex",)))
        ...     rows = await engine.read(lambda db: db.execute("SELECT name FROM pets"))
        ...     await engine.close()
        ...     return rows
        >>> asyncio.run(main())
        [('Rex',)]
    """
    address = Address.parse(url)
    if address.scheme != "sqlite":
        raise AddressError(f"{address} is no SQLite address.", hint="Write sqlite:///shop.db, or sqlite:// for memory.")
    wanted = (settings or SQLiteSettings()).with_options(address)
    asked = settings is not None or bool(address.options)
    loop = asyncio.get_running_loop()
    opening = loop.run_in_executor(None, lambda: _open(address, wanted, asked=asked))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _open(address: Address, settings: SQLiteSettings, *, asked: bool) -> SQLiteEngine:
    key = _key(address)
    with _lock:
        engine = _engines.get(key)
        first = engine is None
        if engine is None:
            engine = _engines[key] = SQLiteEngine(address, settings)
        elif asked and engine.settings != settings:
            raise ConfigurationError(
                f"{engine.name} is open in this process with other settings: {settings.differences(engine.settings)}.",
                hint="Give everybody who shares the file the same settings, or give them in one place only.",
            )
        engine._users += 1
    try:
        if first:
            engine._start()
        else:
            engine._started.result()
    except BaseException as error:
        with _lock:
            if _engines.get(key) is engine:
                del _engines[key]
        ours = translated(error, engine.name)
        if ours is error:
            raise
        raise ours from error
    return engine


def _key(address: Address) -> str:
    return f"sqlite://{address.host}" if address.is_memory else f"sqlite:///{os.path.realpath(address.path)}"


def _give_back(engine: SQLiteEngine) -> bool:
    """Count one user less; True for the last."""
    engine._usable()
    with _lock:
        engine._users -= 1
        if engine._users:
            return False
        engine._closed = True
        if _engines.get(_key(engine.address)) is engine:
            del _engines[_key(engine.address)]
        return True


def _close_unwanted(opening: asyncio.Future[SQLiteEngine]) -> None:
    """Give an engine back whose opener was cancelled meanwhile."""
    if not opening.cancelled() and opening.exception() is None and _give_back(opening.result()):
        opening.get_loop().run_in_executor(None, opening.result()._close)
