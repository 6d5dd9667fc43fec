"""Keys and values that expire, change by compare-and-set, and can be watched.

    async with open_store("sqlite:///app.db", prefix="sessions/") as store:
        await store.put("ada", b"...", ttl=3600)
        item = await store.get("ada")                             # an Item, or None
        await store.put_if("ada", b"new", version=item.version)   # None where somebody was faster
        async for item in store.scan(): ...
        async for change in store.watch("a"): ...

`StorePort` is what an engine must do (memory, SQLite; others add theirs); `Store` does everything
else. Sessions, idempotency keys, caches, shared limits, presence, registry and leases stand on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, runtime_checkable

from consona.address import Address, adapter_for
from consona.errors import ConfigurationError, Conflict, ConsonaError, FieldProblem, ValidationError
from consona.part import Health, Part, Status
from consona.telemetry.observer import Observer

if TYPE_CHECKING:  # SQLite is loaded where its scheme is used
    from consona.storage.transaction import SharedTransaction

__all__ = [
    "ABSENT",
    "MAX_KEY_BYTES",
    "MAX_VALUE_BYTES",
    "Change",
    "Item",
    "Store",
    "StorePort",
    "SupportsStats",
    "SupportsTransactions",
    "open_store",
]

ABSENT: Final = 0
"""The version of a key that does not exist."""

MAX_KEY_BYTES: Final = 512
"""Length of a key in UTF-8, the store's prefix included."""
MAX_VALUE_BYTES: Final = 1_000_000
MAX_TTL_S: Final = 10 * 366 * 86_400.0
PAGE: Final = 200

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its value."""

    key: str
    value: bytes
    version: int
    """Differs after each change of this key, and grows, also when it was deleted in between. At least 1."""
    expires: float | None = None
    """Seconds since the epoch, by the engine's clock; None for never."""


@dataclass(frozen=True, slots=True)
class Change:
    """The newest state of a key that changed."""

    key: str
    value: bytes | None
    """None where it was deleted or has expired."""
    version: int


class StorePort(Protocol):
    """What an engine must do. Keys and values are checked before they get here; times are in seconds.

    An item whose time is over is never given out and counts as absent, whether it is removed yet or not;
    engines remove such items by themselves, in batches of bounded size.
    """

    async def open(self) -> None: ...

    async def close(self) -> None:
        """Give everything back; running watches end within a second."""

    async def get(self, key: str) -> Item | None: ...

    async def put_if(self, key: str, value: bytes, *, version: int | None, ttl_s: float | None) -> int | None:
        """Write if the key's version is `version` (0: if it is absent; None: in any case).

        Returns the new version, or None where the key has another one. Atomic against all other writers.
        """

    async def delete(self, key: str, *, version: int | None) -> bool:
        """Delete if it is there and (unless None) has this version. Returns whether it did."""

    async def scan(self, prefix: str, *, after: str, limit: int) -> list[Item]:
        """Items whose key begins with `prefix` and is greater than `after`, by code point, in that order.

        At most `limit`, and fewer where they are large; an empty list means that there are no more.
        """

    def watch(self, prefix: str) -> AsyncIterator[list[Change]]:
        """First what is there, then every change, also those made by other processes.

        Each key's newest state is always told in the end; states between may be left out. Expiry is told
        as deletion, within about a second.
        """


@runtime_checkable
class SupportsTransactions(Protocol):
    """The engine can take part in a transaction of its database."""

    def inside(self, tx: SharedTransaction) -> StorePort:
        """The same store, reading and writing in the open transaction `tx`."""


@runtime_checkable
class SupportsStats(Protocol):
    """The engine counts what it does."""

    def stats(self) -> dict[str, Any]: ...


class Store(Part):
    """Keys and values; the same on every engine.

    Args:
        target: The address of an engine (`memory://`, `sqlite:///app.db`), or an engine.
        name: What the dashboard calls it; by default `store`, or the prefix without its slash.
        prefix: Put before each key, so that several stores share one engine without seeing each other.
        clock: Seconds since the epoch, for expiry, where the engine has no clock of its own.
        rng: Chance from 0 to 1, for the waits of `update`.
        sleep: Waits that many seconds.

    Raises:
        AddressError: No engine has the address' scheme.

    Example:
        >>> async def main():
        ...     async with Store("memory://example") as store:
        ...         version = await store.put("colour", b"red")
        ...         lost = await store.put_if("colour", b"blue", version=0)
        ...         return (await store.get("colour")).value, lost
        >>> asyncio.run(main())
        (b'red', None)
    """

    kind: ClassVar[str] = "store"

    def __init__(
        self,
        target: str | Address | StorePort,
        *,
        name: str = "",
        prefix: str = "",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(name or prefix.strip("/") or "store", observer=observer)
        if isinstance(target, str | Address):
            address = Address.parse(target)
            target = adapter_for("store", address)(address, clock=clock)
        assert not isinstance(target, str | Address)
        self.engine: StorePort = target
        self.prefix = prefix
        self._rng = rng
        self._sleep = sleep
        if prefix:
            self._key("")

    async def _open(self) -> None:
        await self.engine.open()

    async def _close(self) -> None:
        await self.engine.close()

    async def check(self) -> Health:
        """Whether it can be read now."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        try:
            await self.engine.get(f"{self.prefix}check")
        except ConsonaError as error:
            return Health(Status.DOWN, error.message)
        return Health(Status.UP)

    def detail(self) -> dict[str, Any]:
        return self.engine.stats() if self.started and isinstance(self.engine, SupportsStats) else {}

    async def get(self, key: str, *, tx: SharedTransaction | None = None) -> Item | None:
        """The item of this key, or None where there is none (any more).

        Args:
            key: 1 to 512 bytes of UTF-8 with the prefix, without control characters.
            tx: Read in this open transaction of the same database.
        """
        full = self._key(key)
        with self.observer.operation("get") as op:
            item = await self._engine(tx).get(full)
            op.set(found=item is not None)
        return item and self._stripped(item)

    async def put(
        self, key: str, value: bytes, *, ttl: float | None = None, tx: SharedTransaction | None = None
    ) -> int:
        """Write, whatever was there. Returns the new version.

        Args:
            key: See `get`.
            value: Up to 1,000,000 bytes.
            ttl: Seconds until it is gone; None keeps it (and ends an earlier limit).
            tx: Write in this open transaction of the same database.
        """
        full = self._key(key)
        _check(value, ttl)
        with self.observer.operation("put") as op:
            op.set(bytes=len(value))
            version = await self._engine(tx).put_if(full, bytes(value), version=None, ttl_s=ttl)
        assert version is not None
        return version

    async def put_if(
        self, key: str, value: bytes, *, version: int, ttl: float | None = None, tx: SharedTransaction | None = None
    ) -> int | None:
        """Write if nobody changed the key since it had `version` (0: if it is absent).

        Returns:
            The new version, or None where it has another one by now.
        """
        full = self._key(key)
        _check(value, ttl)
        _check_version(version)
        with self.observer.operation("put_if") as op:
            new = await self._engine(tx).put_if(full, bytes(value), version=version, ttl_s=ttl)
            op.set(bytes=len(value), written=new is not None)
        return new

    async def delete(self, key: str, *, version: int | None = None, tx: SharedTransaction | None = None) -> bool:
        """Delete it (where given: if it still has `version`). Returns whether it was there and is gone now."""
        full = self._key(key)
        if version is not None:
            _check_version(version)
        with self.observer.operation("delete") as op:
            gone = await self._engine(tx).delete(full, version=version)
            op.set(deleted=gone)
        return gone

    async def update(
        self, key: str, change: Callable[[bytes | None], bytes | None], *, ttl: float | None = None, attempts: int = 20
    ) -> bytes | None:
        """Change a value from what it is, however many do so at once: read, compute, compare and set, again if lost.

        Args:
            key: See `get`.
            change: Gets the value (None: absent), returns the new one (None: delete it). May be called again.
            ttl: Seconds until the new value is gone.
            attempts: How often to try.

        Returns:
            The value as it is now; None where `change` returned None.

        Raises:
            Conflict: Others were faster each time.

        Example:
            >>> async def main():
            ...     async with Store("memory://visits") as store:
            ...         for _ in range(3):
            ...             value = await store.update("count", lambda old: b"%d" % (int(old or b"0") + 1))
            ...         return value
            >>> asyncio.run(main())
            b'3'
        """
        for attempt in range(attempts):
            item = await self.get(key)
            value = change(None if item is None else item.value)
            version = ABSENT if item is None else item.version
            if value is None:
                if item is None or await self.delete(key, version=version):
                    return None
            else:
                new = await self.put_if(key, value, version=version, ttl=ttl)
                if new is not None:
                    return value
            await self._sleep(self._rng() * min(0.05, 0.0005 * 2**attempt))
        raise Conflict(
            f"{self.name}: the key was changed by others in each of {attempts} attempts.",
            hint="Try again, or spread what is written over several keys.",
            retryable=True,
        )

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[Item]:
        """All items whose key begins with `prefix`, ordered by key (by code point), read page by page.

        What changes meanwhile may be seen or not; each key comes at most once.

        Args:
            prefix: Up to 512 bytes; empty for all.
            after: Begin behind this key, for example the last one that you saw.
        """
        full = self._key(prefix, may_be_empty=True)
        last = self._key(after) if after else ""
        while True:
            with self.observer.operation("scan") as op:
                page = await self._engine(None).scan(full, after=last, limit=PAGE)
                op.set(items=len(page))
            if not page:
                return
            last = page[-1].key
            for item in page:
                yield self._stripped(item)

    async def watch(self, prefix: str = "") -> AsyncIterator[Change]:
        """First every item whose key begins with `prefix`, then every change, whoever makes it, without end.

        The newest state of each key is always told in the end; states between may be left out. A deleted or
        expired key comes with the value None. Leave it with `break`, or by cancelling the task.

        Raises:
            QueryError: The watcher was so slow that deletions may have escaped it; begin again.
        """
        full = self._key(prefix, may_be_empty=True)
        self._require_started()
        pages = self.engine.watch(full)
        try:
            async for page in pages:
                with self.observer.operation("watch") as op:
                    op.set(changes=len(page))
                for change in page:
                    yield replace(change, key=change.key[len(self.prefix) :]) if self.prefix else change
        finally:
            with contextlib.suppress(AttributeError):
                await pages.aclose()  # type: ignore[attr-defined]  # engines write it as a generator

    def _engine(self, tx: SharedTransaction | None) -> StorePort:
        self._require_started()
        if tx is None:
            return self.engine
        if not isinstance(self.engine, SupportsTransactions):
            raise ConfigurationError(
                f"{self.name} cannot take part in a transaction: its engine is no database.",
                hint="Give the store the address of the database whose transaction it is.",
            )
        return self.engine.inside(tx)

    def _key(self, key: Any, *, may_be_empty: bool = False) -> str:
        if not isinstance(key, str):
            raise _refused("key", f"expected text, got {type(key).__name__}")
        full = f"{self.prefix}{key}"
        if not full and not may_be_empty:
            raise _refused("key", "expected at least one character")
        if _CONTROL.search(full):
            raise _refused("key", "expected no control characters and no halves of surrogate pairs")
        if len(full) > MAX_KEY_BYTES or len(full.encode()) > MAX_KEY_BYTES:
            raise _refused("key", f"expected at most {MAX_KEY_BYTES} bytes of UTF-8, the store's prefix included")
        return full

    def _stripped(self, item: Item) -> Item:
        return replace(item, key=item.key[len(self.prefix) :]) if self.prefix else item


def open_store(
    url: str | Address,
    *,
    name: str = "",
    prefix: str = "",
    observer: Observer | None = None,
    clock: Callable[[], float] = time.time,
) -> Store:
    """The store at an address: a part, which `async with` (or `start()`) opens. See `Store`."""
    return Store(url, name=name, prefix=prefix, observer=observer, clock=clock)


def _check_version(version: Any) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise _refused("version", "expected one that the store gave, or 0 for a key that must be absent")


def _check(value: Any, ttl: Any) -> None:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _refused("value", f"expected bytes, got {type(value).__name__}")
    size = value.nbytes if isinstance(value, memoryview) else len(value)
    if size > MAX_VALUE_BYTES:
        raise _refused("value", f"expected at most {MAX_VALUE_BYTES} bytes, got {size}")
    if ttl is not None and not (isinstance(ttl, int | float) and 0 < ttl <= MAX_TTL_S):
        raise _refused("ttl", "expected seconds, above 0 and at most ten years; None for no limit")


def _refused(field: str, problem: str) -> ValidationError:
    return ValidationError(f"The store refused the {field}: {problem}.", fields=[FieldProblem(field, problem)])
