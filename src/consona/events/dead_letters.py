"""Events that a consumer could not handle: kept with what went wrong, until somebody decides."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from consona.log.log import Record

if TYPE_CHECKING:
    from consona.storage.store import Item, Store

__all__ = ["DeadEvent", "DeadLetters"]

_DIGITS: Final = 20  # so that keys sort as positions do


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """An event that is not tried again by itself."""

    position: int
    """In the bus's log; names it."""
    headers: dict[str, str]
    """The attributes of the event: `type`, `id`, `source`, …"""
    body: bytes
    appended_at: float
    """Seconds since the epoch, as all times here."""
    died_at: float
    attempts: int
    reason: str


class DeadLetters:
    """Those of one consumer, in the bus's store."""

    def __init__(self, store: Store, consumer: str, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._consumer = consumer
        self._clock = clock

    async def bury(self, record: Record, attempts: int, reason: str) -> None:
        letter = DeadEvent(
            record.position, dict(record.headers), record.body, record.at, self._clock(), attempts, reason
        )
        await self._store.put(self._key("dead", record.position), msgspec.msgpack.encode(letter))

    async def all(self) -> AsyncIterator[DeadEvent]:
        async for item in self._store.scan(f"dead/{self._consumer}/"):
            yield _letter(item)

    async def redrive(self, position: int) -> bool:
        """Let the consumer try it again. Returns whether it was there."""
        item = await self._store.get(self._key("dead", position))
        if item is None:
            return False
        await self._store.put(self._key("again", position), item.value)  # first: rather twice than never
        return await self._store.delete(self._key("dead", position))

    async def purge(self, position: int) -> bool:
        """Remove it for ever. Returns whether it was there."""
        return await self._store.delete(self._key("dead", position))

    async def again(self) -> AsyncIterator[Record]:
        """Those that are to be tried again now; `done` with each."""
        async for item in self._store.scan(f"again/{self._consumer}/"):
            letter = _letter(item)
            yield Record(letter.position, letter.appended_at, letter.body, letter.headers)

    async def done(self, record: Record) -> None:
        await self._store.delete(self._key("again", record.position))

    def _key(self, kind: str, position: int) -> str:
        return f"{kind}/{self._consumer}/{position:0{_DIGITS}}"


def _letter(item: Item) -> DeadEvent:
    letter: Any = msgspec.msgpack.decode(item.value, type=DeadEvent)
    return letter  # type: ignore[no-any-return]
