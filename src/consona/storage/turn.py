"""Turns between processes that write the same file, so that none of them starves.

SQLite lets whoever asks first after a commit have the next one, and a process that commits without
pause nearly always asks first. Here each process takes a turn before it asks for SQLite's own lock,
and gives it back once it has that: so who waits for the lock holds the turn, and a process that
just committed must queue behind it.

The turn is a courtesy, never a condition: where the lock file cannot be made, where the system has
no such lock, or where the one who holds it is frozen, writing goes on with SQLite's lock alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["Turn", "try_lock", "unlock"]

if sys.platform == "win32":
    import msvcrt

    def try_lock(fd: int) -> None:
        """Lock an open file for this process, until `unlock` or its end. Raises OSError where another one has it."""
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def unlock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def try_lock(fd: int) -> None:
        """Lock an open file, until `unlock` or until it is closed. Raises OSError where another one has it."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


class Turn:
    """One process' place in the queue for one file.

    Args:
        path: The lock file, beside the database; None where no other process can share it.
        patience: Seconds after which writing goes on without a turn.
    """

    def __init__(
        self,
        path: str | None,
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._fd = -1
        self._impatient = False
        if path is not None:
            with contextlib.suppress(OSError):
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)

    def take(self) -> None:
        """Wait until it is this process' turn, or until patience ends."""
        if self._fd < 0:
            return
        until: float | None = None
        pause = 0.0002
        while True:
            try:
                try_lock(self._fd)
                self._impatient = False
                return
            except OSError:
                now = self._clock()
                until = until or now + self._patience
                if self._impatient or now >= until:
                    self._impatient = True  # who holds it is frozen: do not wait for it each time
                    return
                self._sleep(pause)
                pause = min(pause * 2, 0.002)

    def give_back(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                unlock(self._fd)

    def close(self, *, delete: bool) -> None:
        """Leave the queue. `delete` the file where no other process has the database open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if delete and self._path is not None:
                with contextlib.suppress(OSError):
                    Path(self._path).unlink()
