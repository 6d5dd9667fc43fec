"""Applications under a path of the server: any ASGI 3 application, with its lifespan and WebSockets.

A mounted application sees `root_path` extended by its prefix, as the ASGI specification says; its
answers pass through the server's middlewares, its operations count under `/prefix/*`.

Source: ASGI specification 3.0, HTTP & WebSocket and Lifespan, https://asgi.readthedocs.io.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from consona.errors import ConfigurationError
from consona.rest.asgi_transport import _Lifespan as Lifespan
from consona.rest.headers import RawHeaders
from consona.rest.requests import Request
from consona.rest.responses import Message, Receive, Response, Scope, Send
from consona.rest.routing import Route

__all__ = ["ASGIApp", "Mount"]

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Mount:
    """One application under one prefix.

    Args:
        prefix: Begins with a slash and does not end with one; empty for everything that no route takes.
        app: The application.

    Raises:
        ConfigurationError: The prefix is not well-formed, or holds a parameter.
    """

    route: Route

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
        """Call the application when its answer is to be sent."""
        return MountedResponse(self, request)


class MountedResponse(Response):
    """An answer that the mounted application sends by itself.

    Its status is known once it was sent: until then it reads as 200. Headers that middlewares set
    replace those of the same name.
    """

    __slots__ = ("mount", "request")

    def __init__(self, mount: Mount, request: Request) -> None:
        super().__init__()
        self.mount = mount
        self.request = request

    async def __call__(self, request: Request, send: Send) -> None:
        own = [*self.raw_headers, request.id_header]
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                self.status = message["status"]
                headers: RawHeaders = list(message.get("headers", []))
                replaced = {name for name, _ in own}
                kept = [pair for pair in headers if pair[0].lower() not in replaced]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        try:
            await self.mount.app(self.mount.scope_for(request.scope), request._receive, send_on)
        except Exception as error:
            if begun:
                raise
            answer = request.serving.problem(error, request)
            self.status = answer.status
            answer.raw_headers.extend(self.raw_headers)
            await answer(request, send)
