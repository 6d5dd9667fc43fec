"""Compresses answers for clients that ask for it.

    api.middleware(Compression())

Whole answers and streams alike: of a stream each piece is compressed and sent at once, so that events are
not held back. An answer that is coded already, a part of a file (206), and what does not get smaller (images,
archives) is left as it is.

A compressed answer is not the same bytes, so a strong `ETag` becomes a weak one with the coding's name in it
(`W/"abc-gzip"`). Where the client brings it back, the handler sees the one that it gave.

Source: RFC 9110, sections 8.4, 8.8.3.3 and 12.5.3.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from consona.errors import ConfigurationError
from consona.rest.headers import Headers, vary_on
from consona.rest.server.content_coding import CODINGS, Coder, best_coding
from consona.rest.server.middleware import CallNext
from consona.rest.server.requests import Request
from consona.rest.server.responses import WITHOUT_BODY, Message, Response, Send

__all__ = ["Compression"]

_COMPRESSIBLE: Final = re.compile(
    r"(text/.*|.*\+(json|xml|text)|font/(ttf|otf)|image/(bmp|x-icon|vnd\.microsoft\.icon)"
    r"|application/(json|xml|javascript|ecmascript|x-javascript|msgpack|x-msgpack|vnd\.msgpack|x-ndjson|jsonl"
    r"|yaml|x-yaml|toml|sql|wasm|rtf|graphql|x-sh|xhtml\+xml|vnd\.ms-fontobject|manifest\+json))"
)
IN_THREAD: Final = 32 * 1024
"""Bytes from which compressing takes so long (half a millisecond) that it is done beside the event loop."""
_OURS: Final = re.compile(r'W/"([^"]*)-(' + "|".join(CODINGS) + r')"')


class Compression:
    """A middleware that compresses answers.

    Args:
        minimum: Bytes; shorter answers would hardly become smaller.
        codings: Names of `zstd`, `br` and `gzip`, the best first; by default all that are installed.

    Raises:
        ConfigurationError: A coding is unknown, or its package is not installed.

    Do not use it for answers that hold a secret beside something that a stranger chose, such as a page with
    a token and a search word: the length tells whether they are alike (the BREACH attack). Such an answer
    says `Cache-Control: no-transform`, and is left as it is.

    Example:
        >>> Compression(codings=["gzip"]).codings
        ('gzip',)
    """

    def __init__(self, *, minimum: int = 500, codings: list[str] | tuple[str, ...] | None = None) -> None:
        if minimum < 0:
            raise ConfigurationError(f"Compression(minimum={minimum}) must not be negative.")
        self.minimum = minimum
        self.codings = tuple(CODINGS) if codings is None else tuple(codings)
        for name in self.codings:
            if name not in CODINGS:
                extra = {"br": "brotli", "zstd": "zstd"}.get(name)
                raise ConfigurationError(
                    f"Compression(codings=…): {name!r} is not here.",
                    hint=f"Install it: pip install 'consona[{extra}]'." if extra else f"Use {', '.join(CODINGS)}.",
                )

    async def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Compress the answer, where that is wanted and worth it."""
        tags = _restore_tags(request)
        response = await call_next(request)
        headers = response.headers
        if response.status == 304:
            self._not_modified(headers, tags)
            return response
        if not self._can(response, headers):
            return response
        vary_on(headers, "accept-encoding")
        name = best_coding(", ".join(request.headers.all("accept-encoding")), self.codings)
        if name is None:
            return response
        coder = CODINGS[name]()
        if type(response).__call__ is not Response.__call__:
            compressed: Response = _CompressedStream(response, coder)
        else:
            call = partial(coder.last, response.body)
            body = await request.serving.threads.run(call) if len(response.body) >= IN_THREAD else call()
            compressed = _copy(response, body)
        _mark(compressed.headers, name)
        return compressed

    def _can(self, response: Response, headers: Headers) -> bool:
        if response.status in WITHOUT_BODY or response.status == 206 or "content-encoding" in headers:
            return False
        if not _COMPRESSIBLE.fullmatch(headers.get("content-type", "").partition(";")[0].strip().lower()):
            return False
        if "no-transform" in headers.get("cache-control", "").lower() or "content-range" in headers:
            return False
        if type(response).__call__ is Response.__call__:
            return len(response.body) >= self.minimum
        length = headers.get("content-length", "")
        return not length.isdigit() or int(length) >= self.minimum

    def _not_modified(self, headers: Headers, tags: dict[str, str]) -> None:
        vary_on(headers, "accept-encoding")
        known = tags.get(headers.get("etag", ""))
        if known is not None:
            headers["etag"] = known


def _copy(response: Response, body: bytes) -> Response:
    """The same answer with another body; the handler's own may be one that it gives to everybody."""
    copy = Response(body, status=response.status)
    copy.raw_headers = list(response.raw_headers)
    return copy


def _mark(headers: Headers, name: str) -> None:
    headers["content-encoding"] = name
    for gone in ("content-length", "accept-ranges", "content-md5", "content-digest"):
        headers.pop(gone, None)
    tag = headers.get("etag", "")
    if tag.startswith('"') and tag.endswith('"'):
        headers["etag"] = f'W/{tag[:-1]}-{name}"'


def _restore_tags(request: Request) -> dict[str, str]:
    """Put the handler's tags in the place of ours in a conditional request. Gives ours by theirs."""
    tags: dict[str, str] = {}
    for name in ("if-none-match", "if-match"):
        if name.encode() in request.fields:
            value = ", ".join(request.headers.all(name))
            tags |= {f'"{found[1]}"': found[0] for found in _OURS.finditer(value)}
            if tags:
                request.headers[name] = _OURS.sub(r'"\1"', value)
    return tags


class _CompressedStream(Response):
    """Another answer, compressed while it is sent."""

    __slots__ = ("_coder", "_inner")

    def __init__(self, inner: Response, coder: Coder) -> None:
        self.status = inner.status
        self.body = b""
        self.raw_headers = inner.raw_headers  # the same list: what is changed here is sent there
        self._inner = inner
        self._coder = coder

    async def __call__(self, request: Request, send: Send) -> None:
        coder = self._coder
        run = request.serving.threads.run
        self._inner.status = self.status

        async def compress(message: Message) -> None:
            if message["type"] != "http.response.body" or not request.wants_body:
                await send(message)
                return
            data = message.get("body", b"")
            more = message.get("more_body", False)
            if more and not data:
                return
            call = partial(coder.piece if more else coder.last, data)
            coded = await run(call) if len(data) >= IN_THREAD else call()
            await send({"type": "http.response.body", "body": coded, "more_body": more})

        await self._inner(request, compress)
