"""The store in the process' memory: the reference that explains the port. Gone when the last user closes it."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import heapq
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from consona.address import Address
from consona.storage.store import ABSENT, Change, Item
from consona.storage.sweeping import Sweeper

__all__ = ["MemoryStore"]

SWEEP_LIMIT: Final = 1000


class MemoryStore:
    """`memory://`, shared by all in the process who name the same address (`memory://sessions` is another)."""

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address.canonical
        self._clock = clock
        self._space: Space | None = None
        self._sweeper = Sweeper(self.sweep)

    async def open(self) -> None:
        with _lock:
            self._space = _spaces.setdefault(self._address, Space())
            self._space.users += 1
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        space, self._space = self._space, None
        assert space is not None
        with _lock:
            space.users -= 1
            if not space.users:
                _spaces.pop(self._address, None)
        space.wake()

    async def get(self, key: str) -> Item | None:
        space = self._opened()
        with space.lock:
            return space.live(key, self._clock())

    async def put_if(self, key: str, value: bytes, *, version: int | None, ttl_s: float | None) -> int | None:
        space, now = self._opened(), self._clock()
        with space.lock:
            present = space.live(key, now)
            if version is not None and version != (ABSENT if present is None else present.version):
                return None
            return space.put(key, value, None if ttl_s is None else now + ttl_s)

    async def delete(self, key: str, *, version: int | None) -> bool:
        space = self._opened()
        with space.lock:
            present = space.live(key, self._clock())
            if present is None or version not in {None, present.version}:
                return False
            space.remove(key)
            return True

    async def scan(self, prefix: str, *, after: str, limit: int) -> list[Item]:
        space, now = self._opened(), self._clock()
        page: list[Item] = []
        with space.lock:
            start = bisect.bisect_left(space.keys, prefix)
            if after >= prefix:
                start = bisect.bisect_right(space.keys, after)
            for index in range(start, len(space.keys)):
                key = space.keys[index]
                if len(page) >= limit or not key.startswith(prefix):
                    break
                item = space.live(key, now)
                if item is not None:
                    page.append(item)
        return page

    async def watch(self, prefix: str) -> AsyncIterator[list[Change]]:
        space = self._opened()
        watcher = Watcher(prefix)
        with space.lock:
            space.watchers.add(watcher)
            present = [Change(item.key, item.value, item.version) for item in space.items.values()]
            now = self._clock()
            present = [c for c in present if c.key.startswith(prefix) and space.live(c.key, now) is not None]
        try:
            if present:
                yield present
            while self._space is space:
                await watcher.event.wait()
                with space.lock:
                    changes, watcher.pending = list(watcher.pending.values()), {}
                    watcher.event.clear()
                if changes:
                    yield changes
        finally:
            with space.lock:
                space.watchers.discard(watcher)

    async def sweep(self) -> int:
        """Remove up to 1,000 expired items. Returns how many it removed."""
        space, now = self._opened(), self._clock()
        removed = 0
        with space.lock:
            while space.expiries and space.expiries[0][0] <= now and removed < SWEEP_LIMIT:
                _, key, version = heapq.heappop(space.expiries)
                item = space.items.get(key)
                if item is not None and item.version == version:
                    space.remove(key)
                    removed += 1
        return removed

    def stats(self) -> dict[str, Any]:
        space = self._opened()
        return {"items": len(space.items), "watchers": len(space.watchers), "users": space.users}

    def _opened(self) -> Space:
        assert self._space is not None, "the front checks that it is started"
        return self._space


class Watcher:
    """What one watch has not told yet: the newest change of each key, so it needs no more room than the keys."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.pending: dict[str, Change] = {}
        self.event = asyncio.Event()
        self.loop = asyncio.get_running_loop()


class Space:
    """The items of one address. Every method wants the lock held: parts of several threads may share it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.version = 0
        self.items: dict[str, Item] = {}
        self.keys: list[str] = []
        self.expiries: list[tuple[float, str, int]] = []
        self.watchers: set[Watcher] = set()

    def live(self, key: str, now: float) -> Item | None:
        item = self.items.get(key)
        return None if item is None or (item.expires is not None and item.expires <= now) else item

    def put(self, key: str, value: bytes, expires: float | None) -> int:
        self.version += 1
        if key not in self.items:
            bisect.insort(self.keys, key)
        self.items[key] = Item(key, value, self.version, expires)
        if expires is not None:
            heapq.heappush(self.expiries, (expires, key, self.version))
            if len(self.expiries) > 2 * len(self.items) + SWEEP_LIMIT:
                self._forget_old_expiries()
        self._tell(Change(key, value, self.version))
        return self.version

    def remove(self, key: str) -> None:
        self.version += 1
        del self.items[key]
        del self.keys[bisect.bisect_left(self.keys, key)]
        self._tell(Change(key, None, self.version))

    def wake(self) -> None:
        """Let every watch look whether it is closed."""
        for watcher in list(self.watchers):
            with contextlib.suppress(RuntimeError):  # its loop is closed
                watcher.loop.call_soon_threadsafe(watcher.event.set)

    def _tell(self, change: Change) -> None:
        for watcher in self.watchers:
            if change.key.startswith(watcher.prefix):
                if not watcher.pending:
                    with contextlib.suppress(RuntimeError):  # its loop is closed
                        watcher.loop.call_soon_threadsafe(watcher.event.set)
                watcher.pending[change.key] = change

    def _forget_old_expiries(self) -> None:
        """Renewed items leave their old times behind; they are swept out before they outnumber the items."""
        self.expiries = [(i.expires, i.key, i.version) for i in self.items.values() if i.expires is not None]
        heapq.heapify(self.expiries)


_lock = threading.Lock()
_spaces: Final[dict[str, Space]] = {}
