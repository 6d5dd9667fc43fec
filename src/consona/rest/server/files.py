"""Files as answers: streamed beside the event loop, in parts where a client asks for parts.

    @api.get("/reports/{year}")
    async def report(year: int) -> FileResponse:
        return FileResponse(f"reports/{year}.pdf", filename=f"Report {year}.pdf")

Source: RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges) and 15.3.7 (206); RFC 6266 and
RFC 8187 (file names).
"""

from __future__ import annotations

import contextlib
import copy
import errno
import mimetypes
import os
import secrets
import stat
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import quote

from consona.errors import NotFound
from consona.rest.server.conditional import NotModified, evaluate, http_date
from consona.rest.server.file_names import safe_name
from consona.rest.server.problems import PreconditionFailed, RangeNotSatisfiable
from consona.rest.server.ranges import Part, wanted_parts
from consona.rest.server.responses import Response, Send, until_any

if TYPE_CHECKING:
    from consona.rest.server.requests import Request

__all__ = ["FileResponse", "content_disposition", "media_type_for"]

CHUNK: Final = 256 * 1024
SETTLED_S: Final = 2.0
"""A file that was changed this recently may change again within the tick of its clock: its tag is a weak one."""
_ABSENT: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
)


class FileResponse(Response):
    """A file of this machine as an answer, with `ETag` and `Last-Modified`, and in parts for who asks for parts.

    The file is opened before the answer begins, so one that does not exist is a 404.

    Args:
        path: Where it is. Never join it from a client's text yourself: see `within`, or `api.files(...)`.
        within: A folder that the file must lie in, also after all symbolic links; `path` is relative to it.
        filename: The name for a client that saves it; its folders, control characters and so on are left out.
        inline: Whether a browser may show it instead of saving it, where `filename` is given.
        media_type: By default what its name says.
        headers: Names and values.

    Raises:
        NotFound: When it is answered: there is no such file, or not within the folder.

    Example:
        >>> FileResponse("report.pdf", filename="Report 2026.pdf").headers["content-disposition"]
        'attachment; filename="Report 2026.pdf"'
    """

    __slots__ = ("path", "within")

    prepared: ClassVar[bool] = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        within: str | os.PathLike[str] | None = None,
        filename: str = "",
        inline: bool = False,
        media_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers=headers, media_type=media_type or media_type_for(filename or os.fspath(path)))
        self.path = Path(path)
        self.within = None if within is None else Path(within)
        self.headers.setdefault("x-content-type-options", "nosniff")
        if filename:
            self.headers["content-disposition"] = content_disposition(filename, inline=inline)

    async def prepare(self, request: Request) -> Response:
        """Open the file, and find out what of it is wanted.

        Raises:
            NotFound: There is no such file.
            PreconditionFailed: It is not the state that the client asks for.
            RangeNotSatisfiable: The parts that the client asks for are beyond its end.
        """
        own = copy.copy(self)  # who made this one may give it to several requests
        own.raw_headers = list(self.raw_headers)
        return await own._prepare(request)

    async def _prepare(self, request: Request) -> Response:
        file = await request.serving.threads.run(partial(_open, self.path, self.within))
        if "etag" not in self.headers:
            self.headers["etag"] = file.tag()
        self.headers["last-modified"] = http_date(file.modified)
        etag = self.headers["etag"]
        outcome = evaluate(request.headers, request.method, tags=(etag,), modified=file.modified)
        if outcome == "failed":
            raise PreconditionFailed("The file is not the one that you ask for.")
        if outcome == "not modified":
            return self._not_modified()
        self.headers["accept-ranges"] = "bytes"
        parts = None
        if request.method == "GET" and "range" in request.headers and self._same(request, file, etag):
            parts = wanted_parts(request.headers["range"], file.size)
        if parts is None:
            return _FileAnswer(self, file, [(b"", Part(0, file.size))], b"")
        if not parts:
            raise RangeNotSatisfiable(
                f"The file has {file.size} bytes.", headers={"content-range": f"bytes */{file.size}"}
            )
        return self._partial(file, parts)

    def _same(self, request: Request, file: OpenFile, etag: str) -> bool:
        """Whether the parts are wanted of this file as it is now (If-Range)."""
        wanted = request.headers.get("if-range")
        if wanted is None:
            return True
        if wanted.startswith(('"', "W/")):
            return wanted == etag and not etag.startswith("W/")
        return wanted == self.headers["last-modified"] and time.time() - file.modified >= SETTLED_S

    def _not_modified(self) -> Response:
        short = NotModified()
        kept = {b"etag", b"last-modified", b"cache-control", b"expires", b"vary"}
        short.raw_headers = [pair for pair in self.raw_headers if pair[0] in kept]
        return short

    def _partial(self, file: OpenFile, parts: list[Part]) -> Response:
        ranges = [f"bytes {part.start}-{part.end - 1}/{file.size}" for part in parts]
        if len(parts) == 1:
            self.headers["content-range"] = ranges[0]
            answer = _FileAnswer(self, file, [(b"", parts[0])], b"")
        else:
            boundary = secrets.token_hex(12)
            kind = self.headers["content-type"]
            heads = [
                f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {each}\r\n\r\n".encode("latin-1")
                for each in ranges
            ]
            self.headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
            answer = _FileAnswer(
                self, file, list(zip(heads, parts, strict=True)), f"\r\n--{boundary}--\r\n".encode("ascii")
            )
        answer.status = 206
        return answer

    async def __call__(self, request: Request, send: Send) -> None:
        """For an answer that a middleware gave; a handler's is prepared before."""
        try:
            answer = await self.prepare(request)
        except Exception as error:  # noqa: BLE001 whatever it is, it is answered
            answer = await request.serving.recover(error, request)
        self.status = answer.status
        await answer(request, send)


class OpenFile:
    """An open file that closes itself when nobody holds it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._turn = threading.Lock()
        self._close = weakref.finalize(self, os.close, fd)
        found = os.fstat(fd)
        self.regular = stat.S_ISREG(found.st_mode)
        self.size = found.st_size
        self.modified = found.st_mtime
        self._mark = f"{found.st_mtime_ns:x}-{found.st_size:x}"

    def tag(self) -> str:
        settled = time.time() - self.modified >= SETTLED_S
        return f'{"" if settled else "W/"}"{self._mark}"'

    def read(self, start: int, length: int) -> bytes:
        # A thread may still be here when its request was cut: its number must not be another file's by then.
        with self._turn:
            if self.closed:
                return b""
            os.lseek(self.fd, start, os.SEEK_SET)
            return os.read(self.fd, length)

    @property
    def closed(self) -> bool:
        return not self._close.alive

    def close(self) -> None:
        with self._turn:
            self._close()


def _open(path: Path, within: Path | None) -> OpenFile:
    try:
        if within is not None:
            folder = within.resolve(strict=True)
            path = (folder / path).resolve(strict=True)
            if not path.is_relative_to(folder):
                raise NotFound("There is no such file.")
        # Not blocking: a pipe of that name would wait for its other end. The path is resolved: a link is a surprise.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        file = OpenFile(os.open(path, flags | (getattr(os, "O_NOFOLLOW", 0) if within is not None else 0)))
    except OSError as error:
        if error.errno in _ABSENT or os.name == "nt":
            raise NotFound("There is no such file.") from error
        raise
    except (ValueError, RuntimeError) as error:  # a NUL in the name; a circle of links
        raise NotFound("There is no such file.") from error
    if not file.regular:
        file.close()
        raise NotFound("There is no such file.")
    return file


class _FileAnswer(Response):
    """Some parts of an open file, each after its head, and a tail."""

    __slots__ = ("file", "parts", "tail")

    def __init__(self, origin: FileResponse, file: OpenFile, parts: list[tuple[bytes, Part]], tail: bytes) -> None:
        self.status = origin.status
        self.body = b""
        self.raw_headers = origin.raw_headers
        self.file = file
        self.parts = parts
        self.tail = tail
        self.headers["content-length"] = str(sum(len(head) + part.length for head, part in parts) + len(tail))

    async def __call__(self, request: Request, send: Send) -> None:
        try:
            headers = [*self.raw_headers, request.id_header] if request.has_id else self.raw_headers
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            if not request.wants_body:
                await send({"type": "http.response.body", "body": b""})
            elif await until_any(self._send_parts(request, send), [request.wait_for_disconnect()]):
                await send({"type": "http.response.body", "body": self.tail})
        finally:
            self.file.close()

    async def _send_parts(self, request: Request, send: Send) -> None:
        run = request.serving.threads.run
        for head, part in self.parts:
            position = part.start
            if head:
                await send({"type": "http.response.body", "body": head, "more_body": True})
            while position < part.end:
                chunk = await run(partial(self.file.read, position, min(CHUNK, part.end - position)))
                if not chunk:
                    # The length was promised: only a broken connection tells the client that it is not kept.
                    raise RuntimeError("A file became shorter while it was sent.")
                position += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


def content_disposition(filename: str, *, inline: bool = False) -> str:
    r"""The header that names a file for who saves it, for new clients and for old ones.

    Example:
        >>> content_disposition("../Bericht für \"Ada\".pdf")
        'attachment; filename="Bericht f_r _Ada_.pdf"; filename*=UTF-8\'\'Bericht%20f%C3%BCr%20%22Ada%22.pdf'
    """
    name = safe_name(filename)
    kind = "inline" if inline else "attachment"
    plain = "".join(letter if letter.isascii() and letter not in '"\\%' else "_" for letter in name)
    if plain == name:
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


_TYPES: Final = mimetypes.MimeTypes()
for _kind, _endings in {
    "application/manifest+json": ".webmanifest",
    "application/wasm": ".wasm",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "image/avif": ".avif",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
    "text/javascript": ".js .mjs",
    "text/markdown": ".md",
}.items():
    for _ending in _endings.split():
        _TYPES.add_type(_kind, _ending)


def media_type_for(name: str) -> str:
    """The media type that a file's name says, the same on every system.

    Example:
        >>> media_type_for("index.html"), media_type_for("data.tar.gz"), media_type_for("unknown.thing")
        ('text/html; charset=utf-8', 'application/gzip', 'application/octet-stream')
    """
    with contextlib.suppress(ValueError):
        kind, coding = _TYPES.guess_type(PurePath(name).name)
        if coding is not None:
            return {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(
                coding, "application/octet-stream"
            )
        if kind is not None:
            return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    return "application/octet-stream"
