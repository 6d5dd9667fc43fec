"""Keeping the write-ahead log short: when it is copied into the file, and how it begins anew."""

from __future__ import annotations

import contextlib
from typing import Final

import apsw

from consona.storage.connections import Connector

__all__ = ["WriteAheadLog"]

RESTART_FACTOR: Final = 16
"""At how many times `checkpoint_pages` readers are waited for, so that the log can begin anew."""
RESTART_WAIT_MS: Final = 100


class WriteAheadLog:
    """The log of one file, as its writer sees it. Used on the writer's thread alone.

    Readers keep the log from being copied whole, and only then can it begin anew; so what is left is tried
    again a quarter of the limit later, and from sixteen times the limit on they are waited for, briefly.
    """

    def __init__(self, connector: Connector, connection: apsw.Connection) -> None:
        self.checkpoints = 0
        self.restarts = 0
        self._connector = connector
        self._connection = connection
        self._limit = self._next = connector.settings.checkpoint_pages
        self._pages = 0
        connection.set_wal_hook(self._note)

    def copy_if_long(self) -> None:
        """Copy it into the file where it has become long. Called after the callers were told: none waits for it."""
        pages = self._pages
        if pages < self._next:
            return
        self._next = pages + max(1, self._limit // 4)
        with contextlib.suppress(apsw.Error):  # the data is safe in the log, and a later commit tries again
            if pages < RESTART_FACTOR * self._limit:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            else:
                self._restart()
            self.checkpoints += 1

    def _restart(self) -> None:
        self._connection.set_busy_timeout(RESTART_WAIT_MS)
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            self.restarts += 1
        finally:
            self._connector.be_patient(self._connection)

    def _note(self, _connection: apsw.Connection, _schema: str, pages: int) -> int:
        if pages < self._pages:  # it began anew
            self._next = self._limit
        self._pages = pages
        return apsw.SQLITE_OK
