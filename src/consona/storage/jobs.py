"""What callers ask of the threads of a SQLite file, and how the answers come back to their event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import apsw

__all__ = ["Begin", "Command", "Job", "Read", "Session", "Stop", "Write", "deliver", "plain", "settled"]

NUDGE_S: Final = 0.02


class Job:
    """A function to run on a thread, and the future of whoever waits for it.

    `taken` and `withdrawn` exclude each other: both are set under the lock of whoever runs the jobs.
    `done` is set in the caller's loop, so after it nothing of the job changes any more.
    """

    __slots__ = ("done", "error", "fn", "future", "loop", "since", "taken", "value", "withdrawn")

    def __init__(self, fn: Callable[[apsw.Connection], Any], loop: asyncio.AbstractEventLoop, since: float) -> None:
        self.fn = fn
        self.loop = loop
        self.since = since
        self.future: asyncio.Future[Any] = loop.create_future()
        self.taken = self.withdrawn = self.done = False
        self.value: Any = None
        self.error: BaseException | None = None


class Write(Job):
    """Runs in a batch with others."""

    __slots__ = ()


class Read(Job):
    """Runs on a reading thread; for a memory database on the writer's."""

    __slots__ = ()


class Session:
    """An interactive transaction as the writer sees it."""

    __slots__ = ("began", "ended", "limit_s", "name", "over", "read_only", "until", "where")

    def __init__(self, name: str, where: str, limit_s: float, *, read_only: bool = False) -> None:
        self.name = name
        self.read_only = read_only
        self.where = where
        self.limit_s = limit_s
        self.began = self.until = 0.0
        self.over = False
        self.ended: Callable[[], BaseException] | None = None
        """Why it is over though its owner did not end it; makes an error for each who asks."""


class Begin(Job):
    """Asks for the writer, for a session."""

    __slots__ = ("session",)

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop, since: float) -> None:
        super().__init__(_nothing, loop, since)
        self.session = session


class Command(Job):
    """A step of a session. `kind` is `run`, `control` (fn needs no savepoint), `commit` or `rollback`."""

    __slots__ = ("kind", "session")

    def __init__(
        self,
        session: Session,
        kind: str,
        loop: asyncio.AbstractEventLoop,
        since: float,
        fn: Callable[[apsw.Connection], Any] | None = None,
    ) -> None:
        super().__init__(fn or _nothing, loop, since)
        self.session = session
        self.kind = kind


class Stop:
    """The last thing that a thread is asked."""


def _nothing(_: apsw.Connection) -> None:
    return None


def plain(value: Any) -> Any:
    """What a function returned, fit to leave its thread: a cursor is read to its end."""
    return list(value) if type(value) is apsw.Cursor else value


def deliver(jobs: Iterable[Job]) -> None:
    """Tell the waiting callers, with one callback for each event loop. Called on the thread that ran the jobs."""
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        loops.setdefault(job.loop, []).append(job)
    for loop, group in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, group)
        except RuntimeError:
            continue  # the loop is closed, so nobody waits there any more


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        job.done = True
        future = job.future
        if future.done():
            continue  # its caller was cancelled
        error = job.error
        if error is None:
            future.set_result(job.value)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError(f"The function raised {type(error).__name__}."))
        else:
            future.set_exception(error)


async def settled(job: Job, nudge: Callable[[], None] | None = None) -> None:
    """Wait until the job's outcome is known, whatever is cancelled meanwhile; the caller re-raises.

    Args:
        job: One whose caller was cancelled after it began.
        nudge: Called every 20 ms until then, to interrupt it.
    """
    while not job.done:
        if nudge is not None:
            nudge()
        if job.future.cancelled():
            job.future = job.loop.create_future()
        try:
            await asyncio.wait([job.future], timeout=None if nudge is None else NUDGE_S)
        except asyncio.CancelledError:
            continue
    if not job.future.cancelled():
        job.future.exception()  # seen, so that asyncio does not log it as forgotten
