"""Files that clients send in forms: small ones in memory, others in a file without a name, gone with their request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from consona.errors import Conflict
from consona.rest.server.file_names import safe_name
from consona.rest.server.problems import StorageFull

__all__ = ["Spool", "UploadFile"]

PIECE: Final = 256 * 1024
COPY_PIECE: Final = 1024 * 1024
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class UploadFile:
    """A file that came in a form.

    It is there until the answer is sent, and the background work that the handler asked for is done. Then it is
    closed, and since the file on disk has no name, nothing is left, also where the process was killed.

    Args:
        content: The bytes, or an open binary file that can seek.
        name: What the client calls it: without folders, control characters and leading dots, so that it may be
            joined to a folder. Two clients may choose the same.
        type: The media type that the client says it is. Nobody has checked that.

    Example:
        >>> photo = UploadFile(b"...", name="../../etc/cat.jpg", type="image/jpeg")
        >>> photo.name, photo.size, photo.file.read(2)
        ('cat.jpg', 3, b'..')
    """

    __slots__ = ("file", "name", "size", "type")

    file: BinaryIO
    """For handlers that are plain functions, and libraries: an open file, to be read where it may block."""
    size: int
    """In bytes."""

    def __init__(
        self,
        content: bytes | BinaryIO = b"",
        *,
        name: str = "file",
        type: str = "application/octet-stream",  # noqa: A002 it is what HTTP calls it
    ) -> None:
        self.file = io.BytesIO(content) if isinstance(content, bytes) else content
        self.size = self.file.seek(0, os.SEEK_END)
        self.file.seek(0)
        self.name = safe_name(name)
        self.type = type

    async def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all that are left; empty at the end."""
        if isinstance(self.file, io.BytesIO):
            return self.file.read(size)
        return await asyncio.to_thread(self.file.read, size)

    async def seek(self, position: int) -> None:
        """Let the next `read` begin there; 0 is the beginning."""
        if isinstance(self.file, io.BytesIO):
            self.file.seek(position)
        else:
            await asyncio.to_thread(self.file.seek, position)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """All of it from the beginning, at most 256 KiB at a time."""
        await self.seek(0)
        while piece := await self.read(PIECE):
            yield piece

    async def save_to(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write it to a file. Either the whole file is there afterwards, or nothing.

        Args:
            path: Where to; in a folder that is named, the file gets its own `name`.
            overwrite: Whether a file that is there already is replaced.

        Returns:
            The path of the file.

        Raises:
            Conflict: There is a file already (409 where the handler lets it through).
            StorageFull: There is no room on that disk (507).
        """
        stopped = threading.Event()
        try:
            return await asyncio.to_thread(self._save, Path(path), stopped, overwrite=overwrite)
        finally:
            stopped.set()  # a thread cannot be cancelled: it looks here before it goes on

    def _save(self, to: Path, stopped: threading.Event, *, overwrite: bool) -> Path:
        if to.is_dir():
            to /= self.name
        if not overwrite and to.exists():
            raise _taken(to)
        part = to.with_name(f".{secrets.token_hex(8)}.part")
        position = self.file.tell()
        try:
            with _told(to):
                with part.open("xb") as out:
                    self.file.seek(0)
                    while not stopped.is_set() and (piece := self.file.read(COPY_PIECE)):
                        out.write(piece)
                    out.flush()
                    os.fsync(out.fileno())  # so that no power cut leaves an empty file under the right name
                if not stopped.is_set():
                    _put_in_place(part, to, overwrite=overwrite)
        finally:
            part.unlink(missing_ok=True)
        self.file.seek(position)
        return to

    def close(self) -> None:
        """Let go of it; the server does that by itself."""
        self.file.close()

    def __repr__(self) -> str:
        return f"<UploadFile {self.name!r}, {self.type}, {self.size} bytes>"


def _put_in_place(part: Path, to: Path, *, overwrite: bool) -> None:
    try:
        if overwrite:
            part.replace(to)
        elif os.name == "nt":
            part.rename(to)  # refuses to replace there
        else:
            os.link(part, to)
    except FileExistsError:
        raise _taken(to) from None


def _taken(to: Path) -> Conflict:
    return Conflict(f"There is a file {to.name!r} already.", hint="Choose another name.")


@contextlib.contextmanager
def _told(to: Path | None = None) -> Iterator[None]:
    """A full disk in words of our own."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StorageFull(
            "There is no room for what you send.",
            hint="Try again later, or send less.",
            folder=str(tempfile.gettempdir() if to is None else to.parent),
        ) from error


class Spool:
    """Takes the bytes of one file as they come.

    Args:
        memory_bytes: So many are kept in memory; a longer file goes to disk.
        folder: On which disk; None for the system's folder of temporary files.
    """

    def __init__(self, memory_bytes: int, folder: str | os.PathLike[str] | None) -> None:
        self.size = 0
        self._memory_bytes = memory_bytes
        self._folder = folder
        self._file: BinaryIO = io.BytesIO()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._turn = threading.Lock()
        self._closed = False

    async def write(self, piece: bytes) -> None:
        """Take a piece; in a thread, as soon as there are enough of them.

        Raises:
            StorageFull: The disk is full.
        """
        self.size += len(piece)
        if self.size <= self._memory_bytes:
            self._file.write(piece)
            return
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= PIECE:
            await self._flush()

    async def finish(self, name: str, kind: str) -> UploadFile:
        """The whole file.

        Raises:
            StorageFull: The disk is full.
        """
        if self._waiting:
            await self._flush()
        return UploadFile(self._file, name=name, type=kind)

    async def _flush(self) -> None:
        data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        try:
            with self._turn, _told():
                if not self._closed:
                    self._on_disk().write(data)
                    self._file.flush()
        finally:
            if self._closed:  # whoever let go of it meanwhile did not wait for this thread
                self.close()

    def _on_disk(self) -> BinaryIO:
        if isinstance(self._file, io.BytesIO):
            memory, self._file = self._file, tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 closed below
            memory.seek(0)
            shutil.copyfileobj(memory, self._file)
        return self._file

    def close(self) -> None:
        """Let go of the file, and so of its place on disk. May be called twice."""
        self._closed = True
        if self._turn.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):  # what a full disk did not take is tried again, and lost
                    self._file.close()
            finally:
                self._turn.release()
