"""One request and its answer on an HTTP/2 connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from h2.errors import ErrorCodes

from consona.errors import ConnectError, DeadlineExceeded
from consona.rest.client.aiohttp_errors import shown
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.transport import Request

if TYPE_CHECKING:
    from consona.rest.client.http2_connection import HTTP2Connection

__all__ = ["HTTP2Exchange"]

OPENED_BYTES: Final = 64 * 1024
"""The window is opened again for so much at once: a frame for each piece that was read would be a waste."""
OF_THE_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "http2-settings"}
)
"""Headers that HTTP/2 has no room for (RFC 9113, section 8.2.2)."""


class HTTP2Exchange:
    """The answer, as it comes; its connection tells what that is.

    The body of the request goes up in a task of its own, so that both can stream at the same time. An answer that
    is whole ends it: what is left of the body then interests nobody.
    """

    http_version = "2"

    def __init__(self, connection: HTTP2Connection, request: Request, stream_id: int) -> None:
        self.id = stream_id
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.may_send = asyncio.Event()
        self._connection = connection
        self._request = request
        self._pieces: deque[bytes] = deque()
        self._read = 0
        """Bytes that were read, and for which the window was not opened again yet."""
        self._news: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._ended = False
        self._finished = False
        self._upload: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"{self._request.method} {shown(self._request.url)}"

    # The request.

    def begin(self) -> None:
        """Send the head, and as much of the body as may go at once."""
        connection, body = self._connection, self._request.body
        h2 = connection.h2
        h2.send_headers(self.id, self._head(), end_stream=not body)
        if body:
            if isinstance(body, bytes) and len(body) <= self._room():
                h2.send_data(self.id, body, end_stream=True)
            else:
                self._upload = asyncio.create_task(self._send_body(body))
        connection.flush()

    def _head(self) -> list[tuple[bytes, bytes]]:
        request = self._request
        url = urlsplit(request.url)
        authority, headers, has_length = url.netloc, [], False
        for name, value in request.headers:
            lower = name.lower()
            if lower == "host":
                authority = value
            elif lower not in OF_THE_CONNECTION:
                has_length = has_length or lower == "content-length"
                headers.append((lower.encode("latin-1"), value.encode("latin-1")))
        if isinstance(request.body, bytes) and not has_length:
            headers.append((b"content-length", b"%d" % len(request.body)))
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        return [
            (b":method", request.method.encode("ascii")),
            (b":authority", authority.encode("latin-1")),
            (b":scheme", url.scheme.encode("ascii")),
            (b":path", target.encode("ascii")),
            *headers,
        ]

    def _room(self) -> int:
        """How many bytes of the body may be sent now."""
        h2 = self._connection.h2
        if self._connection.paused:
            return 0
        return min(h2.local_flow_control_window(self.id), h2.max_outbound_frame_size)

    async def _send_body(self, body: bytes | AsyncIterator[bytes]) -> None:
        try:
            if isinstance(body, bytes):
                await self._send(body)
            else:
                async for piece in body:
                    await self._send(piece)
            self._connection.h2.end_stream(self.id)
            self._connection.flush()
        except Exception as error:  # noqa: BLE001 the caller's own, or the write time: raised where the answer is awaited
            self.failed(error, ErrorCodes.CANCEL)
        finally:
            self._upload = None
            self._tell()  # from now on the server's time counts
            if not isinstance(body, bytes) and hasattr(body, "aclose"):
                await body.aclose()

    async def _send(self, piece: bytes) -> None:
        connection, rest = self._connection, memoryview(piece)
        while rest:
            room = self._room() or await self._wait_for_room()
            connection.h2.send_data(self.id, rest[:room])
            connection.flush()
            rest = rest[room:]

    async def _wait_for_room(self) -> int:
        limit = self._request.timeouts.write
        try:
            async with asyncio.timeout(limit):
                while True:
                    self.may_send.clear()
                    if room := self._room():
                        return room
                    await self.may_send.wait()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self}: the server took nothing of the body for {limit:g} s.", phase="write", seconds=limit
            ) from None

    # What the connection tells.

    def answered(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        (_, status), *others = headers  # h2 has seen to it that `:status` is there, and comes first
        if len(status) != 3 or not status.isdigit():
            self.failed(BadAnswer(f"{self} was answered with a status that is no number."), ErrorCodes.PROTOCOL_ERROR)
            return
        self.status = int(status)
        self.headers = others
        self._tell()

    def received(self, data: bytes, size: int) -> None:
        """`size` counts the padding too."""
        if data:
            self._pieces.append(data)
        self._read += size - len(data)
        self._tell()

    def ended(self) -> None:
        self._ended = True
        self._tell()
        self._finish(None if self._upload is None else ErrorCodes.CANCEL)

    def refused(self, why: str) -> None:
        """The server says that it did nothing with it (RFC 9113, section 8.7)."""
        if self.status:
            self.failed(ConnectionLost(f"{self}: {why}.", host=self._connection.host))
        else:
            self.failed(
                ConnectError(f"{self}: {why}.", hint="It is safe to send it again.", host=self._connection.host)
            )

    def failed(self, error: Exception, reset: ErrorCodes | None = None) -> None:
        if not self._ended and self._error is None:
            self._error = error
        self._tell()
        self._finish(reset)

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _finish(self, reset: ErrorCodes | None) -> None:
        if not self._finished:
            self._finished = True
            if self._upload is not None and self._upload is not asyncio.current_task():
                self._upload.cancel()
            self._connection.finished(self, reset)

    # The answer.

    async def head(self) -> None:
        while not self.status:
            await self._wait()

    async def chunk(self) -> bytes:
        while not self._pieces:
            if self._ended:
                return b""
            await self._wait()
        piece = self._pieces.popleft()
        self._read += len(piece)
        if self._read >= OPENED_BYTES and not self._finished:
            self._connection.consumed(self, self._read)
            self._read = 0
        return piece

    async def close(self) -> None:
        self._finish(ErrorCodes.CANCEL)

    async def _wait(self) -> None:
        """Until there is news of this exchange."""
        if self._error is not None:
            raise self._error
        limit = None if self._upload is not None else self._request.timeouts.read
        self._news = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit):
                await self._news
        except TimeoutError:
            if limit is not None and self._connection.silent_for(limit / 2):
                self._connection.retire()  # most likely it is dead: nothing new is to wait for it
            await self.close()
            raise DeadlineExceeded(
                f"{self}: the server sent nothing for {limit:g} s.", phase="read", seconds=limit
            ) from None
        finally:
            self._news = None
