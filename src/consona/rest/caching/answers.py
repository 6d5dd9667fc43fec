"""The answers that a cache gives: one out of its store, and one of the origin's that it keeps on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from consona.rest.caching.rules import Head
from consona.rest.caching.store import HTTPCache
from consona.rest.transport import Answer, Request

__all__ = ["CacheAnswer", "KeptOnTheWay", "Source", "is_kept"]

Source = Literal["hit", "stale", "revalidated", ""]


class CacheAnswer:
    """An answer that a cache gave.

    Attributes:
        cache: `hit`, `stale` (it was over, and might be given out), `revalidated` (the origin said that it holds),
            empty (there was none, and the request forbade to ask).
        news: The header fields that came from the origin just now; the others were kept.
    """

    from_cache: Final = True
    __slots__ = ("_body", "cache", "headers", "http_version", "news", "status")

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        *,
        cache: Source,
        http_version: str = "1.1",
        news: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status = status
        self.headers = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        self.http_version = http_version
        self.cache = cache
        self.news = news
        self._body = body

    async def chunk(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def close(self) -> None:
        self._body = b""


class KeptOnTheWay:
    """An answer that is kept while the caller reads it. One that does not come whole is not kept."""

    def __init__(self, answer: Answer, cache: HTTPCache, key: str, request: Request, head: Head, began: int) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.http_version = answer.http_version
        self.kept = False
        self._answer = answer
        self._cache = cache
        self._key = key
        self._request = request
        self._head = head
        self._began = began
        self._parts: list[bytes] | None = []
        self._size = 0
        self._ahead: list[bytes] = []
        self._ended = False

    async def read_ahead(self, limit: int) -> None:
        while not self._ended and self._size <= limit:
            self._ahead.append(await self._next())
        self._ahead.reverse()

    async def chunk(self) -> bytes:
        if self._ahead:
            return self._ahead.pop()
        return b"" if self._ended else await self._next()

    async def _next(self) -> bytes:
        data = await self._answer.chunk()
        if data:
            self._size += len(data)
            if self._size > self._cache.max_entry_bytes:
                self._parts = None
            if self._parts is not None:
                self._parts.append(data)
            return data
        self._ended = True
        parts, self._parts = self._parts, None
        if parts is not None:
            self.kept = await self._cache.save(
                self._key,
                self._request.headers,
                self._head,
                b"".join(parts),
                http_version=self.http_version,
                era=self._began,
            )
        return b""

    async def close(self) -> None:
        self._parts, self._ended, self._ahead = None, True, []
        await self._answer.close()


def is_kept(answer: Answer, set_cookie: bytes) -> bool:
    """Whether a `Set-Cookie` of the answer is an old one, out of the store, and not the origin's of now."""
    return isinstance(answer, CacheAnswer) and all(
        text != set_cookie or name.lower() != b"set-cookie" for name, text in answer.news
    )
