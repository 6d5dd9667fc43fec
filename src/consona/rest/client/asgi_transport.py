"""Calls an ASGI application in this process: no socket, the same behaviour.

    async with APIClient("http://testserver", transport=ASGITransport(app)) as api: ...

The application's lifespan runs with the transport; bodies stream both ways with back-pressure; a
client that goes away is an `http.disconnect`; an exception of the application is what it would be on
the wire (a 500, or a broken body), unless `reraise=True` asks for the exception itself.

Source: ASGI specification 3.0, HTTP and lifespan, https://asgi.readthedocs.io.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextvars import Context
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from consona.errors import ConnectError, DeadlineExceeded
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.lifespan import Lifespan
from consona.rest.transport import Request

__all__ = ["ASGITransport"]

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

HIGH_WATER_BYTES: Final = 64 * 1024
NO_BODY_STATUS: Final = frozenset({204, 304})
CRASHED: Final = b"Internal Server Error"


class ASGITransport:
    """A transport to an application in this process.

    Args:
        app: An ASGI 3 application.
        reraise: Whether an exception of the application is raised to the caller, for tests that want to see it.
        root_path: Under which path the application believes to be mounted.
        client: The address that the application sees as the client's.
        stop_timeout: Seconds that `close` waits for the application's requests and its shutdown.
    """

    def __init__(
        self,
        app: Any,
        *,
        reraise: bool = False,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 50000),
        stop_timeout: float = 10.0,
    ) -> None:
        self.app: App = app
        self.reraise = reraise
        self.root_path = root_path
        self.client = client
        self.stop_timeout = stop_timeout
        self._lifespan: Lifespan | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        lifespan = Lifespan(self.app)
        await lifespan.startup()
        self._lifespan = lifespan

    async def send(self, request: Request) -> _ASGIAnswer:
        scope = self.scope_of(request)
        answer = _ASGIAnswer(request, reraise=self.reraise)
        # A context of its own, as on the wire: trace and deadline travel in headers, not in memory.
        task = asyncio.get_running_loop().create_task(answer.run(self.app, scope), context=Context())
        self.keep(task)
        try:
            await answer.head()
        except BaseException:
            await answer.close()
            raise
        return answer

    def scope_of(self, request: Request) -> dict[str, Any]:
        """The ASGI scope of a request.

        Raises:
            ConnectError: The application is not started.
        """
        if self._lifespan is None:
            raise ConnectError("The application in this process is not started.", hint="Open the transport first.")
        return self._scope(request, self._lifespan.state)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Wait for a task of the application, when the transport is closed."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        lifespan, self._lifespan = self._lifespan, None
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self.stop_timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=self.stop_timeout)
        if lifespan is not None:
            await lifespan.shutdown(self.stop_timeout)

    def _scope(self, request: Request, state: dict[str, Any]) -> dict[str, Any]:
        parts = urlsplit(request.url)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        names = {name for name, _ in headers}
        if b"host" not in names:
            headers.insert(0, (b"host", parts.netloc.rpartition("@")[2].encode("ascii")))
        if b"content-length" not in names and request.body is not None:
            if isinstance(request.body, bytes):
                headers.append((b"content-length", str(len(request.body)).encode()))
            else:
                headers.append((b"transfer-encoding", b"chunked"))
        raw_path = (parts.path or "/").encode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": parts.scheme,
            "path": self.root_path + unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": self.root_path.encode() + raw_path,
            "query_string": parts.query.encode("ascii"),
            "root_path": self.root_path,
            "headers": headers,
            "client": self.client,
            "server": (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)),
            "state": dict(state),
            "extensions": {},
        }


class _ASGIAnswer:
    """One request within the application: what it receives, and what it sends."""

    def __init__(self, request: Request, *, reraise: bool) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.http_version = "1.1"
        self._body: AsyncIterator[bytes] | None
        self._first: bytes | None
        if request.body is None or isinstance(request.body, bytes):
            self._body, self._first = None, request.body or b""
        else:
            self._body, self._first = request.body, None
        self._without_body = request.method == "HEAD"
        self._timeouts = request.timeouts
        self._producing = False
        """Whether the caller's body is being waited for: that is no time of the application's."""
        self._reraise = reraise
        self._parts: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ended = self._gone = False
        self._failure: BaseException | None = None
        self._readable = asyncio.Event()
        self._room = asyncio.Event()
        self._left = asyncio.Event()

    # The application's side.

    async def run(self, app: App, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
            if not self.status:
                self._crashed(None)
            elif not self._ended and self._failure is None:
                self._failure = ConnectionLost("The application returned before its answer was whole.")
        except asyncio.CancelledError:
            self._failure = self._failure or ConnectionLost("The application was stopped before it answered.")
            raise
        except Exception as error:  # noqa: BLE001 the application's own, whatever it is
            self._crashed(error)
        finally:
            self._readable.set()

    def _crashed(self, error: Exception | None) -> None:
        if self._failure is not None:
            return
        if error is not None and self._reraise:
            self._failure = error
        elif self.status:
            self._failure = ConnectionLost("The application failed in the middle of its answer.")
            self._failure.__cause__ = error
        else:
            self.status, self._ended = 500, True
            self.headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(CRASHED))]
            if not self._without_body:
                self._parts.append(CRASHED)

    async def _receive(self) -> Message:
        if self._gone:
            return {"type": "http.disconnect"}
        if self._first is not None:
            body, self._first = self._first, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._body is not None:
            self._producing = True
            self._readable.set()  # the times begin anew
            try:
                async for part in self._body:
                    if part:
                        return {"type": "http.request", "body": part, "more_body": True}
            except Exception as error:  # noqa: BLE001 the caller's own: it is raised where the answer is awaited
                self._failure, self._body = error, None
                self._leave()
                return {"type": "http.disconnect"}
            finally:
                self._producing = False
                self._readable.set()
            self._body = None
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone:
            return  # as a server does once the client's connection is closed
        kind = message["type"]
        if kind == "http.response.start":
            if self.status:
                raise RuntimeError("The application began its answer twice.")
            self.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self.status = message["status"]
            self._without_body = self._without_body or self.status in NO_BODY_STATUS
            self._readable.set()
        elif kind == "http.response.body":
            if not self.status or self._ended:
                raise RuntimeError("The application sent a body outside of its answer.")
            part = message.get("body", b"")
            if part and not self._without_body:
                self._parts.append(bytes(part))
                self._waiting_bytes += len(part)
            self._ended = not message.get("more_body", False)
            self._readable.set()
            while self._waiting_bytes > HIGH_WATER_BYTES and not self._ended and not self._gone:
                self._room.clear()
                await self._room.wait()
        else:
            raise RuntimeError(f"The application sent a message of an unknown type: {kind!r}.")

    # The client's side.

    async def head(self) -> None:
        await self._until(lambda: self.status)

    async def chunk(self) -> bytes:
        await self._until(lambda: self._parts or self._ended)
        if not self._parts:
            self._leave()
            return b""
        part = self._parts.popleft()
        self._waiting_bytes -= len(part)
        self._room.set()
        return part

    async def _until(self, ready: Callable[[], Any]) -> None:
        while not ready():
            if self._failure is not None:
                raise self._failure
            self._readable.clear()
            sending = self._body is not None
            limit = self._timeouts.write if sending else self._timeouts.read
            try:
                async with asyncio.timeout(None if self._producing else limit):
                    await self._readable.wait()
            except TimeoutError:
                self._leave()
                raise DeadlineExceeded(
                    f"The application {'took' if sending else 'sent'} nothing for {limit:g} s.",
                    phase="write" if sending else "read",
                    seconds=limit,
                ) from None
        if self.status and not 200 <= self.status <= 599:
            raise BadAnswer(f"The application answered with status {self.status}, which is none.")

    async def close(self) -> None:
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._parts.clear()
        self._left.set()
        self._room.set()
