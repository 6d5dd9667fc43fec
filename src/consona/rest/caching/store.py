"""Where an HTTP cache keeps its answers: a `Store`, bounded in bytes, that is never allowed to do harm.

The least recently used answers give way when the bound is passed. The use is noted in memory alone: after a start,
and for what other processes keep in the same file, the time of the last exchange with the origin stands for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final, ParamSpec, TypeVar
from uuid import uuid4

import msgspec

from consona.address import Address
from consona.errors import ConfigurationError, ConsonaError
from consona.rest.caching.entry import INLINE_BYTES, PIECE_BYTES, Kept, pack, select, unpack
from consona.rest.caching.fields import Pairs
from consona.rest.caching.rules import CacheRules, Head, freshened, vary_key
from consona.storage.store import Store, open_store

__all__ = ["CacheCounts", "HTTPCache"]

D = TypeVar("D")
P = ParamSpec("P")
T = TypeVar("T")

_log: Final = logging.getLogger("consona.rest.cache")

MAX_KEEP_S: Final = 366 * 86_400.0
STORE_TIMEOUT_S: Final = 2.0
"""A store that takes longer is one that fails."""
PAUSE_S: Final = 5.0
"""For so long a store that failed is left alone."""
MAX_FORGOTTEN: Final = 10_000
ALL: Final = "all"


class _Outcome(Enum):
    FAILED = "failed"


@dataclass(slots=True)
class CacheCounts:
    """What a cache did since it was made."""

    hits: int = 0
    """Answered from the store while fresh."""
    stale: int = 0
    """Answered from the store with what was over, as origin or request allow."""
    revalidated: int = 0
    """Answered from the store after the origin said that it still holds."""
    misses: int = 0
    """Answered by the origin (reads that might have been kept)."""
    waited: int = 0
    """Waited for somebody else's request of the same URL."""
    stored: int = 0
    evicted: int = 0
    invalidated: int = 0
    """URLs that were forgotten because a request may have changed them."""
    corrupt: int = 0
    """Records that could not be read."""
    store_failures: int = 0
    background: int = 0
    """Revalidations in the background, begun."""
    background_failed: int = 0
    bytes_served: int = 0
    """Bytes of bodies that did not have to come from the origin."""


class HTTPCache:
    """A cache of HTTP answers. Give it to one client or several: `APIClient(..., cache=HTTPCache(...))`.

    A private cache (the default) keeps the answers for each set of credentials apart, and keeps what is `private`.
    A shared one serves all alike and keeps only what may be given to everybody.

    Args:
        url: Where: `memory://`, `sqlite:///http-cache.db`. Several processes may share a file.
        max_bytes: So much is kept in all; each process may pass it by an eighth before it notices.
        max_entry_bytes: Longer bodies are not kept; by default a quarter of `max_bytes`.
        shared: Whether it serves several users (RFC 9111, section 1).
        heuristic: Whether an answer that does not say how long it is fresh is taken for fresh for a tenth of the
            time since its `Last-Modified`, at most a day. Off: such answers are asked about each time.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: A number is out of range, or the address is none of a store.

    Example:
        >>> HTTPCache("memory://", max_bytes=1_000_000).max_entry_bytes
        250000

    Source: RFC 9111.
    """

    def __init__(
        self,
        url: str | Address = "memory://",
        *,
        max_bytes: int = 64 * 1024 * 1024,
        max_entry_bytes: int | None = None,
        shared: bool = False,
        heuristic: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_bytes < 1 or (max_entry_bytes is not None and not 0 < max_entry_bytes <= max_bytes):
            raise ConfigurationError(
                f"HTTPCache(max_bytes={max_bytes}, max_entry_bytes={max_entry_bytes}): at least 1 byte, and an entry "
                "is no longer than the whole."
            )
        self.rules = CacheRules(shared=shared, heuristic=heuristic)
        self.max_bytes = max_bytes
        self.max_entry_bytes = max_entry_bytes or max(1, max_bytes // 4)
        self.clock = clock
        self.counts = CacheCounts()
        self.store: Store = open_store(url, name="http-cache", prefix="http-cache/", clock=clock)
        self._users = 0
        self._open = False
        self._turn = asyncio.Lock()
        self._resume_at = float("-inf")
        self._used: OrderedDict[str, int] = OrderedDict()  # key of a record -> bytes, least recently used first
        self._bytes = 0
        self._unseen = 0
        self._era = self._era_floor = 0
        self._forgotten: OrderedDict[str, int] = OrderedDict()
        self._to_forget: set[str] = set()

    async def open(self) -> None:
        """Open the store. One that fails for now is tried again later; the requests go to the origin meanwhile.

        Raises:
            ConfigurationError: The store can never be opened so.
        """
        self._users += 1
        try:
            await self._ready()
        except ConfigurationError:
            self._users -= 1
            raise
        except ConsonaError:
            self.counts.store_failures += 1
        if await self._look_over():
            await self._make_room()

    async def close(self) -> None:
        self._users -= 1
        if not self._users and self._open:
            self._open = False
            await self.store.stop()

    def detail(self) -> dict[str, Any]:
        """What it did and holds, for `stats.detail`."""
        return {**asdict(self.counts), "entries": len(self._used), "bytes": self._bytes, "max_bytes": self.max_bytes}

    def count(self, source: str, size: int) -> None:
        counts = self.counts
        if source == "hit":
            counts.hits += 1
        elif source == "stale":
            counts.stale += 1
        else:
            counts.revalidated += 1
        counts.bytes_served += size

    # Keys, and the order of reads and invalidations.

    def key(self, url: str, partition: str) -> str:
        """Where the answers to a URL lie. The URL cannot be read from it: it may hold secrets."""
        return f"entry/{_digest(url)}/{partition}"

    @property
    def era(self) -> int:
        """Note it before a request: what was asked before an invalidation of its URL is not kept after it."""
        return self._era

    def _is_over(self, key: str, era: int) -> bool:
        return era < self._era_floor or self._forgotten.get(_digest_in(key), -1) > era

    # Reading.

    async def find(self, key: str, request: Pairs) -> Kept | None:
        """The kept answer that this request selects."""
        for doubtful in self._to_forget & {_digest_in(key), ALL}:
            if not await self._forget(doubtful):
                return None
        item = await self._try(_Outcome.FAILED, self.store.get, key)
        if item is None or item is _Outcome.FAILED:
            if item is None:
                self._account(key, 0)
            return None
        kept = unpack(item.value)
        if kept is None:
            await self._corrupt(key)
            return None
        self._account(key, _size(item.value, kept))
        return select(kept, request)

    async def body(self, key: str, kept: Kept) -> bytes | None:
        """Its body; None where it is not there, or damaged."""
        body = kept.inline
        if kept.body:
            items = [await self._try(None, self.store.get, piece) for piece in kept.pieces]
            if None in items and not self._usable:
                return None
            body = b"".join(item.value for item in items if item is not None)
        if kept.fits(body):
            return body
        await self._corrupt(key)
        return None

    async def _corrupt(self, key: str) -> None:
        self.counts.corrupt += 1
        await self._remove(key)

    # Writing.

    async def save(self, key: str, request: Pairs, head: Head, body: bytes, *, http_version: str, era: int) -> bool:
        """Keep an answer. Returns whether it lies there now."""
        if len(body) > self.max_entry_bytes or self._is_over(key, era):
            return False
        long = len(body) > INLINE_BYTES
        kept = Kept(
            status=head.status,
            headers=self.rules.stored_headers(head.headers),
            http_version=http_version,
            request_time=head.request_time,
            response_time=head.response_time,
            vary=vary_key(head.headers, request),
            size=len(body),
            checksum=zlib.crc32(body),
            inline=b"" if long else body,
            body=f"body/{uuid4().hex}" if long else "",
        )
        ttl = self._keep_for(kept)
        for number, piece in enumerate(kept.pieces):
            part = body[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
            if await self._try(None, self.store.put, piece, part, ttl=ttl) is None:
                return False
        if not await self._change(key, lambda old: [kept, *(one for one in old if one.vary != kept.vary)], ttl):
            return False
        if self._is_over(key, era):  # invalidated meanwhile
            await self._remove(key)
            return False
        self.counts.stored += 1
        return True

    async def freshen(self, key: str, kept: Kept, headers: Pairs, asked: float) -> Kept:
        """Bring a kept answer up to date with the head of one that confirmed it."""
        fresh = msgspec.structs.replace(
            kept,
            headers=self.rules.stored_headers(freshened(kept.headers, headers)),
            request_time=asked,
            response_time=self.clock(),
        )
        await self._change(key, lambda old: [fresh if one == kept else one for one in old], self._keep_for(fresh))
        return fresh

    async def drop(self, key: str, kept: Kept) -> None:
        """Forget one answer."""
        await self._change(key, lambda old: [one for one in old if one != kept], self._keep_for(kept))

    async def forget(self, url: str) -> None:
        """Forget every answer to a URL, for whomever it was."""
        digest = _digest(url)
        self._era += 1
        self._forgotten[digest] = self._era
        self._forgotten.move_to_end(digest)
        if len(self._forgotten) > MAX_FORGOTTEN:
            _, self._era_floor = self._forgotten.popitem(last=False)
        self.counts.invalidated += 1
        await self._forget(digest)

    async def _forget(self, digest: str) -> bool:
        """Until the store has done it, nothing of that URL is given out."""
        self._to_forget.add(digest)
        if len(self._to_forget) > MAX_FORGOTTEN:
            self._to_forget, digest = {ALL}, ALL
        found = await self._try(None, self._scanned, f"entry/{digest}/" if digest is not ALL else "entry/")
        if found is None:
            return False
        for key, _, _ in found:
            if not await self._remove(key):
                return False
        self._to_forget.discard(digest)
        return True

    async def _change(self, key: str, change: Callable[[list[Kept]], Sequence[Kept]], ttl: float) -> bool:
        """Change a record, however many do so at once, and delete the bodies that it no longer names."""
        before: list[Kept] = []
        after: Sequence[Kept] = ()
        size = 0

        def apply(old: bytes | None) -> bytes | None:
            nonlocal before, after, size
            before = (unpack(old) if old is not None else None) or []
            record, after = pack(change(before))
            size = _size(record, after) if after else 0
            return record if after else None

        if await self._try(_Outcome.FAILED, self.store.update, key, apply, ttl=ttl) is _Outcome.FAILED:
            return False
        self._account(key, size)
        self._unseen += size
        named = {one.body for one in after}
        await self._delete([piece for one in before if one.body not in named for piece in one.pieces])
        await self._make_room()
        return True

    async def _remove(self, key: str) -> bool:
        item = await self._try(_Outcome.FAILED, self.store.get, key)
        if item is _Outcome.FAILED:
            return False
        pieces = [piece for one in (unpack(item.value) if item else None) or [] for piece in one.pieces]
        done = await self._delete([key, *pieces])
        self._account(key, 0)
        return done

    async def _delete(self, keys: Sequence[str]) -> bool:
        return all([await self._try(_Outcome.FAILED, self.store.delete, key) is not _Outcome.FAILED for key in keys])

    def _keep_for(self, kept: Kept) -> float:
        return min(self.rules.keep_for(kept.head, self.clock()), MAX_KEEP_S)

    # The bound.

    def _account(self, key: str, size: int) -> None:
        """Note the use of a record, and how long it is now; 0 for one that is gone."""
        self._bytes += size - self._used.pop(key, 0)
        if size:
            self._used[key] = size

    async def _make_room(self) -> None:
        if self._unseen > self.max_bytes // 8:  # others may have written too, and what expired is gone
            await self._look_over()
        while self._bytes > self.max_bytes and self._used:
            oldest = next(iter(self._used))
            if not await self._remove(oldest):
                return
            self.counts.evicted += 1

    async def _look_over(self) -> bool:
        """Find out what the store holds, and in which order it was used."""
        found = await self._try(None, self._scanned, "entry/")
        if found is None:
            return False
        order = {key: position for position, key in enumerate(self._used)}
        # What this process has used is younger than what it has not.
        found.sort(key=lambda record: (order.get(record[0], -1), record[2]))
        self._used = OrderedDict((key, size) for key, size, _ in found)
        self._bytes = sum(self._used.values())
        self._unseen = 0
        return True

    async def _scanned(self, prefix: str) -> list[tuple[str, int, float]]:
        """Key, bytes, and time of the last exchange with the origin of each record."""
        found = []
        async for item in self.store.scan(prefix):
            kept = unpack(item.value) or []
            found.append((item.key, _size(item.value, kept), max((one.response_time for one in kept), default=0.0)))
        return found

    # The store, which may fail.

    @property
    def _usable(self) -> bool:
        return self.clock() >= self._resume_at or self._resume_at - self.clock() > PAUSE_S  # the clock was set back

    async def _ready(self) -> None:
        async with self._turn:
            if not self._open:
                await self.store.start()
                self._open = True
                self._unseen = self.max_bytes  # look it over before the first eviction

    async def _try(self, default: D, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T | D:
        """Ask the store; `default` where it fails, or has just failed."""
        if not self._usable:
            return default
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await self._ready()
                return await call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 whatever an engine raises: no request fails for it
            self.counts.store_failures += 1
            self._resume_at = self.clock() + PAUSE_S
            _log.warning("The HTTP cache's store failed and is left alone for %g s: %s", PAUSE_S, type(error).__name__)
            return default


def _size(record: bytes, kept: Sequence[Kept]) -> int:
    return len(record) + sum(one.size for one in kept if one.body)


def _digest(url: str) -> str:
    return hashlib.blake2b(url.partition("#")[0].encode(), digest_size=20).hexdigest()


def _digest_in(key: str) -> str:
    return key.split("/", 2)[1]
