"""Telling the other processes of this machine that a file has changed, so that they need not ask for it.

A process that waits for changes binds a datagram socket in a folder that belongs to the file; who
commits sends one byte to each socket in it. A ring is a hint and nothing more: it may be lost (another
user, another machine, a system without such sockets), so who waits asks the database now and then too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Doorbell", "folder_of"]

AVAILABLE: Final = hasattr(socket, "AF_UNIX") and hasattr(os, "getuid")
LONGEST_PATH: Final = 100  # bytes of a socket's address; systems allow 104 to 108


def folder_of(path: str) -> Path:
    """Where the bells of a file hang: a folder of this user's alone."""
    user = os.getuid() if AVAILABLE else 0
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"consona-{user}" / key


class Doorbell:
    """One process' bell for one file.

    Args:
        folder: See `folder_of`.
        on_ring: Called on a thread of the bell's own when another process rang.
    """

    def __init__(self, folder: Path, *, on_ring: Callable[[], None]) -> None:
        self._folder = folder
        self._path = os.fspath(folder)
        self._on_ring = on_ring
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._ringing: socket.socket | None = None
        self._listening: socket.socket | None = None
        self._tried = self._closed = False

    def ring(self) -> None:
        """Tell everybody else who listens. Takes a microsecond where nobody does. Never raises."""
        if not os.access(
            self._path, os.F_OK
        ):  # the usual case, at every commit: an exception takes three times as long
            return
        try:
            names = os.listdir(self._path)  # noqa: PTH208  a third of the time of iterdir()
        except OSError:
            return
        for name in names:
            if name != self._name:
                self._ring_at(self._folder / name)

    def listen(self) -> None:
        """Hear the others from now on. A second call does nothing; where it cannot be done, it is not."""
        if self._tried:  # the usual case, without the lock
            return
        with self._lock:
            if not self._closed and not self._tried:
                self._begin()

    def _begin(self) -> None:
        self._tried = True
        with contextlib.suppress(OSError):
            self._listening = self._bound()
        if self._listening is not None:
            arguments = (self._listening,)
            threading.Thread(target=self._hear, args=arguments, name="consona doorbell", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            path = self._folder / self._name
            if self._listening is not None:
                self._ring_at(path)  # the thread sees that it is over, and closes the socket
                with contextlib.suppress(OSError):
                    path.unlink()
            with contextlib.suppress(OSError):
                self._folder.rmdir()  # the last one takes the folder along
            if self._ringing is not None:
                self._ringing.close()
                self._ringing = None

    def _bound(self) -> socket.socket | None:
        path = self._folder / self._name
        if not AVAILABLE or len(os.fsencode(path)) > LONGEST_PATH:
            return None
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.lstat().st_uid != os.getuid():
                return None  # somebody else made it, to overhear or to disturb us
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            bell.bind(os.fspath(path))
        except BaseException:
            bell.close()
            raise
        return bell

    def _hear(self, bell: socket.socket) -> None:
        with bell:
            while True:
                bell.recv(1)
                if self._closed:
                    return
                self._on_ring()

    def _ring_at(self, path: Path) -> None:
        try:
            if self._ringing is None:
                self._ringing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._ringing.settimeout(0)
            self._ringing.sendto(b"!", os.fspath(path))
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                path.unlink()  # its process was killed
        except OSError:
            pass  # full: it has rings enough to hear; or gone meanwhile
