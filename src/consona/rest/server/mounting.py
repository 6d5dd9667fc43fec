"""Applications under a path of the server: any ASGI 3 application, with its lifespan and WebSockets.

A mounted application sees `root_path` extended by its prefix, as the ASGI specification says; its
answers pass through the server's middlewares, its operations count under `/prefix/*`, and the server's
timeout holds until they begin.

Source: ASGI specification 3.0, HTTP & WebSocket and Lifespan, https://asgi.readthedocs.io.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from consona.errors import ConfigurationError
from consona.rest.lifespan import Lifespan
from consona.rest.server.requests import Request
from consona.rest.server.responses import Message, Receive, Response, Scope, Send
from consona.rest.server.routing import METHODS, Route

__all__ = ["ASGIApp", "Mount", "as_specified"]

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def as_specified(scope: Scope) -> Scope:
    """The scope of a server that is mounted within Litestar, as the ASGI specification wants it.

    Litestar (2.25) cuts the prefix off `path` and adds a slash at its end, instead of extending
    `root_path`. What the client asked for is still in `raw_path`.
    """
    raw_path: bytes | None = scope.get("raw_path")
    if raw_path is None:
        return scope
    whole = unquote(raw_path.decode("ascii", "replace"))
    path: str = scope["path"]
    below = path if whole.endswith(path) else path.removesuffix("/")
    if not whole.endswith(below):
        return scope
    return {**scope, "path": whole, "root_path": whole[: len(whole) - len(below)].rstrip("/")}


class Mount:
    """One application under one prefix.

    Args:
        prefix: Begins with a slash and does not end with one; empty for everything that no route takes.
        app: The application.

    Raises:
        ConfigurationError: The prefix is not well-formed, or holds a parameter.
    """

    route: Route
    methods: tuple[str, ...] = METHODS
    """What it may answer."""

    def __init__(self, prefix: str, app: ASGIApp) -> None:
        prefix = prefix.rstrip("/")
        if (prefix and not prefix.startswith("/")) or "{" in prefix or "//" in prefix:
            raise ConfigurationError(f"{prefix!r} is not a path to mount at.", hint="Write it like /files.")
        self.prefix = prefix
        self.app = app
        self._lifespan: Lifespan | None = None

    @property
    def target(self) -> str:
        return f"{self.prefix}/*"

    def takes(self, path: str) -> bool:
        return path.startswith(self.prefix) and path[len(self.prefix) : len(self.prefix) + 1] in {"", "/"}

    async def open(self) -> None:
        """Start the application.

        Raises:
            ConfigurationError: It says that it cannot start.
        """
        lifespan = Lifespan(self.app)
        await lifespan.startup()
        self._lifespan = lifespan

    async def close(self, timeout_s: float) -> None:
        """Stop it."""
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            await lifespan.shutdown(timeout_s)

    def scope_for(self, scope: Scope) -> Scope:
        """The scope as the application is to see it."""
        state = self._lifespan.state if self._lifespan is not None else {}
        root = scope.get("root_path", "").rstrip("/")
        path = scope["path"]
        inner = {**scope, "root_path": root + self.prefix, "state": dict(state)}
        if path == root + self.prefix:
            inner["path"] = path + "/"  # the application's own root
            if scope.get("raw_path") is not None:
                inner["raw_path"] = scope["raw_path"] + b"/"
        return inner

    async def respond(self, request: Request) -> Response:
        """The application's answer, as soon as its status and headers are there.

        Raises:
            RuntimeError: It returned without an answer. (What it raises before, is raised.)
        """
        response = MountedResponse()
        task = request.mounted = asyncio.get_running_loop().create_task(self._run(request, response))
        begun = asyncio.ensure_future(response.begun.wait())
        try:
            await asyncio.wait([task, begun], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            task.cancel()
            raise
        finally:
            begun.cancel()
        if not response.begun.is_set():
            task.result()
            raise RuntimeError(f"The application at {self.prefix or '/'} returned without an answer.")
        response.task = task
        return response

    async def _run(self, request: Request, response: MountedResponse) -> None:
        await self.app(self.scope_for(request.scope), request._receive, response.pass_on)


class MountedResponse(Response):
    """An answer that a mounted application is sending: it waits after the head until that is sent on."""

    __slots__ = ("_open", "begun", "send", "task")

    task: asyncio.Task[None]
    send: Send

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self._open = asyncio.Event()

    async def pass_on(self, message: Message) -> None:
        """What the application calls to send."""
        if message["type"] == "http.response.start" and not self.begun.is_set():
            self.status = message["status"]
            self.raw_headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", [])]
            self.begun.set()
            await self._open.wait()
            message = {**message, "status": self.status, "headers": self.raw_headers}
        await self.send(message)

    async def __call__(self, request: Request, send: Send) -> None:
        """Let the application go on."""
        if request.has_id:
            self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"x-request-id"]
            self.raw_headers.append(request.id_header)
        self.send = send
        self._open.set()
        await self.task
