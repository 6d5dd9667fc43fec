"""Lists in pages: what a client asks for, and where the next page is.

    @api.get("/posts")
    async def posts(want: ByCursor[int]) -> Page[Post]:
        rows = await db.fetch_all("SELECT * FROM posts WHERE id > ? ORDER BY id LIMIT ?", want.after or 0, want.fetch)
        return want.page(rows, key=lambda post: post.id)

Three styles: `ByCursor` (`?cursor=…&limit=20`) stays right while rows come and go, however far a
client walks; `ByOffset` (`?offset=40&limit=20`) and `ByNumber` (`?page=3&per_page=20`) can jump. In each, the
`Link` header says where the next page is, relative to the request, so that it is right behind any proxy.

Source: RFC 8288 (Web Linking), section 3; RFC 3986, section 5.4 (references that are a query alone).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl, urlencode

import msgspec

from consona.errors import ConfigurationError, ValidationError
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response

__all__ = ["ByCursor", "ByNumber", "ByOffset", "Page", "PageSize", "linked", "maker_of"]

Item = TypeVar("Item")
Key = TypeVar("Key")

FARTHEST: Final = 1_000_000_000
MAX_CURSOR: Final = 1000
Maker = Callable[..., Awaitable[Any]]

_LINKS: Final = "consona.links"
"""In the state of a request: (relation, parameters) of the pages around."""


class Page(msgspec.Struct, Generic[Item], omit_defaults=True):
    """One page of a list. `want.page(rows)` makes it.

    Attributes:
        items: What is on it.
        next_cursor: For `?cursor=`, to get the next page; missing on the last, and where pages are counted.
        total: How many items all pages have together, where that was counted.
    """

    items: list[Item]
    next_cursor: str | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PageSize:
    """How many items a page has: `want: Annotated[ByNumber, PageSize(10, most=50)]`.

    Args:
        default: Where the client does not say.
        most: A client that asks for more is answered with 422.

    Raises:
        ConfigurationError: It is not 1 <= default <= most.
    """

    default: int = 20
    most: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.default <= self.most:
            raise ConfigurationError(f"PageSize({self.default}, most={self.most}) must be 1 <= default <= most.")


class _Counted(ABC):
    """What `ByOffset` and `ByNumber` share."""

    __slots__ = ("_request", "limit", "offset")

    limit: int
    """How many items the page has."""
    offset: int
    """How many items are before it."""

    def __init__(self, request: Request, limit: int, offset: int) -> None:
        self._request = request
        self.limit = limit
        self.offset = offset

    @property
    def fetch(self) -> int:
        """One more than the page has: so that it is seen whether there is another."""
        return self.limit + 1

    def page(self, rows: Sequence[Item], *, total: int | None = None) -> Page[Item]:
        """The page.

        Args:
            rows: Up to `fetch` of them, from `offset` on.
            total: How many there are on all pages together, where that is known.
        """
        items = list(rows[: self.limit])
        end = self.offset + len(items)
        links: dict[str, int] = {"first": 0}
        if self.offset > 0:
            links["prev"] = max(0, self.offset - self.limit)
        if len(rows) > self.limit or (total is not None and items and end < total):
            links["next"] = end
        if total:
            links["last"] = (total - 1) // self.limit * self.limit
        self._request.state[_LINKS] = {relation: self._at(offset) for relation, offset in links.items()}
        return Page(items, total=total)

    @abstractmethod
    def _at(self, offset: int) -> dict[str, Any]:
        """The query's words for the page that begins behind so many items."""


class ByOffset(_Counted):
    """A page by how many items are skipped: `?offset=40&limit=20`."""

    __slots__ = ()

    def _at(self, offset: int) -> dict[str, Any]:
        return {"offset": offset, "limit": self.limit}

    @classmethod
    def maker(cls, _: Any, size: PageSize) -> Maker:
        async def by_offset(request: Request, offset: int = 0, limit: int = size.default) -> Any:
            return cls(request, limit, offset)

        return _bound(by_offset, offset=_number(0, FARTHEST, "How many items to skip."), limit=_limit(size))


class ByNumber(_Counted):
    """A page by its number, from 1 on: `?page=3&per_page=20`."""

    __slots__ = ()

    @property
    def number(self) -> int:
        """The page's."""
        return self.offset // self.limit + 1

    def _at(self, offset: int) -> dict[str, Any]:
        return {"page": offset // self.limit + 1, "per_page": self.limit}

    @classmethod
    def maker(cls, _: Any, size: PageSize) -> Maker:
        async def by_number(request: Request, page: int = 1, per_page: int = size.default) -> Any:
            return cls(request, per_page, (page - 1) * per_page)

        return _bound(by_number, page=_number(1, FARTHEST, "Which page."), per_page=_limit(size))


class ByCursor(Generic[Key]):
    """A page by what was last on the page before: `?cursor=…&limit=20`.

    `ByCursor[int]`, `ByCursor[tuple[datetime, int]]`: the type of the key that the list is ordered by. It must
    be of one item alone, and so be extended by an id where it is not.

    A cursor is opaque to clients, and checked: one that was made up, or given by another list or with other
    filters, is answered with 422. It hides nothing: whoever decodes it sees the key.
    """

    __slots__ = ("_request", "after", "limit")

    after: Key | None
    """The key of the last item before this page; None for the first page."""
    limit: int
    """How many items the page has."""

    def __init__(self, request: Request, limit: int, after: Key | None) -> None:
        self._request = request
        self.limit = limit
        self.after = after

    @property
    def fetch(self) -> int:
        """One more than the page has: so that it is seen whether there is another."""
        return self.limit + 1

    def page(self, rows: Sequence[Item], *, key: Callable[[Item], Key], total: int | None = None) -> Page[Item]:
        """The page.

        Args:
            rows: Up to `fetch` of them, behind `after`, in the order of their keys.
            key: Of an item.
            total: How many there are on all pages together, where that is known.
        """
        items = list(rows[: self.limit])
        links: dict[str, dict[str, Any]] = {"first": {"limit": self.limit}}
        following = None
        if len(rows) > self.limit:
            data = msgspec.msgpack.encode((_list_of(self._request), key(items[-1])))
            following = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
            links["next"] = {"cursor": following, "limit": self.limit}
        self._request.state[_LINKS] = links
        return Page(items, next_cursor=following, total=total)

    @classmethod
    def maker(cls, key: Any, size: PageSize) -> Maker:
        if key is None or isinstance(key, TypeVar):
            raise ConfigurationError(
                "ByCursor needs the type of its key.", hint="Write ByCursor[int], or ByCursor[tuple[datetime, int]]."
            )
        decode = msgspec.msgpack.Decoder(tuple[bytes, key]).decode

        async def by_cursor(request: Request, cursor: str | None = None, limit: int = size.default) -> Any:
            return cls(request, limit, _key_in(cursor, decode, _list_of(request)) if cursor is not None else None)

        text = Annotated[
            str | None, msgspec.Meta(max_length=MAX_CURSOR, description="The next_cursor of the page before.")
        ]
        return _bound(by_cursor, cursor=text, limit=_limit(size))


def _key_in(cursor: str, decode: Callable[[bytes], Any], this_list: bytes) -> Any:
    try:
        made_for, key = decode(base64.b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}", b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        made_for, key = b"", None
    if made_for != this_list:
        raise ValidationError(
            "The cursor is not one of this list's.",
            hint="Begin without a cursor, and take each next one as it comes.",
            fields=[("query.cursor", "is not one that this list gave")],
        )
    return key


def _list_of(request: Request) -> bytes:
    """What tells one list from another: its route and path, and what it is filtered by."""
    query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    filters = sorted(pair for pair in query if pair[0] not in {"cursor", "limit"})
    data = msgspec.msgpack.encode((request.route.path, list(request.segments), filters))
    return hashlib.blake2b(data, digest_size=6).digest()


def _number(least: int, most: int, words: str) -> Any:
    return Annotated[int, msgspec.Meta(ge=least, le=most, description=words)]


def _limit(size: PageSize) -> Any:
    return _number(1, size.most, "How many items a page has.")


def _bound(function: Maker, **types: Any) -> Maker:
    """The function with the types that its parameters have here: they depend on the page's size."""
    function.__annotations__ = {**function.__annotations__, **types}
    return function


def maker_of(wanted: Any, extras: Sequence[Any]) -> Maker | None:
    """The provider function for a parameter of one of the three styles; None for any other type.

    Raises:
        ConfigurationError: It is a `ByCursor` without its key's type.
    """
    kind = get_origin(wanted) or wanted
    if kind not in {ByCursor, ByOffset, ByNumber}:
        return None
    size = next((extra for extra in extras if isinstance(extra, PageSize)), PageSize())
    maker: Maker = kind.maker(next(iter(get_args(wanted)), None), size)
    return maker


def linked(respond: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """`respond`, with a `Link` header that says where the pages around are."""

    async def respond_with_links(request: Request) -> Response:
        response = await respond(request)
        links: dict[str, dict[str, Any]] = request.state.get(_LINKS, {})
        if links and response.status < 300:
            query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
            for relation, parameters in links.items():
                kept = [pair for pair in query if pair[0] not in {"cursor", *parameters}]
                target = urlencode([*kept, *parameters.items()])
                response.headers.add("link", f'<?{target}>; rel="{relation}"')
        return response

    return respond_with_links
