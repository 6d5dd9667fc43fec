"""An answer into a file: written beside it and put in its place when it is whole, resumed where the line breaks.

A download that broke goes on where it stopped (`Range`), if the server's answer had a strong `ETag` or
`Last-Modified` by which it can tell that the file is still the same (`If-Range`). Else it begins anew.

Source: RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range), 14 (ranges).
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from consona.errors import APIError, ConfigurationError, ConsonaError
from consona.rest.client.errors import BadAnswer, FileNotWritten
from consona.rest.client.progress import Progress
from consona.rest.client.response import Response, ResponseStream
from consona.rest.client.safe_retry import if_safe
from consona.rest.client.verbs import CallOptions
from consona.rest.headers import Headers
from consona.telemetry.redaction import DEFAULT as REDACTION

if TYPE_CHECKING:
    from consona.rest.client.api_client import APIClient

__all__ = ["Downloaded"]

WRITE_BYTES: Final = 256 * 1024
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_CONTENT_RANGE = re.compile(r"(?i)bytes\s+(\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a download brought."""

    path: Path
    """The file, whole."""
    size: int
    """Its length in bytes."""
    resumed_at: int
    """How many bytes an earlier download had left, which were not fetched again."""
    requests: int
    """1 where nothing broke."""
    response: Response
    """The last answer, without its body: status, headers, URL."""


class _Kept(msgspec.Struct):
    """What a part left behind must be told with, to be gone on with."""

    url: str
    validator: str


class Part:
    """The file beside the file, on its way to become it. Its methods block: they are for a thread."""

    def __init__(self, to: Path, url: str, *, resume: bool) -> None:
        self.to = to
        name = f"{to.name}.part" if resume else f".{to.name}.{secrets.token_hex(4)}.part"
        self.path = to.with_name(name)
        self.note = to.with_name(f"{name}.json") if resume else None
        self.url = hashlib.sha256(url.encode()).hexdigest()  # the URL itself may hold a secret
        self.size = 0
        self.validator = ""
        self._file: FileIO | None = None

    def open(self) -> None:
        with self._told():
            if self.note is not None and self.note.exists() and self.path.exists():
                with contextlib.suppress(msgspec.MsgspecError, OSError):
                    kept = msgspec.json.decode(self.note.read_bytes(), type=_Kept)
                    if kept.url == self.url:
                        self.validator = kept.validator
            self._file = FileIO(self.path, "r+" if self.validator else "w")
            self.size = self._file.seek(0, os.SEEK_END)

    def begin(self, validator: str) -> None:
        """A new body begins."""
        assert self._file is not None
        with self._told():
            self._file.seek(0)
            self._file.truncate()
            self.size, self.validator = 0, validator
            if self.note is not None:
                self.note.write_bytes(msgspec.json.encode(_Kept(self.url, validator)))

    def write(self, data: bytes) -> None:
        assert self._file is not None
        left = memoryview(data)
        with self._told():
            while left:
                written = self._file.write(left)
                self.size += written
                left = left[written:]

    def finish(self) -> None:
        assert self._file is not None
        with self._told():
            os.fsync(self._file.fileno())  # so that no power cut leaves an empty file under the right name
            self._file.close()
            self.path.replace(self.to)
            if self.note is not None:
                self.note.unlink(missing_ok=True)

    def leave(self, *, keep: bool) -> None:
        if self._file is not None:
            self._file.close()
        if not keep:
            for path in (self.path, self.note):
                if path is not None:
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self) -> Any:
        try:
            yield
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> NoReturn:
        reason = error.strerror or type(error).__name__
        if error.errno in NO_ROOM:
            raise FileNotWritten(
                f"There is no room for {self.to}: its disk took {self.size:,} bytes ({reason}). They were removed.",
                hint="Free some space on that disk, or choose another.",
                no_room=True,
            ) from error
        raise FileNotWritten(f"{self.to} cannot be written: {reason}.") from error


class Download:
    """One download: as many requests as it takes."""

    def __init__(
        self, client: APIClient, path: str, part: Part, progress: Progress | None, options: CallOptions
    ) -> None:
        self._client = client
        self._path = path
        self._part = part
        self._progress = progress
        self._options = options
        self._headers = {"Accept-Encoding": "identity", **(options.pop("headers", None) or {})}
        if any(name.lower() in {"range", "if-range"} for name in self._headers):
            raise ConfigurationError("A download asks for its ranges itself.", hint="A part of a file: `api.get(...)`.")
        self._expected: int | None = None
        self._reading = False
        """Whether the head of an answer has come, so that the policy's own tries are over."""
        self.requests = 0
        self.resumed_at = 0

    async def run(self) -> Downloaded:
        part = self._part
        await asyncio.to_thread(part.open)
        self.resumed_at = part.size
        failures = 0
        while True:
            before, self._reading = part.size, False
            try:
                response = await self._request()
            except APIError as error:
                if error.status != 416 or not before:
                    raise
                await asyncio.to_thread(part.begin, "")  # what is here is longer than what is there
                continue
            except ConsonaError as error:
                if not self._reading:
                    raise
                failures = 1 if part.validator and part.size > before else failures + 1
                await self._wait(failures, error)
                continue
            if self._expected is not None and part.size != self._expected:
                raise BadAnswer(f"{part.to}: {part.size:,} bytes came, and the server had said {self._expected:,}.")
            await asyncio.to_thread(part.finish)
            return Downloaded(part.to, part.size, self.resumed_at, self.requests, response)

    async def _wait(self, failures: int, error: ConsonaError) -> None:
        """Wait before another request, or raise the error where there is to be none."""
        runner, origin = self._client._runner, self._client._base.place(self._path).origin
        wait = runner.wait_before(failures + 1, error, key=origin, retry_if=if_safe)
        if wait is None:
            raise error
        await runner._sleep(wait)

    async def _request(self) -> Response:
        part = self._part
        headers = dict(self._headers)
        if part.size and part.validator:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
        self._options["headers"] = headers
        self.requests += 1
        async with self._client.stream("GET", self._path, **self._options) as answer:
            self._reading = True
            await self._begin(answer)
            await self._copy(answer)
            return Response(
                answer.status,
                answer.headers.raw,
                method=answer.method,
                url=answer.url,
                http_version=answer.http_version,
                attempts=answer.attempts,
                elapsed=answer.elapsed,
                cache=answer.cache,
            )

    async def _begin(self, answer: ResponseStream) -> None:
        part, headers = self._part, answer.headers
        if answer.status == 206:
            found = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
            if found is None or int(found[1]) != part.size or not part.validator:
                raise BadAnswer(
                    f"GET {REDACTION.url(answer.url)} answered with another part than the bytes from {part.size:,} on."
                )
            self._expected = None if found[3] == "*" else int(found[3])
            return
        coded = headers.get("content-encoding", "identity").strip().lower() != "identity"
        length = headers.get("content-length", "")
        self._expected = int(length) if length.isdecimal() and not coded else None
        self.resumed_at = 0
        await asyncio.to_thread(part.begin, "" if coded else validator_of(headers))

    async def _copy(self, answer: ResponseStream) -> None:
        part, progress = self._part, self._progress
        waiting: list[bytes] = []
        size = 0
        if progress is not None:
            progress(part.size, self._expected)
        try:
            async for piece in answer.chunks():
                waiting.append(piece)
                size += len(piece)
                if size >= WRITE_BYTES:
                    data, waiting, size = b"".join(waiting), [], 0
                    await asyncio.to_thread(part.write, data)
                    if progress is not None:
                        progress(part.size, self._expected)
        finally:
            if waiting:  # also what came before the line broke
                await asyncio.to_thread(part.write, b"".join(waiting))
                if progress is not None:
                    progress(part.size, self._expected)


async def download(
    client: APIClient,
    path: str,
    to: str | Path,
    *,
    resume: bool,
    progress: Progress | None,
    options: CallOptions,
) -> Downloaded:
    part = Part(Path(to), client._base.place(path).url, resume=resume)
    work = Download(client, path, part, progress, options)
    keep = resume
    try:
        return await work.run()
    except FileNotWritten as error:
        keep = keep and not error.context.get("no_room")
        raise
    finally:
        await asyncio.to_thread(part.leave, keep=keep)


def validator_of(headers: Headers) -> str:
    """By what a server can tell that its file is still the same: a strong `ETag` or date; empty where there is none."""
    if headers.get("accept-ranges", "").strip().lower() == "none":
        return ""
    etag = headers.get("etag", "").strip()
    if etag:
        return etag if etag.startswith('"') else ""
    changed, now = headers.get("last-modified", ""), headers.get("date", "")
    try:
        older_by = email.utils.parsedate_to_datetime(now) - email.utils.parsedate_to_datetime(changed)
    except (ValueError, TypeError, OverflowError):
        return ""
    return changed if older_by.total_seconds() >= 1 else ""  # RFC 9110, section 8.8.2.2
