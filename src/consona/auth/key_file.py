"""Where the keys of an issuer are kept: a file that its owner alone may read, or a variable of the environment.

The file is written as a whole or not at all: a new one beside it takes its place, once it is on the disk. Processes
that change it take turns, so of two that make the first keys at once, both use the same ones in the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from consona.auth.errors import TokenInvalid
from consona.auth.jws import read_object
from consona.auth.key_ring import KeyRing
from consona.errors import ConfigurationError, Conflict

__all__ = ["Environment", "Fixed", "KeyFile", "KeySource"]

MAX_FILE_BYTES: Final = 1_000_000
PATIENCE_S: Final = 10.0
"""How long a change of the file waits for another one."""

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class KeySource(Protocol):
    """Where keys come from."""

    def load(self) -> KeyRing:
        """Read them.

        Raises:
            ConfigurationError: They are not there, or not good.
        """
        ...

    def mark(self) -> object:
        """Something that differs after they were changed; cheap enough to be asked each second."""
        ...

    def change(self, to: Callable[[KeyRing | None], KeyRing]) -> KeyRing:
        """Write what `to` makes of the present keys (None where there are none yet), alone among all processes."""
        ...


class Fixed:
    """Keys that a program hands in."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def load(self) -> KeyRing:
        return self._ring

    def mark(self) -> object:
        return self._ring

    def change(self, to: Callable[[KeyRing | None], KeyRing]) -> KeyRing:
        self._ring = to(self._ring)
        return self._ring


class Environment:
    """A JSON Web Key Set in a variable of the environment, as systems that run containers hand in secrets."""

    def __init__(self, variable: str) -> None:
        self.variable = variable

    def load(self) -> KeyRing:
        text = os.environ.get(self.variable)
        if not text:
            raise ConfigurationError(
                f"The variable {self.variable} of the environment is to hold the keys, and is not set.",
                hint="Make keys with `consona keys rotate keys.json`, and put the text of that file into it.",
            )
        return _read(text.encode("utf-8", "surrogateescape"), f"The variable {self.variable}")

    def mark(self) -> object:
        return self.variable

    def change(self, _to: Callable[[KeyRing | None], KeyRing]) -> KeyRing:
        raise ConfigurationError(
            f"The keys come from the variable {self.variable}, which a program cannot change for others.",
            hint="Rotate a file (consona keys rotate), and set the variable to its text.",
        )


class KeyFile:
    """A file of its owner alone, made with a first key where there is none."""

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._sleep = sleep

    def load(self) -> KeyRing:
        try:
            # Without waiting, as the name may be that of a pipe, from which nothing comes.
            fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            raise ConfigurationError(
                f"There is no key file {self.path}.", hint="Make it: consona keys rotate."
            ) from None
        except OSError as error:
            raise ConfigurationError(f"The key file {self.path} cannot be read: {error.strerror}.") from error
        try:
            self._private(os.fstat(fd))
            with open(fd, "rb", closefd=False) as file:
                return _read(file.read(MAX_FILE_BYTES + 1), f"The key file {self.path}")
        finally:
            os.close(fd)

    def _private(self, status: os.stat_result) -> None:
        """Refuse a file that others may read or write: they could sign as they like."""
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"The key file {self.path} is not a file.")
        if sys.platform == "win32":  # its rights are not told in these bits
            return
        if status.st_mode & 0o077:
            raise ConfigurationError(
                f"Others than its owner may use the key file {self.path} ({stat.filemode(status.st_mode)}).",
                hint=f"Run: chmod 600 {self.path}. If somebody may have read it: consona keys rotate.",
            )
        if status.st_uid not in {os.geteuid(), 0}:
            raise ConfigurationError(f"The key file {self.path} belongs to somebody else (user id {status.st_uid}).")

    def mark(self) -> object:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def change(self, to: Callable[[KeyRing | None], KeyRing]) -> KeyRing:
        with self._turn():
            ring = to(self.load() if self.path.exists() else None)
            self._write(ring)
            return ring

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Be the only process that changes the file. The lock is a file beside it, since that one is replaced."""
        path = self.path.with_name(self.path.name + ".lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"The key file {self.path} cannot be made or changed: {error.strerror}.",
                hint="Its folder must exist, and be writable. Or hand the keys in through the environment.",
            ) from error
        try:
            until = self._clock() + PATIENCE_S
            while True:
                try:
                    _lock(fd)
                    break
                except OSError:
                    if self._clock() > until:
                        raise Conflict(
                            f"Another process has been changing the key file {self.path} for long."
                        ) from None
                    self._sleep(0.02)
            yield
        finally:
            os.close(fd)  # gives the lock back

    def _write(self, ring: KeyRing) -> None:
        data = json.dumps(ring.written(), indent=2).encode("ascii")
        try:
            fd, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # 0600 from the start
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
                raise
            _sync_folder(self.path.parent)
        except OSError as error:
            raise ConfigurationError(
                f"The key file {self.path} cannot be written: {error.strerror}. The old one is as it was."
            ) from error


def _sync_folder(folder: Path) -> None:
    """So that the new name outlives a power cut. Not every system can do it."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _read(data: bytes, what: str) -> KeyRing:
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{what} holds more than {MAX_FILE_BYTES} bytes: that is no set of keys.")
    try:
        return KeyRing.from_jwks(read_object(data, "set of keys"))
    except TokenInvalid:
        raise ConfigurationError(f"{what} does not hold a JSON object.") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{what} cannot be used. {error.message}", hint=error.hint) from None
