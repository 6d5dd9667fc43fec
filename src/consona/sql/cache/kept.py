"""Answers in memory, bounded in bytes: what was not used for longest goes first."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any, Final, NamedTuple

from consona.sql.engine import Rows

__all__ = ["Kept", "KeptAnswers", "bytes_of"]

ENTRY_BYTES: Final = 600
"""What an entry takes besides its values: its key, its place, its stamp."""


class Kept(NamedTuple):
    """An answer that was kept."""

    rows: Rows
    stamp: Hashable
    since: float
    """When it was asked for, by the cache's clock."""
    size: int
    """Bytes."""
    mutable: bool
    """Whether some value could be changed by who gets it (a list), so that each gets a copy."""


class KeptAnswers:
    """Args:
    max_bytes: Together; one answer may have a quarter of it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.evicted = 0
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()

    def get(self, key: Hashable) -> Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: Hashable, kept: Kept) -> bool:
        """Keep it; False where it is too large."""
        self.drop(key)
        if kept.size > self.max_bytes // 4:
            return False
        self._kept[key] = kept
        self.bytes += kept.size
        while self.bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.size
            self.evicted += 1
        return True

    def drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)


def bytes_of(rows: Rows, key: Iterable[Any]) -> tuple[int, bool]:
    """(the bytes that an answer takes in memory, whether some value of it can be changed). Looks at every value."""
    size, mutable = ENTRY_BYTES, False
    getsizeof = sys.getsizeof
    for row in rows.rows:
        size += getsizeof(row)
        for value in row:
            size += getsizeof(value)
            if isinstance(value, list | dict | set | bytearray):
                mutable = True
                size += _deep(value)
    return size + 8 * len(rows.rows) + sum(getsizeof(part) for part in key), mutable


def _deep(value: Any) -> int:
    items: Iterable[Any] = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    if isinstance(value, bytearray):
        return 0
    return sum(sys.getsizeof(item) + (_deep(item) if isinstance(item, list | dict | set) else 0) for item in items)
