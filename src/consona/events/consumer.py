"""One consumer of a bus: reads the log from its position, handles what it wants, and remembers how far it came.

A durable consumer's position is kept in the bus's store and written only by compare-and-set, so that who
was overtaken (by another process, or by `seek`) notices. Of several processes one reads at a time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from consona.errors import ConfigurationError, ConsonaError, GapError, ValidationError
from consona.events import inbox
from consona.events.dead_letters import DeadLetters
from consona.events.lease import Lease
from consona.events.records import KEY, TRACE, received_of
from consona.log.log import Record
from consona.messaging.message import described
from consona.storage.store import ABSENT
from consona.telemetry.trace import extract

if TYPE_CHECKING:
    from consona.events.bus import EventBus
    from consona.events.handler import Subscription

__all__ = ["LEASE_S", "Consumer"]

log = logging.getLogger("consona.events")

LEASE_S: Final = 6.0
"""How long a killed process keeps others waiting."""
PAGE: Final = 256
IDLE_S: Final = 1.0
"""How often an idle consumer looks whether it was moved, or has letters to try again."""
COMMIT_S: Final = 1.0
"""How much of the work of a killed process is done again, at most."""
PAUSE_AFTER_FAILURE_S: Final = 1.0
MAX_REASON: Final = 500


class Consumer:
    """Runs one subscription. Made by the bus."""

    def __init__(
        self,
        bus: EventBus,
        subscription: Subscription,
        *,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.bus = bus
        self.subscription = subscription
        self.name = subscription.durable or getattr(subscription.handler, "__name__", "handler")
        self.position = 0
        """Behind which it goes on."""
        self.problem: ConsonaError | None = None
        """Why it does not go on."""
        self.dead = DeadLetters(bus.store, self.name, clock=clock)
        self._key = f"position/{self.name}"
        self._version = ABSENT
        self._stopping = asyncio.Event()
        self._until_empty = False
        self._clock = clock
        self._rng = rng

    @property
    def durable(self) -> bool:
        return bool(self.subscription.durable)

    async def prepare(self) -> None:
        """Find its position, and take its place where it has none: what is published from now on is its."""
        if not await self._load():
            self.position = await self.bus.position_of(self.subscription.start)
            if self.durable and not await self._commit():
                await self._load()

    async def run(self, *, until_empty: bool = False) -> None:
        """Handle events until `stop` is called (or nothing is left, or somebody else does it: `until_empty`)."""
        self._until_empty = until_empty
        self._stopping.clear()
        lease = Lease(self.bus.store, f"lease/{self.name}", self.bus.process, ttl_s=LEASE_S)
        while not self._stopping.is_set():
            try:
                if not self.durable:
                    await self._read_on()
                elif await lease.take():
                    await self._lead(lease)
                elif not until_empty:
                    await self._pause(LEASE_S / 3)
            except ConsonaError as error:
                if self.problem is None:
                    log.warning("%s of %s: %s (it is tried again)", self.name, self.bus.name, error.message)
                self.problem = error
                await self._pause(PAUSE_AFTER_FAILURE_S)
                continue
            if until_empty:
                return

    def stop(self) -> None:
        """Take no more; what is being handled ends."""
        self._stopping.set()

    async def _lead(self, lease: Lease) -> None:
        """Work for as long as the lease is ours."""
        work = asyncio.create_task(self._read_on(), name=f"{self.name} of {self.bus.name}")
        held_until = time.monotonic() + LEASE_S
        try:
            while not (await asyncio.wait([work], timeout=LEASE_S / 3))[0]:
                try:
                    held = await lease.take()
                except ConsonaError:
                    held = time.monotonic() < held_until
                else:
                    held_until = time.monotonic() + LEASE_S
                if not held:
                    log.warning("%s of %s: another process goes on with it", self.name, self.bus.name)
                    return
            work.result()
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError, ConsonaError):
                await work
            with suppress(ConsonaError):  # then it ends by itself
                await lease.give_back()

    async def _read_on(self) -> None:
        if self.durable:
            await self._load()
        while not self._stopping.is_set():
            try:
                page = await self.bus.log.read(self.bus.log_stream, after=self.position, limit=PAGE)
            except GapError as error:
                if not isinstance(self.problem, GapError):
                    log.error("%s of %s stands still: %s", self.name, self.bus.name, error.message)  # noqa: TRY400  no trace
                self.problem = error
                if self._until_empty:
                    raise
                await self._pause(IDLE_S)
                await self._load()  # somebody may have decided where to go on
                continue
            self.problem = None
            if page.records:
                await self._handle_page(page.records)
            elif not await self._idle():
                return

    async def _idle(self) -> bool:
        """Nothing new: look at what is to be tried again, then wait. False: nothing is left."""
        tried = [record async for record in self.dead.again()] if self.durable else []
        for record in tried:
            if await self._handle(record):
                await self.dead.done(record)
        if not tried:
            if self._until_empty:
                return False
            await self._wait()
            await self._load()
        return True

    async def _wait(self) -> None:
        waiting = asyncio.create_task(self.bus.log.wait(self.bus.log_stream, after=self.position, timeout=IDLE_S))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)

    # A page.

    async def _handle_page(self, records: Sequence[Record]) -> None:
        """Handle what it wants of these: keys in parallel, each in order. Moves the position behind them."""
        lanes: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            if self._wanted(record):
                lanes.setdefault(self._lane(record, index), []).append(index)
        progress = _Progress(records, {index for lane in lanes.values() for index in lane})
        places = asyncio.Semaphore(self.subscription.concurrency)

        async def work(lane: list[int]) -> None:
            for index in lane:
                async with places:
                    if self._stopping.is_set():
                        return
                    if not await self._handle(records[index]):
                        return
                progress.done(index)
                if progress.due():
                    self.position = progress.position(self.position)
                    await self._save()

        try:
            if len(lanes) == 1:
                await work(next(iter(lanes.values())))
            else:
                async with asyncio.TaskGroup() as group:
                    for lane in lanes.values():
                        group.create_task(work(lane))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self.position = progress.position(self.position)
        await self._save()

    def _wanted(self, record: Record) -> bool:
        name = record.headers.get("type")
        if name is None:
            log.warning("%s: position %d of %s holds no event", self.name, record.position, self.bus.name)
            return False
        return self.subscription.wants(name)

    def _lane(self, record: Record, index: int) -> str:
        if self.subscription.concurrency == 1:
            return ""
        key = record.headers.get(KEY)
        return f"#{index}" if key is None else f"={key}"

    async def _handle(self, record: Record) -> bool:
        """Handle one event, again where it fails, until it is done or dead (True), or the consumer stops."""
        retry = self.subscription.retry
        attempt = 0
        while not self._stopping.is_set() or not attempt:
            attempt += 1
            try:
                await self._try(record, attempt)
            except Exception as error:  # noqa: BLE001  whatever a handler raises is a failed attempt; it was logged above
                refused = retry.retry_if is not None and not retry.retry_if(error)
                if isinstance(error, ValidationError) or refused or attempt >= retry.attempts:
                    await self._bury(record, attempt, error)
                    return True
                await self._pause(retry.wait(attempt + 1, error, rng=self._rng))
            else:
                return True
        return False

    async def _try(self, record: Record, attempt: int) -> None:
        parent = extract(record.headers.get(TRACE), trusted=True)
        with self.bus.observer.operation("handle", self.name, parent=parent) as op:
            op.set(type=record.headers.get("type", ""), position=record.position, attempt=attempt)
            received = received_of(record, attempt)
            db = self.subscription.once
            if db is None:
                await self.subscription.call(received, self.bus.upcasters, None)
                return
            with suppress(inbox.HandledBefore):
                async with db.transaction(name=self.name) as tx:
                    await inbox.enter(tx, f"{self.bus.name}/{self.name}"[:200], received.event, now=self._clock())
                    await self.subscription.call(received, self.bus.upcasters, tx)

    async def _bury(self, record: Record, attempts: int, error: Exception) -> None:
        kind = record.headers.get("type", "")
        if not self.durable:
            log.error("%s of %s gives up an event %s: %s", self.name, self.bus.name, kind, type(error).__name__)
            return
        log.error(
            "%s of %s: an event %s goes to the dead letters: %s", self.name, self.bus.name, kind, type(error).__name__
        )
        await self.dead.bury(record, attempts, described(error)[:MAX_REASON])

    # The position.

    async def _load(self) -> bool:
        if not self.durable:
            return False
        item = await self.bus.store.get(self._key)
        if item is None:
            return False
        if item.version != self._version:
            self.position, self._version = _number(item.value, self.name), item.version
        return True

    async def _save(self) -> None:
        if self.durable and not await self._commit():
            await self._load()

    async def _commit(self) -> bool:
        version = await self.bus.store.put_if(self._key, b"%d" % self.position, version=self._version)
        if version is None:
            return False
        self._version = version
        return True

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class _Progress:
    """How far a page is done without a gap."""

    def __init__(self, records: Sequence[Record], open_: set[int]) -> None:
        self._records = records
        self._open = open_
        self._next_commit = time.monotonic() + COMMIT_S

    def done(self, index: int) -> None:
        self._open.discard(index)

    def due(self) -> bool:
        now = time.monotonic()
        if not self._open or now < self._next_commit:
            return False
        self._next_commit = now + COMMIT_S
        return True

    def position(self, before: int) -> int:
        """Behind everything that is done, with nothing left out."""
        first = min(self._open, default=len(self._records))
        return self._records[first - 1].position if first else before


def _number(value: bytes, name: str) -> int:
    if not value.isdigit() or len(value) > 19:
        raise ConfigurationError(
            f"The position of {name} is {value[:20]!r}, which is none.", hint="Set it: consona events seek"
        )
    return int(value)
