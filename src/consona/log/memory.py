"""The log in the process' memory: the reference that explains the port. Gone when the last user closes it."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from consona.address import Address
from consona.log.log import Entry, Page, Record, Retention
from consona.storage.changes import Changes

__all__ = ["MemoryLog"]


class MemoryLog:
    """`memory://`, shared by all in the process who name the same address (`memory://bus` is another)."""

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address.canonical
        self._clock = clock
        self._space: Space | None = None

    async def open(self) -> None:
        with _lock:
            self._space = _spaces.setdefault(self._address, Space())
            self._space.users += 1

    async def close(self) -> None:
        space, self._space = self._opened(), None
        with _lock:
            space.users -= 1
            if not space.users:
                _spaces.pop(self._address, None)
        space.changes.announce()

    async def append(self, stream: str, entries: Sequence[Entry]) -> list[int]:
        space = self._opened()
        with space.lock:
            kept = space.streams.setdefault(stream, Stream())
            kept.at = max(kept.at, self._clock())
            positions = list(range(kept.last + 1, kept.last + 1 + len(entries)))
            for position, entry in zip(positions, entries, strict=True):
                kept.records.append(Record(position, kept.at, entry.body, dict(entry.headers)))
            kept.last = positions[-1]
            kept.size += sum(size_of(entry) for entry in entries)
            space.version += 1
        space.changes.announce()
        return positions

    async def read(self, stream: str, *, after: int, limit: int, max_bytes: int) -> Page:
        space = self._opened()
        with space.lock:
            kept = space.streams.get(stream, Stream())
            first = max(0, after - kept.begin)
            page, size = [], 0
            for record in kept.records[first : first + limit]:
                page.append(record)
                size += len(record.body)
                if size >= max_bytes:
                    break
            return Page(page, kept.begin)

    async def wait(self, stream: str, *, after: int, timeout_s: float) -> None:
        space = self._opened()
        seen = space.version
        with space.lock:
            kept = space.streams.get(stream)
            if kept is not None and kept.last > after:
                return
        await space.changes.wait(seen, timeout_s=timeout_s)

    async def trim(self, stream: str, retention: Retention) -> int:
        space, now = self._opened(), self._clock()
        with space.lock:
            kept = space.streams.get(stream)
            if kept is None:
                return 0
            cut = 0
            if retention.max_records is not None:
                cut = len(kept.records) - retention.max_records
            if retention.max_age is not None:
                cut = max(cut, bisect.bisect_left(kept.records, now - retention.max_age, key=_at))
            cut, size = max(cut, 0), kept.size
            size -= sum(size_of(record) for record in kept.records[:cut])
            while retention.max_bytes is not None and size > retention.max_bytes:
                size -= size_of(kept.records[cut])
                cut += 1
            del kept.records[:cut]
            kept.size = size
            return cut

    async def locate(self, stream: str, at: float) -> int:
        space = self._opened()
        with space.lock:
            kept = space.streams.get(stream, Stream())
            return kept.begin + bisect.bisect_left(kept.records, at, key=_at)

    def _opened(self) -> Space:
        assert self._space is not None, "the front checks that it is started"
        return self._space


class Stream:
    """The records of one stream, without a gap, oldest first."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.last = 0
        self.at = float("-inf")
        self.size = 0

    @property
    def begin(self) -> int:
        return self.last - len(self.records)


class Space:
    """What all who name one address share."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.lock = threading.Lock()
        self.version = 0
        self.changes = Changes(lambda: self.version, shared=False)
        self.users = 0


def size_of(entry: Entry | Record) -> int:
    """Bytes of body and headers."""
    return len(entry.body) + sum(len(name.encode()) + len(text.encode()) for name, text in entry.headers.items())


def _at(record: Record) -> float:
    return record.at


_lock = threading.Lock()
_spaces: Final[dict[str, Space]] = {}
