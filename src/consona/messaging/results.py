"""What became of a message: kept beside the queue for a while, for whoever put it.

    queue = MessageQueue("reports", "sqlite:///work.db", results=3600)
    handle = await queue.put(Report("sales"))
    table = await handle.result(timeout=60)

Kept in a `Store` at the queue's address, so it is there for every process. It is a note and not the truth
about the message, which is in the queue: it may be a moment old.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from consona.errors import ConfigurationError, WorkCancelled, WorkFailed
from consona.messaging.bodies import decoded
from consona.storage.store import Store

if TYPE_CHECKING:  # the queue makes handles, so the import can only go one way
    from consona.messaging.queue import MessageQueue

__all__ = ["Handle", "Outcome", "Results"]

PREFIX: Final = "consona-results/"


class Outcome(msgspec.Struct, frozen=True):
    """Where a message stands."""

    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    """`failed`: it lies among the dead letters."""
    progress: float = 0.0
    """0 to 1, as its handler told."""
    note: str = ""
    error: str = ""
    """Of the newest attempt that failed."""
    body: bytes = b""
    headers: dict[str, str] = {}

    @property
    def ended(self) -> bool:
        return self.state in {"done", "failed", "cancelled"}


class Handle(str):
    """The id of a message that was put, which is a text, and what can be asked about it.

    Attributes:
        queue: Where it was put.
    """

    __slots__ = ("queue",)

    queue: MessageQueue

    @classmethod
    def of(cls, id_: str, queue: MessageQueue) -> Handle:
        handle = cls(id_)
        handle.queue = queue
        return handle

    async def outcome(self) -> Outcome:
        """Where it stands now.

        Raises:
            ConfigurationError: The queue keeps no results.
        """
        return await self._results().read(self)

    async def result(self, into: Any = Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109  no scope
        """Wait until its handler has ended well, and give what it returned.

        Args:
            into: The type that it is checked against.
            timeout: Seconds to wait; None waits for ever.

        Raises:
            WorkFailed: All attempts failed.
            WorkCancelled: Somebody cancelled it.
            TimeoutError: It has not ended in time.
            ConfigurationError: The queue keeps no results.
        """
        async with asyncio.timeout(timeout):
            outcome = await self._results().end(self)
        if outcome.state == "failed":
            raise WorkFailed(
                f"The message {self} of the queue {self.queue.name!r} failed: {outcome.error}", id=str(self)
            )
        if outcome.state == "cancelled":
            raise WorkCancelled(f"The message {self} of the queue {self.queue.name!r} was cancelled.", id=str(self))
        return decoded(outcome.body, outcome.headers, into)

    async def cancel(self) -> bool:
        """Ask that it is not handled, or not any further. False where it has ended already.

        An `async` handler is interrupted. A plain function in its thread runs to its end, and what it returns counts
        no more.
        """
        return await self._results().cancel(self)

    def _results(self) -> Results:
        if self.queue.results is None:
            raise ConfigurationError(
                f"The queue {self.queue.name!r} keeps no results.",
                hint="Say for how many seconds it is to keep them: MessageQueue(..., results=3600).",
            )
        return self.queue.results


class Results:
    """The outcomes of one queue's messages.

    Args:
        store: Where they are kept.
        keep_s: Seconds after the newest change.
    """

    def __init__(self, store: Store, queue: str, keep_s: float) -> None:
        self.store = store
        self._outcomes = f"{queue}/of/"
        self._cancels = f"{queue}/cancel/"
        self._keep_s = keep_s

    async def read(self, id_: str) -> Outcome:
        item = await self.store.get(f"{self._outcomes}{id_}")
        return Outcome() if item is None else _decode(item.value)

    async def write(self, id_: str, outcome: Outcome) -> None:
        await self.store.put(f"{self._outcomes}{id_}", _encode(outcome), ttl=self._keep_s)

    async def end(self, id_: str) -> Outcome:
        """Wait until it has ended."""
        changes = self.store.watch(f"{self._outcomes}{id_}")
        async with aclosing(changes):  # type: ignore[type-var]  # it is a generator
            async for change in changes:
                if change.value is not None and change.key.endswith(f"/{id_}"):
                    outcome = _decode(change.value)
                    if outcome.ended:
                        return outcome
        raise ConfigurationError("The queue was stopped while somebody waited for a result.")

    async def cancel(self, id_: str) -> bool:
        """Whether it can still make a difference."""
        while True:
            item = await self.store.get(f"{self._outcomes}{id_}")
            outcome = Outcome() if item is None else _decode(item.value)
            if outcome.ended:
                return False
            if outcome.state == "running":
                await self.store.put(f"{self._cancels}{id_}", b"", ttl=self._keep_s)
                return True
            note = _encode(Outcome("cancelled"))
            version = 0 if item is None else item.version
            if await self.store.put_if(f"{self._outcomes}{id_}", note, version=version, ttl=self._keep_s):
                return True

    async def begin(self, id_: str) -> bool:
        """Note that it is being handled. False where it was cancelled before."""
        while True:
            item = await self.store.get(f"{self._outcomes}{id_}")
            outcome = Outcome() if item is None else _decode(item.value)
            if outcome.state == "cancelled" or (item is not None and await self.store.get(f"{self._cancels}{id_}")):
                return False
            running, version = _encode(Outcome("running", error=outcome.error)), 0 if item is None else item.version
            if await self.store.put_if(f"{self._outcomes}{id_}", running, version=version, ttl=self._keep_s):
                return True

    async def cancelled(self) -> AsyncIterator[str]:
        """The ids of messages that are being handled and that somebody cancels."""
        changes = self.store.watch(self._cancels)
        async with aclosing(changes):  # type: ignore[type-var]
            async for change in changes:
                if change.value is not None:
                    yield change.key.rpartition("/")[2]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Outcome).decode
