"""A request as a handler or a middleware sees it. What nobody asks for is never parsed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from consona.rest.headers import Headers
from consona.rest.server.forms import Form, read_form
from consona.rest.server.problems import BadRequest, BodyTooLarge
from consona.rest.server.responses import Message, Receive, Scope

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer
    from consona.rest.server.guards import Identity
    from consona.rest.server.idempotency import Claim
    from consona.rest.server.routing import Route
    from consona.rest.server.serving import Serving

__all__ = ["Background", "ClientGone", "Request", "local_path", "read_cookies"]


class ClientGone(Exception):
    """The client went away before its request was whole. There is nobody to answer."""


class Background:
    """Work to do after the answer was sent. A handler asks for it by type.

        @api.post("/signup", status=202)
        async def sign_up(user: NewUser, background: Background) -> None:
            background.run(send_welcome, user.email)

    Each piece runs as a task of the server, which waits for it when it stops (within its drain
    time), counts it, and logs it when it fails. It lives in memory: what must survive a crash
    belongs in a queue.
    """

    __slots__ = ("work",)

    def __init__(self) -> None:
        self.work: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `function` (a coroutine function, or a plain one, which then runs in a thread) after the answer."""
        self.work.append((function, args, kwargs))


class Request(msgspec.Struct, eq=False, weakref=True):
    """One request. (A Struct, since those are made in a fifth of the time; it is nobody's data.)

    Attributes:
        scope: The ASGI scope, the native handle underneath.
        serving: The running server; `request.server` is the `APIServer` itself.
        route: The route that matched; for unknown paths one that answers 404.
        fields: The headers as plain bytes by lower-case name, the last of several. Read only.
        state: A dict of the request's own, for middlewares and handlers to pass things on.
        identity: Who asks, where a guard found out; None before.
    """

    scope: Scope
    serving: Serving
    route: Route
    segments: Sequence[str]
    fields: dict[bytes, bytes]
    _receive: Receive
    identity: Identity | None = None
    disconnected: bool = False
    # Kept by the server.
    reading: bool = False
    hurried: bool = False
    mounted: asyncio.Task[None] | None = None
    claim: Claim | None = None
    _form: Form | None = None
    _background: Background | None = None
    _body: bytes | None = None
    _consumed: bool = False
    _id: bytes = b""
    _state: dict[str, Any] | None = None

    @property
    def server(self) -> APIServer:
        return self.serving.api

    @property
    def id(self) -> str:
        """The request's id, made when it is first asked for: then it is in the answer's `x-request-id` too.

        Each problem has one, and the log names it beside what went wrong.
        """
        return (self._id or self.serving.request_id(self)).decode("ascii")

    @property
    def has_id(self) -> bool:
        """Whether the answer carries an id: where one came along, or was asked for (every problem does)."""
        return bool(self._id) or b"x-request-id" in self.fields

    @property
    def id_header(self) -> tuple[bytes, bytes]:
        """The id as a header of the answer."""
        return b"x-request-id", self._id or self.serving.request_id(self)

    @property
    def method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def path(self) -> str:
        """The decoded path below the place where the server is mounted."""
        return local_path(self.scope)

    @path.setter
    def path(self, path: str) -> None:
        """Route the request anew, in a middleware, as if it had asked for `path` (decoded)."""
        self.serving.finder.reroute(self, path)

    @property
    def path_params(self) -> dict[str, str]:
        """The path's parameters as text; handlers get them in their declared types."""
        return dict(zip(self.route.path_names, self.segments, strict=True))

    @property
    def headers(self) -> Headers:
        """The headers. What a middleware changes here, the handler sees changed."""
        return Headers(self.scope["headers"], self.fields)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query: for each name its values, in order."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            found.setdefault(name, []).append(value)
        return found

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name."""
        return read_cookies(self.headers.all("cookie"))

    @property
    def client(self) -> str:
        """The address of the peer, without its port; empty for a Unix socket or within the process."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def client_address(self) -> str:
        """The address of who asks: the peer's, or behind trusted proxies what they say (`proxy_header`)."""
        return self.serving.client_address(self)

    @property
    def state(self) -> dict[str, Any]:
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def background(self) -> Background:
        """Work to do after the answer."""
        if self._background is None:
            self._background = Background()
        return self._background

    @property
    def wants_body(self) -> bool:
        """Whether the answer may have a body: not for HEAD."""
        return self.method != "HEAD"

    async def body(self) -> bytes:
        """The whole body; read once, then kept.

        Raises:
            BodyTooLarge: It is longer than the route accepts.
            ClientGone: The client went away meanwhile.
        """
        if self._body is not None:
            return self._body
        if self._consumed:
            raise RuntimeError("The body was read as a stream already, and is not kept.")
        limit = self.route.max_body
        declared = self.fields.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        self.reading = True
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message["type"] != "http.request" or message.get("more_body", False):
            body = await self._read_on(message, body, limit)
        elif len(body) > limit:
            raise _too_large(limit)
        self.reading = False
        self._body = body
        return body

    async def _read_on(self, message: Message, part: bytes, limit: int) -> bytes:
        parts = [part]
        size = len(part)
        while message["type"] == "http.request" and message.get("more_body", False):
            if size > limit:
                raise _too_large(limit)
            message = await self._receive()
            part = message.get("body", b"")
            size += len(part)
            parts.append(part)
        if message["type"] != "http.request":
            self.disconnected = True
            raise ClientGone
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)

    async def stream(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The body piece by piece, as it arrives; nothing is kept.

        Args:
            max_bytes: The most that is read; by default what the route accepts.

        Raises:
            BodyTooLarge: It is longer.
            ClientGone: The client went away meanwhile.
        """
        if self._body is not None:
            yield self._body
            return
        self._consumed = True
        limit = self.route.max_body if max_bytes is None else max_bytes
        declared = self.fields.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.disconnected = True
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            more = message.get("more_body", False)
            if part:
                yield part

    async def json(self) -> Any:
        """The body, decoded from JSON.

        Raises:
            BadRequest: It is not JSON.
        """
        try:
            return msgspec.json.decode(await self.body())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"The body is not JSON that can be read: {error}") from error

    async def form(self) -> Form:
        """The form that was sent, urlencoded or as multipart/form-data; read once, then kept until the request ends.

        Handlers get it in their declared types: `Annotated[str, Form()]`, `UploadFile`.

        Raises:
            UnsupportedMediaType: The body is no form.
            BadRequest: It is broken.
            BodyTooLarge: It, or a part of it, is larger than is accepted.
            PermissionDenied: A page of another site sent it.
            StorageFull: There is no room for its files.
            ClientGone: The client went away meanwhile.
        """
        if self._form is None:
            self._form = await read_form(self, self.route.files)
        return self._form

    async def wait_for_disconnect(self) -> None:
        """Wait until the client goes away. Only after the body was read, or where there is none to read."""
        while not self.disconnected:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.disconnected = True

    def __repr__(self) -> str:
        return f"<Request {self.method} {json.dumps(self.route.path)}>"


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is longer than {limit} bytes, the most that is accepted here.",
        headers={"connection": "close"},  # the rest is on its way, and nobody will read it
    )


def local_path(scope: Scope) -> str:
    """The path below the place where the application is mounted (ASGI's `root_path`)."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        return path[len(root) :] or "/"
    return path


def read_cookies(headers: list[str]) -> dict[str, str]:
    """Cookies by name; the first of several with the same name, which is the most specific one.

    Source: RFC 6265, sections 4.2 and 5.4.
    """
    cookies: dict[str, str] = {}
    decode = SimpleCookie().value_decode
    for header in headers:
        for pair in header.split(";"):
            name, equals, value = pair.partition("=")
            name = name.strip()
            if equals and name and name not in cookies:
                cookies[name] = decode(value.strip())[0]
    return cookies
