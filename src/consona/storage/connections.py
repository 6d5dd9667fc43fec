"""The connections of one SQLite file: how they are opened, and who of them may be interrupted when."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from consona.address import Address
from consona.errors import ConfigurationError
from consona.storage.settings import SQLiteSettings

__all__ = ["Connector", "Interruptible"]

JOURNAL_LIMIT_BYTES: Final = 64 << 20


class Connector:
    """Opens connections to one file, or the one connection of a memory database.

    Args:
        address: `sqlite:///shop.db`, or `sqlite://` for memory.
        settings: How.
    """

    def __init__(self, address: Address, settings: SQLiteSettings) -> None:
        self.address = address
        self.settings = settings
        self.is_memory = address.is_memory
        self.path = "" if self.is_memory else os.path.realpath(address.path)
        self.name = str(Address(scheme="sqlite", host=address.host, path=address.path))
        """How messages call it."""

    def writer(self) -> apsw.Connection:
        """The connection that writes. It makes the file where it is new.

        Raises:
            ConfigurationError: The folder does not exist, the path is one, or the disk cannot share memory.
            apsw.Error: What SQLite finds: no permission, no database, a damaged one.
        """
        if self.is_memory:
            connection = apsw.Connection(":memory:")
        else:
            self._look_at_path()
            connection = apsw.Connection(self.path)
        try:
            self._prepare(connection)
            if not self.is_memory:
                self._write_ahead(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def reader(self, *, patient: bool) -> apsw.Connection:
        """A connection that only reads. One that is not `patient` fails at once where the file is locked."""
        connection = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
        self._prepare(connection, busy=self.settings.busy if patient else 0.0)
        connection.execute("PRAGMA query_only = ON")
        return connection

    def be_patient(self, connection: apsw.Connection) -> None:
        """Wait for other processes as long as the settings say."""
        connection.set_busy_handler(_patience(self.settings.busy))

    def _look_at_path(self) -> None:
        path = Path(self.path)
        if not path.parent.is_dir():
            # Not made silently: a typing error, or a disk that is not mounted, would start with an empty database.
            raise ConfigurationError(
                f"The folder {str(path.parent)!r} of the database {self.address.path!r} does not exist.",
                hint="Make it first, or correct the address. Three slashes begin a relative path, four an absolute one.",
            )
        if path.is_dir():
            raise ConfigurationError(
                f"The database {self.address.path!r} is a folder.", hint="Name a file in it: sqlite:///folder/shop.db."
            )

    def _prepare(self, connection: apsw.Connection, *, busy: float | None = None) -> None:
        settings = self.settings
        connection.set_busy_handler(_patience(settings.busy if busy is None else busy))
        connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute(f"PRAGMA cache_size = {-1024 * settings.cache_mib}")
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)

    def _write_ahead(self, connection: apsw.Connection) -> None:
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise ConfigurationError(
                f"{self.name} cannot use a write-ahead log (SQLite offers {mode!r}).",
                hint="Put the file on a local disk: network disks cannot share memory between processes.",
            )
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}")


def _patience(seconds: float) -> Callable[[int], bool]:
    """A busy handler that asks every half to five milliseconds (SQLite's own sleeps up to 100, and starves)."""
    began = 0.0

    def wait(attempt: int) -> bool:
        nonlocal began
        now = time.monotonic()
        if attempt == 0:
            began = now
        if now - began >= seconds:
            return False
        time.sleep(min(0.0005 * (attempt + 1), 0.005))
        return True

    return wait


class Interruptible:
    """Lets others interrupt what a thread runs on its connection, and only that.

    An interrupt that came a moment too late would hit what runs next, which may be somebody else's.
    """

    __slots__ = ("_connection", "_lock", "_running")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._running: object | None = None

    def begin(self, work: object) -> None:
        with self._lock:
            self._running = work

    def end(self) -> None:
        with self._lock:
            self._running = None

    def interrupt(self, work: object) -> None:
        """Interrupt `work` if it runs now."""
        with self._lock:
            if self._running is work:
                self._connection.interrupt()
