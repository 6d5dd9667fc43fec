"""What a client gets back: whole (`Response`), or piece by piece (`ResponseStream`)."""

from __future__ import annotations

import codecs
import functools
import itertools
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, TypeVar, overload

import msgspec

from consona.errors import APIError
from consona.rest.client.content_decoding import Decoder
from consona.rest.client.errors import AnswerTooLarge, BadAnswer, InvalidAnswer
from consona.rest.client.safe_retry import retry_after
from consona.rest.headers import Headers
from consona.rest.status import title_of
from consona.rest.transport import Answer
from consona.telemetry.redaction import DEFAULT as REDACTION
from consona.validation import wrong_fields

__all__ = ["Response", "ResponseStream"]

T = TypeVar("T")

MAX_LINE_BYTES: Final = 1 << 20
MAX_FIELDS: Final = 100
PROBLEM_TYPES: Final = ("application/problem+json", "application/json")

_CHARSET = re.compile(r"""(?i)charset\s*=\s*["']?([\w.:-]+)""")


class Response:
    """A whole answer.

    Attributes:
        status: 100 to 599.
        content: The body as bytes, decompressed.
        url: Where the answer came from, after redirects.
        method: With which method (a redirect may have made a GET of it).
        elapsed: Seconds that the call took, all tries and waits included.
        attempts: How many requests it took: 1 where the first was answered at once, 0 where the cache answered.
        cache: `hit`, `stale` or `revalidated` where the client's cache gave it, else empty.
        http_version: `1.1`
    """

    __slots__ = ("attempts", "cache", "content", "elapsed", "http_version", "method", "raw_headers", "status", "url")

    def __init__(
        self,
        status: int,
        raw_headers: Sequence[tuple[bytes, bytes]],
        content: bytes = b"",
        *,
        method: str = "GET",
        url: str = "",
        http_version: str = "1.1",
        attempts: int = 1,
        elapsed: float = 0.0,
        cache: str = "",
    ) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.content = content
        self.method = method
        self.url = url
        self.http_version = http_version
        self.attempts = attempts
        self.elapsed = elapsed
        self.cache = cache

    @property
    def from_cache(self) -> bool:
        """Whether the body came from the client's cache."""
        return bool(self.cache)

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400

    @property
    def headers(self) -> Headers:
        """The headers, names in any case: `response.headers["content-type"]`, `.all("link")`."""
        return Headers([(name.lower(), value) for name, value in self.raw_headers])

    @property
    def content_type(self) -> str:
        """The media type in small letters, without its parameters; empty where none is given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def text(self) -> str:
        """The body as text, by the charset that the answer names (UTF-8 where none), bad bytes replaced."""
        return self.content.decode(charset_of(self.headers.get("content-type", "")), "replace")

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, *, into: type[T]) -> T: ...
    def json(self, *, into: Any = Any) -> Any:
        """The body, decoded from JSON, and validated where a type is given.

        Raises:
            BadAnswer: It is no JSON.
            InvalidAnswer: It does not fit the type; `fields` says where.

        Example:
            >>> Response(200, [], b'{"name": "Ada", "age": 36}').json(into=dict[str, str | int])
            {'name': 'Ada', 'age': 36}
        """
        return decode(self.content, into, self)

    def __repr__(self) -> str:
        return f"<Response {self.status} to {self.method} {REDACTION.url(self.url)}, {len(self.content)} bytes>"


class ResponseStream:
    """An answer whose body is read as it is asked for, so its length is bounded by nothing but patience.

    Attributes:
        status, url, method, attempts, http_version, cache: As in `Response`.
        elapsed: Seconds until the head of the answer.
    """

    def __init__(self, head: Response, answer: Answer, decoder: Decoder | None) -> None:
        self.status = head.status
        self.headers = head.headers
        self.url = head.url
        self.method = head.method
        self.attempts = head.attempts
        self.elapsed = head.elapsed
        self.http_version = head.http_version
        self.cache = head.cache
        self.bytes_read = 0
        """How many decompressed bytes have been given out."""
        self._answer = answer
        self._decoder = decoder

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces of at most some 64 KiB. The server is not read faster than this is.

        Raises:
            ConnectionLost, BadAnswer, DeadlineExceeded: The body did not come whole.
        """
        async for piece in decoded(self._answer, self._decoder):
            self.bytes_read += len(piece)
            yield piece

    async def lines(self) -> AsyncIterator[str]:
        """The body line by line, without their ends, as text by the charset that the answer names.

        Raises:
            AnswerTooLarge: A line is longer than 1 MiB.
        """
        decoder = codecs.getincrementaldecoder(charset_of(self.headers.get("content-type", "")))("replace")
        rest = ""
        async for piece in self.chunks():
            *whole, rest = (rest + decoder.decode(piece)).split("\n")
            for line in whole:
                yield line.removesuffix("\r")
            if len(rest) > MAX_LINE_BYTES:
                raise AnswerTooLarge(f"A line of the answer is longer than {MAX_LINE_BYTES:,} characters.")
        rest += decoder.decode(b"", final=True)
        if rest:
            yield rest

    def __repr__(self) -> str:
        return f"<ResponseStream {self.status} to {self.method} {REDACTION.url(self.url)}>"


async def decoded(answer: Answer, decoder: Decoder | None) -> AsyncIterator[bytes]:
    while chunk := await answer.chunk():
        if decoder is None:
            yield chunk
        else:
            for piece in decoder.pieces(chunk):
                yield piece
    if decoder is not None:
        decoder.finish()


async def read_whole(answer: Answer, decoder: Decoder | None, limit: int) -> bytes:
    """The whole body, decompressed.

    Raises:
        AnswerTooLarge: It is longer than `limit` bytes.
    """
    first = await answer.chunk()
    if not first:
        return b""
    second = await answer.chunk()
    if not second and decoder is None and len(first) <= limit:  # by far the most
        return first
    parts: list[bytes] = []
    size = 0
    chunk, following = first, second
    while chunk:
        for piece in decoder.pieces(chunk) if decoder is not None else (chunk,):
            size += len(piece)
            if size > limit:
                raise AnswerTooLarge(f"The answer is longer than {limit:,} bytes.", limit=limit)
            parts.append(piece)
        chunk, following = following, await answer.chunk() if following else b""
    if decoder is not None:
        decoder.finish()
    return b"".join(parts)


@functools.lru_cache(maxsize=512)
def _decoder(into: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(into)


def decode(content: bytes, into: Any, response: Response) -> Any:
    """JSON into a type; the errors name the request, never a value."""
    try:
        decoder = _decoder(into)
    except TypeError:  # a type that cannot be hashed, or that msgspec does not know
        decoder = msgspec.json.Decoder(into)
    try:
        try:
            return decoder.decode(content) if content else msgspec.convert(None, into)
        except msgspec.ValidationError as error:
            if not content:
                what = f"{response.method} {REDACTION.url(response.url)}"
                raise BadAnswer(f"{what} answered {response.status} without a body.") from None
            raise _invalid(msgspec.json.decode(content), into, response) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = response.content_type or "no content type"
        raise BadAnswer(
            f"{response.method} {REDACTION.url(response.url)} answered {response.status} with {len(content):,} bytes "
            f"({kind}) that are no JSON."
        ) from error


def _invalid(data: Any, into: Any, response: Response) -> InvalidAnswer:
    fields = list(itertools.islice(wrong_fields(data, into, "body"), MAX_FIELDS))
    shown = "; ".join(f"{field.path} {field.message}" for field in fields[:3])
    return InvalidAnswer(
        f"The answer to {response.method} {REDACTION.url(response.url)} is no {getattr(into, '__name__', into)}: "
        f"{shown}.",
        fields=fields,
    )


@functools.lru_cache(maxsize=64)
def charset_of(content_type: str) -> str:
    found = _CHARSET.search(content_type)
    try:
        return codecs.lookup(found[1]).name if found and codecs.lookup(found[1])._is_text_encoding else "utf-8"
    except LookupError:
        return "utf-8"


HINTS: Final = {
    400: "The server did not understand the request: see `error.problem` and `error.response.text`.",
    401: "Give valid credentials: `auth=`.",
    403: "The credentials are known, and not allowed to do this.",
    404: "Check the path, and that what it names exists.",
    422: "The server names the wrong fields in `error.problem`.",
    429: "Send less: Policy(rate=…) keeps within the server's limit.",
}


def api_error(response: Response, *, retryable: bool) -> APIError:
    """The error for an answer of status 400 and above."""
    status = response.status
    problem: dict[str, Any] = {}
    if response.content_type in PROBLEM_TYPES and len(response.content) <= 1 << 20:
        try:
            found = _decoder(Any).decode(response.content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = None
        if isinstance(found, dict) and (response.content_type == PROBLEM_TYPES[0] or "title" in found):
            problem = found
    title = problem.get("title")
    words = title if isinstance(title, str) and title.isprintable() and len(title) <= 200 else title_of(status)
    return APIError(
        f"{response.method} {REDACTION.url(response.url)} answered {status} {words}.",
        status=status,
        response=response,
        problem=problem,
        hint=HINTS.get(status, ""),
        retryable=retryable,
        retry_after=retry_after(response.headers.get("retry-after")),
        attempts=response.attempts,
    )


def links(headers: Headers) -> Iterator[tuple[str, str]]:
    """The (relation, target) pairs of all `Link` headers (RFC 8288)."""
    for header in headers.all("link"):
        for found in _LINK.finditer(header):
            for name, quoted, plain in _LINK_PARAMETER.findall(found[2]):
                if name.lower() == "rel":
                    for relation in (quoted or plain).lower().split():
                        yield relation, found[1].strip()
                    break  # the first counts, further ones are to be ignored


_LINK = re.compile(r"""<([^>]*)>((?:\s*;\s*[\w!#$&+.^`|~*-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)""")
_LINK_PARAMETER = re.compile(r"""([\w!#$&+.^`|~*-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?""")
