"""A queue: work that is put by one and done by another, at least once.

    queue = MessageQueue("emails", "sqlite:///work.db")

    @queue.worker(concurrency=8, retry=Retry(attempts=5))
    async def send(email: Email): ...

    async with queue:
        await queue.put(Email(to="ada@example.org"), delay=60)
        await queue.work()                          # or, in a process of its own: consona worker shop.mail:queue

A message is gone only when its handler has ended well (or `ack` was called). One whose worker is killed
comes back when its lease ends; one that fails comes back after a growing wait, and in the end lies among
the dead letters, with what went wrong each time. So a handler may run twice for one message: make what it
does harmless to repeat.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from consona.address import Address, adapter_for
from consona.errors import ConfigurationError, ConsonaError, QueueFull
from consona.messaging.bodies import encoded
from consona.messaging.checks import checked_headers, checked_text, known_powers, positive, refused
from consona.messaging.cron import Cron
from consona.messaging.engine import DeadLetter, Depth, Entry, Inspection, Power, QueueEngine, SupportsTransactions
from consona.messaging.message import Message, lost
from consona.messaging.results import PREFIX, Handle, Results
from consona.messaging.schedule import Missed, Schedule
from consona.messaging.worker import Worker
from consona.part import Health, Part, Status
from consona.resilience.retry import Retry
from consona.storage.store import open_store
from consona.telemetry.observer import Observer
from consona.telemetry.trace import inject

if TYPE_CHECKING:  # SQLite is loaded where its scheme is used
    from consona.storage.transaction import SharedTransaction

__all__ = ["MAX_BODY_BYTES", "MessageQueue"]

MAX_BODY_BYTES: Final = 1_000_000
MAX_NAME_BYTES: Final = 200
MAX_KEY_BYTES: Final = 500
MAX_AT_ONCE: Final = 10_000
MAX_DELAY_S: Final = 366 * 86_400.0
FOREVER_S: Final = 3600.0
DEPTH_FRESH_S: Final = 0.25

MAX_ERROR: Final = 500
"""Characters of an error that the history keeps."""

_UNFIT_IN_ERRORS: Final = re.compile("[\x00\ud800-\udfff]")
"""What not every engine can keep."""
H = TypeVar("H", bound=Callable[..., Any])


class MessageQueue(Part):
    """One queue; the same on every engine.

    Args:
        name: The queue's: 1 to 200 bytes of UTF-8. All who name the same queue at the same address share it.
        target: The address of an engine (`memory://`, `sqlite:///work.db`), or an engine.
        lease: Seconds for which a message is held by who took it. `work` extends it while a handler runs.
        retry: How often a handler is tried, and how long after a failure; a worker may have its own.
        max_messages: How many messages the queue may hold before `put` raises `QueueFull`; None for no limit. It is
            looked at a few times in a second, so that a little more may get in.
        dedup_window: Seconds for which `put(dedup=)` remembers.
        results: Seconds for which is kept what became of a message, for `handle.result()`; None keeps nothing.
        powers: What the engine must be able to do beyond the core (`"priority"`, `"order"`, …); asked for at start.
        observer: Where its operations are noted.
        clock: Seconds since the epoch, where the engine has no clock of its own.

    Raises:
        AddressError: No engine has the address' scheme.
        ConfigurationError: (at start) The engine lacks a power that was asked for.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with MessageQueue("emails", "memory://") as queue:
        ...         await queue.put({"to": "ada@example.org"})
        ...         async with queue.get() as message:
        ...             return message.data()
        >>> asyncio.run(main())
        {'to': 'ada@example.org'}
    """

    kind: ClassVar[str] = "queue"

    def __init__(
        self,
        name: str,
        target: str | Address | QueueEngine,
        *,
        lease: float = 60.0,
        retry: Retry = Retry(attempts=5, backoff=1.0, max_wait=600.0),  # noqa: B008  frozen
        max_messages: int | None = None,
        dedup_window: float = 300.0,
        results: float | None = None,
        powers: Iterable[str] = (),
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(checked_text("name", name, MAX_NAME_BYTES), observer=observer)
        if isinstance(target, str | Address):
            address = Address.parse(target)
            target = adapter_for("queue", address)(address, clock=clock)
            store = open_store(address, name=f"{name} results", prefix=PREFIX, clock=clock) if results else None
        else:
            store = None
        assert not isinstance(target, str | Address)
        if results is not None and store is None:
            raise ConfigurationError("A queue that keeps results needs an address, and seconds above 0.")
        self.engine: QueueEngine = target
        self.results = None if store is None else Results(store, self.name, positive("results", results or 0.0))
        self.lease = positive("lease", lease)
        self.retry = retry
        self.max_messages = max_messages
        self.dedup_window = positive("dedup_window", dedup_window)
        self.workers: list[Worker] = []
        self.schedules: dict[str, Schedule] = {}
        self.clock = clock
        self._needed = known_powers(powers)
        self._depth = Depth()
        self._depth_until = 0.0
        self._put_since = 0

    async def _open(self) -> None:
        for power in sorted(self._needed - self.engine.powers):
            raise self._lacks(power)
        await self.engine.open()
        if self.results is not None:
            try:
                await self.results.store.start()
            except BaseException:
                await self.engine.close()
                raise

    async def _close(self) -> None:
        if self.results is not None:
            await self.results.store.stop()
        await self.engine.close()

    def handle(self, id_: str) -> Handle:
        """What can be asked about a message that another process put, by its id."""
        return Handle.of(id_, self)

    async def check(self) -> Health:
        """Whether the queue can be reached now, and how much is in it."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        try:
            depth = await self.depth()
        except ConsonaError as error:
            return Health(Status.DOWN, error.message)
        return Health(Status.UP, detail={"unfinished": depth.unfinished, "dead": depth.dead})

    def detail(self) -> dict[str, Any]:
        depth = self._depth  # the newest that was asked for
        return {"ready": depth.ready, "delayed": depth.delayed, "leased": depth.leased, "dead": depth.dead}

    # Putting.

    async def put(
        self,
        data: Any,
        *,
        delay: float = 0.0,
        key: str = "",
        priority: int = 0,
        dedup: str = "",
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        tx: SharedTransaction | None = None,
    ) -> Handle:
        """Put one message, durably. Returns its id (of a duplicate: the id of the first), which is a `Handle`.

        Args:
            data: A Struct, a dataclass, a dict, … (becomes JSON), text or bytes; up to 1,000,000 bytes.
            delay: Seconds until it can be taken; up to a year.
            key: Messages with the same key are handled one after another, in the order in which they were put.
            priority: 0 to 9. Higher first; one step counts as much as a minute of waiting.
            dedup: A second message with the same text is not put within the queue's `dedup_window`.
            headers: Texts by name, together up to 64,000 bytes.
            wait: Seconds to wait for room, where the queue holds `max_messages`.
            tx: Put it in this open transaction of the same database: with the rest, or not at all.

        Raises:
            ValidationError: Something of it is too large, or is no data.
            QueueFull: The queue holds `max_messages`, and held them for `wait` seconds.
            ConfigurationError: The engine cannot do what was asked for.
        """
        entry = self._entry(data, headers, delay=delay, key=key, priority=priority, dedup=dedup)
        [name] = await self._put([entry], tx, wait_s=wait)
        return name

    async def put_many(
        self,
        items: Sequence[Any],
        *,
        delay: float = 0.0,
        key: str = "",
        priority: int = 0,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        tx: SharedTransaction | None = None,
    ) -> list[Handle]:
        """Put up to 10,000 messages together, in order: all or none. Returns their ids. See `put`."""
        if len(items) > MAX_AT_ONCE:
            raise refused("items", f"expected at most {MAX_AT_ONCE} at once, got {len(items)}")
        return await self._put(
            [self._entry(item, headers, delay=delay, key=key, priority=priority, dedup="") for item in items],
            tx,
            wait_s=wait,
        )

    async def _put(self, entries: list[Entry], tx: SharedTransaction | None, *, wait_s: float = 0.0) -> list[Handle]:
        engine = self._engine(tx)
        with self.observer.operation("put") as op:
            op.set(messages=len(entries), bytes=sum(len(entry.body) for entry in entries))
            if not entries:
                return []
            await self._wait_for_room(len(entries), wait_s)
            ids = await engine.put(self.name, [self._traced(entry) for entry in entries])
            return [Handle.of(name, self) for name in ids]

    def _entry(
        self, data: Any, headers: Mapping[str, str] | None, *, delay: float, key: str, priority: int, dedup: str
    ) -> Entry:
        body, told = encoded(data)
        if len(body) > MAX_BODY_BYTES:
            raise refused("body", f"expected at most {MAX_BODY_BYTES} bytes, got {len(body)}")
        told.update(checked_headers(headers or {}))
        if not 0 <= delay <= MAX_DELAY_S:
            raise refused("delay", "expected seconds, from 0 to a year")
        if priority not in range(10):
            raise refused("priority", "expected a number from 0 to 9")
        asked = {Power.DELAY: delay, Power.PRIORITY: priority, Power.ORDER: key, Power.DEDUPLICATION: dedup}
        for power, value in asked.items():
            if value and power not in self.engine.powers:
                raise self._lacks(power)
        return Entry(
            body,
            told,
            delay_s=float(delay),
            priority=priority,
            key=checked_text("key", key, MAX_KEY_BYTES) if key else "",
            dedup=checked_text("dedup", dedup, MAX_KEY_BYTES) if dedup else "",
            dedup_s=self.dedup_window if dedup else 0.0,
        )

    def _traced(self, entry: Entry) -> Entry:
        inject(entry.headers)  # type: ignore[arg-type]  # a dict of our own making
        return entry

    async def _wait_for_room(self, count: int, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while self.max_messages is not None:
            if time.monotonic() >= self._depth_until:
                await self.depth()
            if self._depth.unfinished + self._put_since + count <= self.max_messages:
                self._put_since += count
                return
            left = until - time.monotonic()
            if left <= 0:
                raise QueueFull(
                    f"The queue {self.name!r} holds {self._depth.unfinished} messages; its limit is {self.max_messages}.",
                    queue=self.name,
                )
            await asyncio.sleep(min(left, DEPTH_FRESH_S))

    # Taking.

    @asynccontextmanager
    async def get(self, *, wait: float | None = None, lease: float | None = None) -> AsyncIterator[Message]:
        """Take one message: `async with queue.get() as message`. Done when the block ends well, else tried again.

        Args:
            wait: Seconds to wait for one; None waits for ever.
            lease: Seconds for which it is held; by default the queue's.

        Raises:
            TimeoutError: None came in time.
            LeaseLost: (when the block ends) It took longer than the lease, and somebody else has it now.
        """
        messages: list[Message] = []
        until = None if wait is None else time.monotonic() + wait
        while not messages:
            left = FOREVER_S if until is None else until - time.monotonic()
            messages = await self.get_many(1, wait=max(0.0, left), lease=lease)
            if not messages and until is not None and time.monotonic() >= until:
                raise TimeoutError(f"No message came into the queue {self.name!r} within {wait:g} s.")
        async with messages[0] as message:
            yield message

    async def get_many(self, limit: int, *, wait: float = 0.0, lease: float | None = None) -> list[Message]:
        """Take up to `limit` messages, waiting up to `wait` seconds for the first. `ack` or `release` each.

        An empty list means that none came in time.
        """
        self._require_started()
        if not 1 <= limit <= MAX_AT_ONCE:
            raise refused("limit", f"expected a number from 1 to {MAX_AT_ONCE}")
        lease_s = self.lease if lease is None else positive("lease", lease)
        leases = await self.engine.take(self.name, limit=limit, lease_s=lease_s, wait_s=wait)
        with self.observer.operation("get") as op:  # what it waited is no work
            op.set(messages=len(leases))
        return [Message(self, taken) for taken in leases]

    async def settle(self, messages: Sequence[Message], *, tx: SharedTransaction | None = None) -> None:
        """These messages are done, and gone: together.

        Raises:
            LeaseLost: One of them is somebody else's now; the others are done.
        """
        engine = self._engine(tx)
        with self.observer.operation("ack") as op:
            op.set(messages=len(messages))
            leases = {id(message.lease): message for message in messages}
            for gone in await engine.settle(self.name, [message.lease for message in messages]):
                raise lost(leases[id(gone)])

    async def give_back(self, message: Message, *, delay: float, error: str, dead: bool) -> None:
        """See `Message.release`."""
        self._require_started()
        with self.observer.operation("bury" if dead else "release"):
            words = _UNFIT_IN_ERRORS.sub("\ufffd", error)[:MAX_ERROR]
            if not await self.engine.release(self.name, message.lease, delay_s=delay, error=words, dead=dead):
                raise lost(message)

    async def extend(self, message: Message, lease: float | None = None) -> Any:
        """See `Message.extend`. Returns the lease as it is then."""
        self._require_started()
        seconds = self.lease if lease is None else positive("lease", lease)
        with self.observer.operation("extend"):
            extended = await self.engine.extend(self.name, message.lease, lease_s=seconds)
            if extended is None:
                raise lost(message)
        return extended

    # Working.

    def worker(
        self,
        *,
        concurrency: int = 1,
        retry: Retry | None = None,
        timeout: float | None = None,
        name: str = "",
    ) -> Callable[[H], H]:
        """Register a handler; `work` (or `consona worker`) runs it. The function itself stays as it is.

        The handler takes what was put, checked against the type of its first parameter, and (where it
        has a second one) the `Message`. A plain function runs in a thread.

        Args:
            concurrency: How many messages it handles at the same time.
            retry: By default the queue's.
            timeout: Seconds that it may take for one message; then it is interrupted, which counts as a failure.
            name: What the dashboard calls it; by default the function's name.

        Raises:
            ConfigurationError: The queue has a handler already, or the function takes nothing.
        """

        def register(handler: H) -> H:
            if self.workers:
                raise ConfigurationError(
                    f"The queue {self.name!r} has the handler {self.workers[0].name!r} already.",
                    hint="Use one queue for each kind of work, or tell the kinds apart in the handler.",
                )
            self.workers.append(
                Worker(self, handler, concurrency=concurrency, retry=retry or self.retry, timeout_s=timeout, name=name)
            )
            return handler

        return register

    def every(
        self,
        cron: str,
        data: Any,
        *,
        zone: str = "UTC",
        name: str = "",
        missed: Missed = "once",
        key: str = "",
        priority: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Put `data` at each time of a schedule, once for all processes; `work` (or `consona worker`) does it.

        Args:
            cron: Five fields (`"0 9 * * mon-fri"`), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
            data: As for `put`.
            zone: In which time zone, by its IANA name.
            name: What tells it from the queue's other schedules; by default the cron text and the zone.
            missed: Of the times for which nobody was there, `once` handles the first one late, `all` each one late,
                and `skip` none (whatever is more than a minute late).
            key: As for `put`.
            priority: As for `put`.
            headers: As for `put`.

        Raises:
            ConfigurationError: It is no schedule, or the queue has one of that name, or the engine has no delay or
                no deduplication.
        """
        name = checked_text("name", name or f"{cron} {zone}", MAX_NAME_BYTES)
        if name in self.schedules:
            raise ConfigurationError(f"The queue {self.name!r} has the schedule {name!r} already.", hint="Name it.")
        for power in (Power.DELAY, Power.DEDUPLICATION):
            if power not in self.engine.powers:
                raise self._lacks(power)
        entry = self._entry(data, headers, delay=0.0, key=key, priority=priority, dedup="")
        self.schedules[name] = Schedule(name, Cron(cron, zone), entry, missed)

    async def put_scheduled(self, entry: Entry) -> None:
        """What a schedule puts, unless another process has."""
        await self._put([entry], None)

    async def work(self, *, drain: float = 30.0, until_empty: bool = False) -> None:
        """Run the registered handler until cancelled (or, `until_empty`, until nothing is left to do now).

        Cancelled, it takes no more; what is being handled has `drain` seconds to end, then it is interrupted
        and given back.

        Raises:
            ConfigurationError: No handler is registered.
        """
        self._require_started()
        if not self.workers:
            raise ConfigurationError(
                f"The queue {self.name!r} has no handler.", hint="Register one: @queue.worker() above a function."
            )
        await self.workers[0].run(drain_s=drain, until_empty=until_empty)

    # Looking, and dead letters.

    async def depth(self) -> Depth:
        """How many messages it holds: ready, delayed, leased, dead."""
        self._depth = await self._inspection().depth(self.name)
        self._depth_until = time.monotonic() + DEPTH_FRESH_S
        self._put_since = 0
        return self._depth

    async def names(self) -> list[str]:
        """The names of all queues at the same address, sorted."""
        return await self._inspection().queues()

    async def dead_letters(self, *, after: str = "") -> AsyncIterator[DeadLetter]:
        """Those that will not be tried again by themselves, in the order in which they died."""
        while letters := await self._inspection().dead(self.name, after=after, limit=100):
            for letter in letters:
                yield letter
            after = letters[-1].id

    async def redrive(self, *ids: str, data: Any = None) -> int:
        """Put dead letters back into the queue, as new messages: these, or all where none is named.

        Args:
            ids: Of the dead letters.
            data: Take this in place of what the (single) letter carried.

        Returns:
            How many there were.
        """
        if data is not None and len(ids) != 1:
            raise refused("ids", "expected exactly one letter that is to be mended")
        replacement = None
        if data is not None:
            body, headers = encoded(data)
            replacement = Entry(body, headers)
        inspection = self._inspection()
        with self.observer.operation("redrive") as op:
            chosen = list(ids) or [letter.id async for letter in self.dead_letters()]
            count = await inspection.redrive(self.name, chosen, replacement=replacement)
            op.set(messages=count)
        return count

    async def purge(self, *ids: str) -> int:
        """Remove dead letters for ever: these, or all where none is named. Returns how many there were."""
        inspection = self._inspection()
        with self.observer.operation("purge") as op:
            chosen = list(ids) or [letter.id async for letter in self.dead_letters()]
            count = await inspection.bury(self.name, chosen)
            op.set(messages=count)
        return count

    def _inspection(self) -> Inspection:
        self._require_started()
        return self.engine  # type: ignore[return-value]  # every engine is both

    def _engine(self, tx: SharedTransaction | None) -> QueueEngine:
        self._require_started()
        if tx is None:
            return self.engine
        if not isinstance(self.engine, SupportsTransactions):
            raise self._lacks(Power.TRANSACTIONS)
        return self.engine.inside(tx)

    def _lacks(self, power: Power) -> ConfigurationError:
        return ConfigurationError(
            f"The engine of the queue {self.name!r} has no {power.value}.",
            hint="The page of the queue's engines tells which has it.",
            queue=self.name,
            power=power.value,
        )
