"""Conditional requests: "only if it changed" for readers, "only if nobody changed it" for writers.

    @api.get("/posts/{id}", etag=True)                    # 304 where the client has it already
    async def read(id: int) -> Post: ...

    @api.put("/posts/{id}", require_match=True)           # 428 without If-Match
    async def change(id: int, post: NewPost, match: Precondition) -> Post:
        match.check(posts[id])                            # 412 where somebody was faster
        ...

Source: RFC 9110, sections 8.8 (validators) and 13 (conditional requests); RFC 6585, section 3 (428).
"""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import re
from collections.abc import Callable
from typing import Any, Final, Literal

from consona.errors import ConfigurationError
from consona.rest.headers import Headers, vary_on
from consona.rest.server.problems import PreconditionFailed, PreconditionRequired
from consona.rest.server.requests import Request
from consona.rest.server.responses import Encoded, Response, json_encode, msgpack_encode

__all__ = ["NotModified", "Precondition", "demand_match", "entity_tag", "evaluate", "http_date", "tag_answer"]

_TAG: Final = re.compile(r'\s*,*\s*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")\s*(?=,|$)')
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
NOT_OF_THE_BODY: Final = frozenset({b"content-length", b"content-type", b"content-encoding", b"content-range"})
"""What a 304 leaves out of the answer in whose place it stands (RFC 9110, section 15.4.5)."""

Outcome = Literal["go on", "not modified", "failed"]


def entity_tag(value: Any, *, weak: bool = False) -> str:
    """The tag of a value: of bytes and text as they are, of anything else as the server writes it in JSON.

    It is the tag that `etag=True` gives to a handler's answer.

    Example:
        >>> entity_tag({"id": 7}) == entity_tag(b'{"id":7}')
        True
    """
    if isinstance(value, str):
        value = value.encode()
    data = value if isinstance(value, bytes) else json_encode(value)
    return f'{"W/" if weak else ""}"{hashlib.blake2b(data, digest_size=16).hexdigest()}"'


def http_date(moment: dt.datetime | float) -> str:
    """A moment (aware, or seconds since the epoch) as HTTP writes it.

    Example:
        >>> http_date(0)
        'Thu, 01 Jan 1970 00:00:00 GMT'
    """
    seconds = moment.timestamp() if isinstance(moment, dt.datetime) else moment
    return email.utils.formatdate(seconds, usegmt=True)


def evaluate(
    headers: Headers, method: str, *, tags: tuple[str, ...] | None, modified: dt.datetime | float | None = None
) -> Outcome:
    """What the conditions of a request say about the present state.

    Args:
        headers: The request's.
        method: Its method.
        tags: Those of the present state (several where it has several forms); None where it does not exist.
        modified: When it was changed last.

    Source: RFC 9110, section 13.2.2.
    """
    reading = method in {"GET", "HEAD"}
    seconds = modified.timestamp() if isinstance(modified, dt.datetime) else modified
    limit = _moment(headers, "if-unmodified-since")
    if "if-match" in headers:
        if not _matches(headers.all("if-match"), tags, strong=True):
            return "failed"
    elif seconds is not None and limit is not None and int(seconds) > limit:
        return "failed"
    if "if-none-match" in headers:
        if _matches(headers.all("if-none-match"), tags, strong=False):
            return "not modified" if reading else "failed"
    elif reading and seconds is not None and (limit := _moment(headers, "if-modified-since")) is not None:
        return "not modified" if int(seconds) <= limit else "go on"
    return "go on"


def _matches(values: list[str], tags: tuple[str, ...] | None, *, strong: bool) -> bool:
    if tags is None:
        return False
    whole = ",".join(values)
    if whole.strip() == "*":
        return True
    named = _TAG.findall(whole)
    if strong:
        return any(tag in named and not tag.startswith("W/") for tag in tags)
    return not {tag.removeprefix("W/") for tag in tags}.isdisjoint(tag.removeprefix("W/") for tag in named)


def _moment(headers: Headers, name: str) -> float | None:
    value = headers.get(name)
    if value is None:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()


class Precondition:
    """What a request demands of the present state. A handler asks for it by type.

    To check and then write is two steps, and another request may come between them. Do both in one transaction,
    or write by compare-and-set.
    """

    __slots__ = ("_request", "_shown")

    def __init__(self, request: Request, shown: Callable[[Any], Any]) -> None:
        self._request = request
        self._shown = shown
        """Makes a value what a GET on the same path shows of it: that is what the tag was made of."""

    @property
    def given(self) -> bool:
        """Whether the request has any condition for writers."""
        fields = self._request.fields
        return any(name in fields for name in (b"if-match", b"if-none-match", b"if-unmodified-since"))

    def check(self, current: Any, *, modified: dt.datetime | float | None = None) -> None:
        """Go on only if the present state is the one that the client means.

        Args:
            current: What a GET would answer now, or its tag (`'"v7"'`); None where it does not exist (yet).
            modified: When it was changed last (aware, or seconds since the epoch).

        Raises:
            PreconditionFailed: It is another one.
        """
        if (
            evaluate(self._request.headers, self._request.method, tags=self._tags(current), modified=modified)
            != "go on"
        ):
            raise PreconditionFailed(
                "It was changed since you read it." if current is not None else "It does not exist (any more).",
                hint="Read it again, and repeat your change on what it is now.",
            )

    def unmodified(self, current: Any, *, modified: dt.datetime | float | None = None) -> bool:
        """Whether the reader has the present state already: then answer `NotModified(tag)`, and spare the work.

        Raises:
            PreconditionFailed: The request wants an older state and no other.
        """
        outcome = evaluate(self._request.headers, self._request.method, tags=self._tags(current), modified=modified)
        if outcome == "failed":
            raise PreconditionFailed("It is not the state that you ask for.")
        return outcome == "not modified"

    def _tags(self, current: Any) -> tuple[str, ...] | None:
        if current is None:
            return None
        if isinstance(current, str) and _ENTITY_TAG.fullmatch(current):
            return (current,)
        if isinstance(current, str | bytes):
            return (entity_tag(current),)
        # The two forms in which a handler's answer may have been read.
        shown = self._shown(current)
        return entity_tag(shown), entity_tag(msgpack_encode(shown))


class NotModified(Response):
    """304: the client has it already.

    Example:
        >>> NotModified('"v7"').headers["etag"]
        '"v7"'
    """

    __slots__ = ()

    def __init__(self, etag: str = "", *, modified: dt.datetime | float | None = None) -> None:
        super().__init__(status=304)
        if etag:
            if not _ENTITY_TAG.fullmatch(etag):
                raise ConfigurationError(f"{etag!r} is not an entity tag.", hint="Write it with its quotes: '\"v7\"'.")
            self.headers["etag"] = etag
        if modified is not None:
            self.headers["last-modified"] = http_date(modified)


def tag_answer(request: Request, response: Response, *, weak: bool) -> Response:
    """Give a whole answer its tag, and send 304 in its place where the client has it."""
    headers = response.headers
    if response.status != 200 or type(response).__call__ is not Response.__call__:
        return response
    if "etag" not in headers:
        headers["etag"] = entity_tag(response.body, weak=weak)
    if isinstance(response, Encoded):
        vary_on(headers, "accept")  # in another form it has another tag
    modified = _moment(headers, "last-modified")
    outcome = evaluate(request.headers, request.method, tags=(headers["etag"],), modified=modified)
    if outcome == "failed":
        raise PreconditionFailed("It is not the state that you ask for.")
    if outcome == "go on":
        return response
    short = Response(status=304)
    short.raw_headers = [pair for pair in response.raw_headers if pair[0] not in NOT_OF_THE_BODY]
    return short


def demand_match(fields: dict[bytes, bytes]) -> None:
    """Refuse a request that would write over whatever is there.

    Raises:
        PreconditionRequired: It has neither `If-Match` nor `If-Unmodified-Since`.
    """
    if b"if-match" not in fields and b"if-unmodified-since" not in fields:
        raise PreconditionRequired(
            "Say which state you change.", hint="Send If-Match with the ETag that came when you read it."
        )
