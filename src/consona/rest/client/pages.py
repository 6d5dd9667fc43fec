"""How a list that comes in pages is walked: by `Link` header, cursor, page number or offset.

    async for post in api.pages("/posts", into=Post): ...                                   # Link header
    async for post in api.pages("/posts", into=Post, style=CursorPages(items="data")): ...

The `Link` style needs no more than the header. The others differ from server to server, so they are stated.
A style only says what the first request is and, from an answer, what the next one is; so a style of your own
is a class with these two methods.

Source: RFC 8288 (Web Linking).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from consona.rest.client.errors import BadAnswer, TooManyRedirects
from consona.rest.client.response import Response, decode, links
from consona.telemetry.redaction import DEFAULT as REDACTION

__all__ = ["CursorPages", "LinkPages", "OffsetPages", "Page", "PageNumbers", "PageStyle"]

Extra = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One page, as a style sees it."""

    response: Response
    number: int
    """1 for the first."""
    count: int
    """How many items it has."""
    members: dict[str, msgspec.Raw]
    """The members of the answer, where it is an object; each still as JSON."""
    seen: int
    """How many items came until now, with these."""

    def member(self, path: str) -> Any:
        """A value in the answer by its dotted path (`meta.next_cursor`); None where there is none."""
        first, *rest = path.split(".")
        value = msgspec.json.decode(self.members[first]) if first in self.members else None
        for name in rest:
            value = value.get(name) if isinstance(value, dict) else None
        return value


class PageStyle(Protocol):
    """How one server cuts its lists into pages."""

    @property
    def items(self) -> str:
        """The member of the answer that holds the items; empty where the answer is the list itself."""
        ...

    def first(self) -> Extra:
        """Parameters for the first page."""
        ...

    def next(self, page: Page) -> str | Extra | None:
        """The next page: a link, or parameters that replace those of the same name; None after the last."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPages:
    """The next page is the `Link` header with `rel="next"` (GitHub and many others)."""

    items: str = ""

    def first(self) -> Extra:
        return {}

    def next(self, page: Page) -> str | Extra | None:
        return next((target for relation, target in links(page.response.headers) if relation == "next"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorPages:
    """Each answer holds what to ask for next: a cursor for the parameter `param`, or the whole next URL."""

    items: str = "items"
    field: str = "next_cursor"
    """Where the answer has it, as a dotted path."""
    param: str = "cursor"
    size: int | None = None
    size_param: str = "limit"

    def first(self) -> Extra:
        return {} if self.size is None else {self.size_param: self.size}

    def next(self, page: Page) -> str | Extra | None:
        cursor = page.member(self.field)
        if cursor is None or cursor is False or cursor == "":
            return None
        if isinstance(cursor, str) and cursor.startswith(("http://", "https://", "/")):
            return cursor
        return {self.param: cursor}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageNumbers:
    """Pages are numbered. The last is one with fewer than `size` items, or with none."""

    items: str = ""
    param: str = "page"
    start: int = 1
    size: int | None = None
    size_param: str = "per_page"

    def first(self) -> Extra:
        return {self.param: self.start} | ({} if self.size is None else {self.size_param: self.size})

    def next(self, page: Page) -> str | Extra | None:
        if not page.count or (self.size is not None and page.count < self.size):
            return None
        return {self.param: self.start + page.number}


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetPages:
    """Each request says how many items to skip. The last page is one with fewer than `limit` items, or with none."""

    items: str = ""
    param: str = "offset"
    limit: int = 100
    limit_param: str = "limit"

    def first(self) -> Extra:
        return {self.param: 0, self.limit_param: self.limit}

    def next(self, page: Page) -> str | Extra | None:
        return {self.param: page.seen} if page.count and page.count >= self.limit else None


async def walk(
    ask: Callable[[str | Extra], Awaitable[Response]], style: PageStyle, into: Any, *, max_pages: int
) -> AsyncIterator[Any]:
    """Every item of every page, one page ahead of none: the next is asked for when the last item was taken.

    `ask` gets the parameters of the first page, then what the style says.
    """
    params = style.first()
    wanted: str | Extra | None = params
    seen = number = 0
    while wanted is not None:
        if number >= max_pages:
            raise TooManyRedirects(
                f"There are more than {max_pages:,} pages.",
                hint="The server leads in circles; else raise `max_pages`.",
            )
        response = await ask(wanted)
        items, members = _items(response, style.items, into)
        number += 1
        seen += len(items)
        for item in items:
            yield item
        following = style.next(Page(response, number, len(items), members, seen))
        if isinstance(following, dict):
            params = following = {**params, **following}
        if following == wanted:
            raise TooManyRedirects(
                f"The page after {REDACTION.url(response.url)} is that page itself.",
                hint="The server leads in circles: report it there.",
            )
        wanted = following


def _items(response: Response, name: str, into: Any) -> tuple[Sequence[Any], dict[str, msgspec.Raw]]:
    content = response.content
    if content.lstrip()[:1] == b"[":
        return decode(content, list[into], response), {}
    if not content:  # 204: an empty page
        return [], {}
    members: dict[str, msgspec.Raw] = decode(content, dict[str, msgspec.Raw], response)
    if name not in members:
        lists = ", ".join(sorted(key for key, raw in members.items() if bytes(raw).lstrip()[:1] == b"[")) or "none"
        wanted = f"has no member {name!r}" if name else "is an object, not a list"
        raise BadAnswer(
            f"The page from {REDACTION.url(response.url)} {wanted}.",
            hint=f"Say which member holds the items, for example LinkPages(items='data'). Lists in it: {lists}.",
        )
    return decode(bytes(members[name]), list[into], response), members
