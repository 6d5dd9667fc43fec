"""The one thread that writes a SQLite file: group commit, and interactive transactions.

A batch is: begin, take the waiting writes, run each in a savepoint of its own, commit, then tell all
callers at once. What one caller does wrong undoes its own savepoint only. Where the whole transaction
is lost (a full disk, ON CONFLICT ROLLBACK, a COMMIT inside a function), the batch is run again caller
by caller, so that only the guilty one fails.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import apsw

from consona.errors import CommitUnknown, DatabaseReadOnly, QueryError
from consona.storage.connections import Connector, Interruptible
from consona.storage.jobs import Begin, Command, Job, Read, Session, Stop, Write, deliver, plain
from consona.storage.sqlite_errors import (
    commit_failed,
    commit_is_unknown,
    held_too_long,
    open_too_long,
    transaction_lost,
    translated,
)
from consona.storage.turn import Turn
from consona.storage.write_ahead_log import WriteAheadLog

__all__ = ["Writer"]

log = logging.getLogger("consona.storage")

SAVEPOINT: Final = "SAVEPOINT consona_write"
RELEASE: Final = "RELEASE consona_write"
UNDO: Final = "ROLLBACK TO consona_write"


class Writer:
    """The writing side of one file.

    Args:
        connector: Opens the connection, on the writer's own thread.
        on_commit: Called on that thread after each commit.
        clock: Monotonic seconds.
    """

    def __init__(
        self, connector: Connector, *, on_commit: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = connector.name
        self.settings = connector.settings
        self.inbox: SimpleQueue[Job | Stop] = SimpleQueue()
        self.opened: Future[None] = Future()
        self.closed: Future[None] = Future()
        self.holder: Session | None = None
        self.counts = {"writes": 0, "batches": 0, "largest_batch": 0, "rerun": 0, "transactions": 0}
        self.clock = clock
        self._connector = connector
        self._on_commit = on_commit
        self._backlog: deque[Job | Stop] = deque()
        self._in_hand: list[Job] = []
        self._lock = threading.Lock()
        self._may_commit = False
        self._refused_commit = False
        self._ended = False
        self.thread = threading.Thread(target=self._work, name=f"{self.name} writer", daemon=True)

    # Called on other threads.

    def put(self, job: Job | Stop) -> None:
        self.inbox.put(job)
        if self._ended:  # after the thread has looked for the last time
            self._refuse_the_rest(None)

    def withdraw(self, job: Job) -> bool:
        """Take back a job that has not begun; False where it has."""
        with self._lock:
            if job.taken:
                return False
            job.withdrawn = True
            return True

    def interrupt(self, job: Job) -> None:
        """Interrupt a step of an interactive transaction, if it runs now."""
        self._running.interrupt(job)

    @property
    def waiting(self) -> int:
        """How many jobs have not begun."""
        return self.inbox.qsize() + len(self._backlog)

    def stats(self) -> dict[str, int]:
        return {
            **self.counts,
            "checkpoints": self._log.checkpoints,
            "log_restarts": self._log.restarts,
            "waiting": self.waiting,
        }

    # The thread.

    def _work(self) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001  whatever it is, whoever opened the file must hear it
            self.opened.set_exception(translated(error, self.name))
            return
        self.opened.set_result(None)
        failure: BaseException | None = None
        try:
            self._serve()
        except BaseException as error:  # a fault of ours must not leave callers waiting for ever
            failure = error
            log.exception("%s: the writer stopped", self.name)
            for job in self._in_hand:
                job.error = CommitUnknown(f"{self.name}: the writer failed.", database=self.name)
                job.error.__cause__ = error
            deliver(self._in_hand)
        self._close()
        self._ended = True
        self._refuse_the_rest(failure)
        self.closed.set_result(None)

    def _open(self) -> None:
        self._connection = connection = self._connector.writer()
        self._running = Interruptible(connection)
        self._do = connection.cursor().execute
        connection.set_commit_hook(self._refuse_commit)
        self._log = WriteAheadLog(self._connector, connection)
        connector = self._connector
        self._turn = Turn(None if connector.is_memory else f"{connector.path}-turn", patience=1.0)

    def _close(self) -> None:
        connection = self._connection
        connection.set_busy_timeout(100)
        with contextlib.suppress(apsw.Error):
            connection.execute("PRAGMA optimize")
        with contextlib.suppress(apsw.Error):
            connection.close()
        # SQLite deletes its log when the last connection of all processes closes.
        self._turn.close(delete=not Path(f"{self._connector.path}-wal").exists())

    def _serve(self) -> None:
        while True:
            job = self._backlog.popleft() if self._backlog else self.inbox.get()
            if isinstance(job, Job):
                self._in_hand = [job]
            if isinstance(job, Write):
                self._write_batch(job)
            elif isinstance(job, Begin):
                self._hold_session(job)
            elif isinstance(job, Command):
                self._refuse_command(job)
            elif isinstance(job, Read):
                self._read(job)
            else:
                return

    def _refuse_the_rest(self, failure: BaseException | None) -> None:
        while True:
            try:
                job = self._backlog.popleft() if self._backlog else self.inbox.get_nowait()
            except Empty:
                return
            if isinstance(job, Command):
                self._refuse_command(job)
            elif isinstance(job, Job):
                job.error = QueryError(f"{self.name} is closed.", database=self.name)
                job.error.__cause__ = failure
                deliver([job])

    # Batches.

    def _write_batch(self, first: Write) -> None:
        error = self._begin()
        batch = self._gather(first)
        if error is not None:
            for job in batch:
                job.error = translated(error, self.name)
        elif not batch:
            self._rollback()
        elif len(batch) == 1:
            self._run_alone(batch[0])
        elif not self._run_together(batch):
            self.counts["rerun"] += 1
            self._rollback()
            for job in batch:
                job.value = job.error = None
                error = self._begin()
                if error is None:
                    self._run_alone(job)
                else:
                    job.error = translated(error, self.name)
        counts = self.counts
        counts["writes"] += len(batch)
        counts["batches"] += 1
        counts["largest_batch"] = max(counts["largest_batch"], len(batch))
        self._answer(batch)
        self._log.copy_if_long()

    def _gather(self, first: Write) -> list[Write]:
        """Take the writes that wait, up to the limit or to the first that is no write."""
        batch = [first]
        backlog, inbox = self._backlog, self.inbox
        while len(batch) < self.settings.max_batch and (backlog or not inbox.empty()):
            job = backlog.popleft() if backlog else inbox.get_nowait()  # nobody else takes from it
            if not isinstance(job, Write):
                backlog.appendleft(job)
                break
            batch.append(job)
        with self._lock:
            batch = [job for job in batch if not job.withdrawn]
            for job in batch:
                job.taken = True
        self._in_hand = list(batch)
        return batch

    def _run_together(self, batch: list[Write]) -> bool:
        """Run and commit a batch; False where its transaction is lost and nothing of it happened."""
        for job in batch:
            if not self._run_in_savepoint(job):
                return False
        error = self._commit()
        if error is None:
            return True
        if not commit_is_unknown(error):
            return False
        for job in batch:
            if job.error is None:
                job.value, job.error = None, commit_failed(error, self.name)
        return True

    def _run_in_savepoint(self, job: Job, *, foreign_keys: bool = True) -> bool:
        """Run one caller's function; what it raises goes to the job. False where the transaction is lost."""
        connection = self._connection
        try:
            self._do(SAVEPOINT)
            job.value = plain(job.fn(connection))
            # At COMMIT, one caller's unmatched key would undo all of them.
            if foreign_keys and connection.status(apsw.SQLITE_DBSTATUS_DEFERRED_FKS)[0]:
                raise apsw.ConstraintError("FOREIGN KEY constraint failed")
            self._do(RELEASE)
        except BaseException as error:  # noqa: BLE001  it is the caller's, whatever it is
            self._running.end()
            job.value = None
            job.error = self._explained(error)
            return self._undo(error)
        return True

    def _undo(self, error: BaseException) -> bool:
        for attempt in range(2):
            if not self._connection.in_transaction:
                return False
            try:
                self._do(UNDO)
                self._do(RELEASE)
                return True
            except apsw.Error:
                if attempt == 0:
                    # A statement that the failed function left open holds its savepoint.
                    traceback.clear_frames(error.__traceback__)
        return False

    def _run_alone(self, job: Write) -> None:
        """Run one caller's function in the transaction that has begun, and commit or roll back."""
        try:
            job.value = plain(job.fn(self._connection))
            if not self._connection.in_transaction:
                raise QueryError("The function given to write() ended the transaction.", hint=_NO_COMMIT)
        except BaseException as error:  # noqa: BLE001  it is the caller's, whatever it is
            job.error = self._explained(error)
            self._rollback()
            return
        error_of_commit = self._commit()
        if error_of_commit is not None:
            job.value = None
            job.error = commit_failed(error_of_commit, self.name)

    def _read(self, job: Read) -> None:
        """A read of a memory database, which has this connection only."""
        if not self._take(job):
            return
        self._running.begin(job)
        try:
            job.value = plain(job.fn(self._connection))
        except BaseException as error:  # noqa: BLE001  it is the caller's, whatever it is
            job.error = translated(error, self.name)
            if self._refused_commit:
                job.error = DatabaseReadOnly("A function given to read() tried to write.", hint="Give it to write().")
        self._running.end()
        self._refused_commit = False
        self._rollback()
        self._answer([job])

    # Interactive transactions.

    def _hold_session(self, begin: Begin) -> None:
        error = self._begin()
        if not self._take(begin):
            self._rollback()
            return
        begin.error = error and translated(error, self.name)
        if error is not None:
            self._answer([begin])
            return
        session = begin.session
        session.began = self.clock()
        session.until = session.began + session.limit_s
        self.counts["transactions"] += 1
        self.holder = session
        if session.read_only:
            self._do("PRAGMA query_only = ON")
        self._answer([begin])
        try:
            while not session.over:
                self._serve_session(session)
        finally:
            self.holder = None
            if session.read_only:
                self._do("PRAGMA query_only = OFF")
        self._log.copy_if_long()

    def _serve_session(self, session: Session) -> None:
        now = self.clock()
        expiry = self._tell_waiters(session, now)
        if now >= session.until:
            self._end_session(session, lambda: open_too_long(self.name, session))
            return
        try:
            job = self.inbox.get(timeout=max(0.0, min(session.until, expiry) - now))
        except Empty:
            return
        if not isinstance(job, Command) or job.session is not session:
            self._backlog.append(job)
        elif self._take(job):
            self._in_hand = [job]
            self._step(session, job)
            self._answer([job])

    def _tell_waiters(self, session: Session, now: float) -> float:
        """Tell those who waited too long who holds the writer. Returns when the next one will have."""
        while self._backlog:
            job = self._backlog[0]
            if isinstance(job, Stop):
                break
            if job.since + self.settings.wait > now:
                return job.since + self.settings.wait
            self._backlog.popleft()
            if self._take(job):
                job.error = held_too_long(self.name, session, waited=now - job.since, now=now)
                deliver([job])
        return session.until

    def _step(self, session: Session, command: Command) -> None:
        if command.kind == "commit":
            session.over = True
            error = self._commit()
            if error is not None:
                command.error = commit_failed(error, self.name)
        elif command.kind == "rollback":
            session.over = True
            self._rollback()
        elif command.kind == "control":
            try:
                command.fn(self._connection)
            except apsw.Error as error:
                command.error = translated(error, self.name)
        else:
            self._running.begin(command)
            kept = self._run_in_savepoint(command, foreign_keys=False)
            self._running.end()
            cause = command.error
            late = self.clock() >= session.until
            if late and cause is not None and isinstance(cause.__cause__, apsw.InterruptError):
                command.error = open_too_long(self.name, session)
            if late:
                self._end_session(session, lambda: open_too_long(self.name, session))
            elif not kept:
                self._end_session(session, lambda: transaction_lost(self.name, session, cause))

    def _end_session(self, session: Session, why: Callable[[], BaseException]) -> None:
        session.ended = why
        session.over = True
        self._rollback()

    def _refuse_command(self, command: Command) -> None:
        """Answer a step of a session that is over. To roll it back again is no error."""
        if not self._take(command):
            return
        if command.kind != "rollback":
            why = command.session.ended
            command.error = why() if why else QueryError(f"{self.name}: this transaction is over.")
        deliver([command])

    def _answer(self, jobs: Sequence[Job]) -> None:
        self._in_hand = []
        deliver(jobs)

    def _take(self, job: Job) -> bool:
        with self._lock:
            job.taken = not job.withdrawn
            return job.taken

    # Transactions.

    def _begin(self) -> BaseException | None:
        self._refused_commit = False
        self._turn.take()
        try:
            self._do("BEGIN IMMEDIATE")
        except apsw.Error as error:
            return error
        finally:
            self._turn.give_back()
        return None

    def _commit(self) -> BaseException | None:
        """Commit; on failure nothing is open any more, and the error says why."""
        self._may_commit = True
        try:
            self._do("COMMIT")
        except apsw.Error as error:
            self._rollback()
            return error
        finally:
            self._may_commit = False
        self._on_commit()
        return None

    def _rollback(self) -> None:
        for _ in range(3):
            if not self._connection.in_transaction:
                return
            with contextlib.suppress(apsw.Error):
                self._do("ROLLBACK")

    def _refuse_commit(self) -> bool:
        self._refused_commit = not self._may_commit
        return self._refused_commit

    def _explained(self, error: BaseException) -> BaseException:
        if self._refused_commit and isinstance(error, apsw.ConstraintError):
            self._refused_commit = False
            ours = QueryError("A function given to the database tried to COMMIT.", hint=_NO_COMMIT)
            ours.__cause__ = error
            return ours
        return translated(error, self.name)


_NO_COMMIT: Final = "Leave COMMIT and ROLLBACK to Consona: return to keep the change, raise to undo it."
