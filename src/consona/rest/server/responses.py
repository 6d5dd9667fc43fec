"""Answers of the server: whole ones, streams, files' redirects, and what a mounted application sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import quote

import msgspec

from consona.rest.headers import Headers, RawHeaders, encode_header

if TYPE_CHECKING:
    from consona.rest.server.requests import Request

__all__ = ["Receive", "Redirect", "Response", "Scope", "Send", "StreamingResponse", "until_any"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")
MSGPACK: Final = (b"content-type", b"application/msgpack")
WITHOUT_BODY: Final = frozenset({204, 205, 304})

json_encode = msgspec.json.Encoder().encode
msgpack_encode = msgspec.msgpack.Encoder().encode


class Response:
    """A whole answer.

    Args:
        body: Bytes and text go out as they are; anything else as JSON.
        status: 200 to 599.
        headers: Names and values; `response.headers` is open to changes until it is sent.
        media_type: The content type; by default what the body is.

    Raises:
        ConfigurationError: A header's name or value cannot be sent.

    Example:
        >>> response = Response({"ok": True}, status=201, headers={"Location": "/posts/7"})
        >>> response.body, response.headers["content-type"]
        (b'{"ok":true}', 'application/json')
    """

    __slots__ = ("body", "raw_headers", "status")

    prepared: ClassVar[bool] = True
    """Whether all of it is known; else `prepare` finds it out before it is sent, and gives what is sent."""

    def __init__(
        self,
        body: Any = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "",
    ) -> None:
        self.status = status
        self.raw_headers: RawHeaders = [encode_header(name, value) for name, value in (headers or {}).items()]
        if isinstance(body, bytes):
            self.body, kind = body, "application/octet-stream" if body else ""
        elif isinstance(body, str):
            self.body, kind = body.encode(), "text/plain; charset=utf-8"
        else:
            self.body, kind = json_encode(body), "application/json"
        kind = media_type or kind
        if kind and not any(name == b"content-type" for name, _ in self.raw_headers):
            self.raw_headers.append(encode_header("content-type", kind))

    @property
    def headers(self) -> Headers:
        """The headers, to read and to change."""
        return Headers(self.raw_headers)

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = True,
        http_only: bool = True,
        same_site: Literal["strict", "lax", "none"] = "lax",
    ) -> None:
        """Give the browser a cookie: by default over HTTPS only, and out of reach for scripts.

        Args:
            name: Its name.
            value: Its value; characters that cookies cannot hold are quoted.
            max_age: Seconds that it is kept; None until the browser is closed.
            path: The paths that it is sent to.
            domain: The domain, with its subdomains; None for this host alone.
            secure: Send it over HTTPS only.
            http_only: Hide it from scripts.
            same_site: Whether it goes along with requests that other sites cause.

        Source: RFC 6265bis.
        """
        cookie: SimpleCookie = SimpleCookie()
        cookie[name] = value
        morsel = cookie[name]
        morsel["path"] = path
        morsel["samesite"] = same_site.capitalize()
        if max_age is not None:
            morsel["max-age"] = str(max_age)
        if domain:
            morsel["domain"] = domain
        if secure:
            morsel["secure"] = True
        if http_only:
            morsel["httponly"] = True
        self.headers.add("set-cookie", morsel.OutputString())

    async def prepare(self, request: Request) -> Response:  # noqa: ARG002 of those that have to
        """The answer, ready to be sent."""
        return self

    async def __call__(self, request: Request, send: Send) -> None:
        """Send it. Called by the server, once."""
        body = self.body
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        if self.status not in WITHOUT_BODY:
            headers.append((b"content-length", b"%d" % len(body)))
        if request.has_id:
            headers.append(request.id_header)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body if request.wants_body else b""})


class Encoded(Response):
    """What a handler's value was encoded to; made once a request, so it takes no detour."""

    __slots__ = ()

    def __init__(self, body: bytes, status: int, content_type: tuple[bytes, bytes]) -> None:
        self.body = body
        self.status = status
        self.raw_headers = [content_type]


class Empty(Response):
    """An answer without a body (204 unless told otherwise)."""

    __slots__ = ()

    def __init__(self, status: int = 204) -> None:
        self.body = b""
        self.status = status
        self.raw_headers = []


class Redirect(Response):
    """Sends the client elsewhere. 307 keeps method and body; 303 asks for a GET.

    Example:
        >>> Redirect("/posts/7", status=303).headers["location"]
        '/posts/7'
    """

    __slots__ = ()

    def __init__(self, location: str, *, status: int = 307) -> None:
        super().__init__(status=status, headers={"location": quote(location, safe=":/?#[]@!$&'()*+,;=%~-._")})


class StreamingResponse(Response):
    r"""An answer that is sent while it is made: a long download, or server-sent events.

    Each piece waits until the client can take more. When the client goes away, the iterator is
    closed. Iterators that are not asynchronous run in the server's threads. Streams of
    `text/event-stream` end when the server stops (their clients connect again elsewhere); others
    may finish within the server's drain time.

    Args:
        parts: Pieces, as bytes or text.
        status: 200 to 599.
        headers: Names and values.
        media_type: The content type.

    Example:
        >>> async def numbers():
        ...     for number in range(3):
        ...         yield f"data: {number}\n\n"
        >>> StreamingResponse(numbers(), media_type="text/event-stream").status
        200
    """

    __slots__ = ("media_type", "parts")

    def __init__(
        self,
        parts: AsyncIterable[bytes | str] | Iterable[bytes | str],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/octet-stream",
    ) -> None:
        super().__init__(status=status, headers=headers, media_type=media_type)
        self.parts = parts
        self.media_type = media_type

    async def __call__(self, request: Request, send: Send) -> None:
        headers = [*self.raw_headers, request.id_header] if request.has_id else self.raw_headers
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if not request.wants_body:
            await close_parts(self.parts)
            await send({"type": "http.response.body", "body": b""})
            return
        whole = await until_any(self._send_parts(request, send), self._ends(request, send))
        if whole or not request.disconnected:
            await send({"type": "http.response.body", "body": b""})

    def _ends(self, request: Request, send: Send) -> list[Awaitable[Any]]:  # noqa: ARG002 a stream of events sends too
        """Each of these ends the stream."""
        ends: list[Awaitable[Any]] = [request.wait_for_disconnect()]
        if self.media_type.startswith("text/event-stream"):
            ends.append(request.serving.stopping.wait())
        return ends

    def _iterated(self, request: Request) -> AsyncIterable[Any]:
        parts = self.parts
        return parts if isinstance(parts, AsyncIterable) else request.serving.threads.iterate(parts)

    async def _send_parts(self, request: Request, send: Send) -> None:
        pieces = self._iterated(request)
        try:
            async for piece in pieces:
                if piece:
                    data = piece.encode() if isinstance(piece, str) else piece
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            await close_parts(pieces)


async def close_parts(parts: Any) -> None:
    """Close an iterator that may not be at its end."""
    close = getattr(parts, "aclose", None)
    if close is not None:
        with contextlib.suppress(RuntimeError):  # it is being closed already
            await close()


async def until_any(work: Any, ended_by: Sequence[Awaitable[Any]]) -> bool:
    """Run `work` until it is done (True), or one of the others is, which cancels it (False)."""
    worker = asyncio.ensure_future(work)
    enders = [asyncio.ensure_future(ender) for ender in ended_by]
    try:
        await asyncio.wait([worker, *enders], return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            worker.result()
            return True
        return False
    finally:
        for task in (worker, *enders):
            task.cancel()
        await asyncio.gather(worker, *enders, return_exceptions=True)
