"""Forms with files: what a browser sends when a form has a file in it, streamed from disk.

    await api.post("/photos", data={"title": "Sunset"}, files={"photo": File("sunset.jpg")})

A file is read in pieces in a thread, as fast as the server takes them. One that is named by its path (or is bytes,
or a function that begins a stream) can be sent again when the policy retries; a stream that is handed in can not.

Source: RFC 7578; WHATWG HTML, "Multipart form data" (how names are escaped, which RFC 7578 leaves open).
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from consona.errors import ConfigurationError
from consona.rest.client.url import Params, flat

__all__ = ["File", "Files", "Multipart"]

READ_BYTES: Final = 256 * 1024
PIECE_BYTES: Final = 64 * 1024
CLOSING: Final = b"\r\n"

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:[ \t]*;[\x20-\x7e]+)?")
_ESCAPED: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
_types: Final = mimetypes.MimeTypes()  # Python's own table, the same on every machine


class File:
    """A file to send in a form.

    Args:
        content: A path (`str` or `Path`), or the bytes themselves, or an async iterable of bytes, or a function that
            begins one (which can be sent again).
        name: What the server is told that it is called; by default the last part of the path, else `file`.
        type: Its media type; by default that of the name's ending, else `application/octet-stream`.

    Raises:
        ConfigurationError: The content is nothing of that, or the type is no media type.

    Example:
        >>> File(b"id,name", name="people.csv").type
        'text/csv'
    """

    __slots__ = ("content", "name", "type")

    def __init__(
        self,
        content: str
        | Path
        | bytes
        | bytearray
        | memoryview
        | AsyncIterable[bytes]
        | Callable[[], AsyncIterable[bytes]],
        *,
        name: str = "",
        type: str = "",  # noqa: A002 it is what HTTP calls it
    ) -> None:
        if isinstance(content, str):
            content = Path(content)
        elif isinstance(content, bytearray | memoryview):
            content = bytes(content)
        elif not (isinstance(content, bytes | Path | AsyncIterable) or callable(content)):
            raise ConfigurationError(
                f"File() takes a path, bytes, or an async iterable of bytes, not {content.__class__.__name__}.",
                hint="Name the file by its path, so that it is read in pieces and can be sent again.",
            )
        self.content = content
        self.name = name or (content.name if isinstance(content, Path) else "") or "file"
        self.type = type or _types.guess_type(self.name)[0] or "application/octet-stream"
        if not _MEDIA_TYPE.fullmatch(self.type):
            raise ConfigurationError(f"File(type={self.type!r}) is no media type such as image/jpeg.")

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent a second time."""
        return not isinstance(self.content, AsyncIterable)

    async def size(self) -> int | None:
        """Its length in bytes; None where only its end will tell.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        if isinstance(self.content, bytes):
            return len(self.content)
        if not isinstance(self.content, Path):
            return None
        try:
            status = await asyncio.to_thread(os.stat, self.content)
        except (OSError, ValueError) as error:
            raise _unreadable(self.content, error) from error
        return status.st_size

    async def pieces(self, size: int | None) -> AsyncIterator[bytes]:
        """Its bytes, at most 64 KiB at a time; of a file, as many as it had when its size was asked for."""
        content = self.content
        if isinstance(content, bytes):
            for start in range(0, len(content), PIECE_BYTES):
                yield content[start : start + PIECE_BYTES]
        elif isinstance(content, Path):
            async for piece in _read(content, size or 0):
                yield piece
        else:
            async for piece in content() if callable(content) else content:
                yield piece

    def __repr__(self) -> str:
        return f"<File {self.name!r}, {self.type}>"


Files = Mapping[str, File | list[File]] | Iterable[tuple[str, File]]


class Multipart:
    """A form with its files, as often as it is to be sent.

    Args:
        fields: The fields beside the files, as in `data=`.
        files: Names and files; a list of files repeats its name.

    Raises:
        ConfigurationError: Something that is no `File`.
    """

    def __init__(self, fields: Params, files: Files) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts: list[tuple[bytes, File | bytes]] = []
        for name, value in flat(fields):
            self._parts.append((_head(boundary, name), value.encode()))
        for name, file in _each(files):
            head = _head(boundary, name, f'; filename="{file.name.translate(_ESCAPED)}"', file.type)
            self._parts.append((head, file))
        self._end = f"--{boundary}--\r\n".encode()
        self.repeatable = all(isinstance(part, bytes) or part.repeatable for _, part in self._parts)
        self._sizes: list[int | None] = []

    async def measure(self) -> int | None:
        """Look how long it is now, before each time that it is sent; None where only its end will tell.

        Raises:
            ConfigurationError: A file cannot be read.
        """
        self._sizes = [len(part) if isinstance(part, bytes) else await part.size() for _, part in self._parts]
        total = len(self._end)
        for (head, _), size in zip(self._parts, self._sizes, strict=True):
            if size is None:
                return None
            total += len(head) + size + len(CLOSING)
        return total

    async def pieces(self) -> AsyncIterator[bytes]:
        for (head, part), size in zip(self._parts, self._sizes, strict=True):
            if isinstance(part, bytes):
                yield head + part + CLOSING
                continue
            yield head
            async for piece in part.pieces(size):
                yield piece
            yield CLOSING
        yield self._end


def _head(boundary: str, name: str, more: str = "", kind: str = "") -> bytes:
    lines = f'--{boundary}\r\nContent-Disposition: form-data; name="{str(name).translate(_ESCAPED)}"{more}\r\n'
    return f"{lines}Content-Type: {kind}\r\n\r\n".encode() if kind else f"{lines}\r\n".encode()


def _each(files: Files) -> Iterator[tuple[str, File]]:
    pairs = files.items() if isinstance(files, Mapping) else files
    for name, value in pairs:
        for file in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(file, File):
                raise ConfigurationError(
                    f"`files=` got a {type(file).__name__} for {name!r}.",
                    hint='Write files={"photo": File("photo.jpg")}; plain fields belong to `data=`.',
                )
            yield name, file


async def _read(path: Path, size: int) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        left = size
        while left:
            try:
                data = await asyncio.to_thread(file.read, min(left, READ_BYTES))
            except OSError as error:
                raise _unreadable(path, error) from error
            if not data:
                raise ConfigurationError(
                    f"The file {path} became shorter while it was sent: {left:,} of {size:,} bytes are gone.",
                    hint="Send it when nobody writes to it, or send a copy.",
                )
            left -= len(data)
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start : start + PIECE_BYTES]
    finally:
        await asyncio.to_thread(file.close)  # which waits for a read that is still under way in its thread


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigurationError(f"The file {path} cannot be read: {reason}.", hint="Check its path and who may read it.")
