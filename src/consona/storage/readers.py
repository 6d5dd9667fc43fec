"""Reads in threads, each with a connection of its own; on a write-ahead log they run beside the writer."""

from __future__ import annotations

import contextlib
import logging
import threading
from queue import SimpleQueue

import apsw

from consona.errors import QueryError
from consona.storage.connections import Connector, Interruptible
from consona.storage.jobs import Read, Stop, deliver, plain
from consona.storage.sqlite_errors import translated

__all__ = ["Readers"]

log = logging.getLogger("consona.storage")


class Readers:
    """Up to `settings.readers` reading threads, started when they are needed.

    Each read sees one moment: it runs in a read transaction.
    """

    def __init__(self, connector: Connector) -> None:
        self.done = 0
        self.interrupted = 0
        self.outstanding = 0
        self._connector = connector
        self._limit = connector.settings.readers
        self._inbox: SimpleQueue[Read | Stop] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._running: dict[Read, Interruptible] = {}

    # Called on other threads.

    def put(self, job: Read) -> None:
        with self._lock:
            self.outstanding += 1
            threads = len(self._threads)
            if threads < self._limit and self.outstanding > threads:
                name = f"{self._connector.name} reader {threads + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        self._inbox.put(job)

    @property
    def threads(self) -> int:
        return len(self._threads)

    def cut(self, job: Read) -> None:
        """Take the read back, or interrupt it; again every 20 ms, since it may be between two statements."""
        with self._lock:
            if not job.taken:
                job.withdrawn = True
                return
            running = self._running.get(job)
        if running is None:
            return
        if not job.withdrawn:
            job.withdrawn = True
            self.interrupted += 1
        running.interrupt(job)
        job.loop.call_later(0.02, self.cut, job)

    def close(self) -> None:
        """Interrupt what runs, end the threads, and wait for them. Blocks."""
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._inbox.put(Stop())
        for thread in threads:
            while thread.is_alive():
                with self._lock:
                    running = list(self._running.items())
                for job, interruptible in running:
                    interruptible.interrupt(job)
                thread.join(0.02)

    # The threads.

    def _work(self) -> None:
        connection: apsw.Connection | None = None
        running: Interruptible | None = None
        while isinstance(job := self._inbox.get(), Read):
            with self._lock:
                job.taken = not job.withdrawn
            if job.taken:
                try:
                    if connection is None or running is None:
                        connection = self._connector.reader(patient=True)
                        running = Interruptible(connection)
                    self._read(connection, running, job)
                except BaseException as error:  # noqa: BLE001  the file may be gone: the caller must hear it
                    job.error = translated(error, self._connector.name)
            with self._lock:
                self.outstanding -= 1
                self.done += 1
                self._running.pop(job, None)
            deliver([job])
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close(True)  # noqa: FBT003  apsw's only spelling of `force`

    def _read(self, connection: apsw.Connection, running: Interruptible, job: Read) -> None:
        with self._lock:
            self._running[job] = running
        connection.execute("BEGIN")
        running.begin(job)
        try:
            job.value = plain(job.fn(connection))
        except BaseException as error:  # noqa: BLE001  it is the caller's, whatever it is
            job.error = translated(error, self._connector.name)
        running.end()
        for _ in range(3):
            if connection.in_transaction:
                with contextlib.suppress(apsw.Error):
                    connection.execute("ROLLBACK")
        if job.error is None and connection.txn_state() != apsw.SQLITE_TXN_NONE:
            job.value = None
            job.error = QueryError(
                "The function given to read() returned something that still reads.",
                hint="Return a list of the rows, or the cursor itself, never a generator over it.",
            )
