"""Events: what happened, told by one to all who want to know, each at least once.

    bus = EventBus("sqlite:///bus.db", outbox=[db])

    @bus.on(OrderPlaced, durable="billing")
    async def bill(event: OrderPlaced): ...

    async with bus:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO orders ...")
            await bus.publish(OrderPlaced(id=7), tx=tx)     # both or neither
        await bus.work()                                    # or, in a process of its own: consona worker shop:bus

A bus keeps its events, in order, in a log. A durable consumer has a position in it: started again, it goes
on where it was, and a new one can begin anywhere in what is kept. One without a name gets what comes
while it runs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from uuid import uuid4

from consona.address import Address
from consona.errors import ConfigurationError, FieldProblem, ValidationError
from consona.events import inbox
from consona.events.asyncapi import document
from consona.events.cloudevents import CloudEvent
from consona.events.consumer import LEASE_S, Consumer
from consona.events.event import Upcasters
from consona.events.handler import Handler, Subscription, subscribed
from consona.events.lease import Lease
from consona.events.looking_back import LookingBack, Place
from consona.events.outbox import Outbox, Relay
from consona.events.processor import Processor
from consona.events.records import TRACE, entry_of, wrapped
from consona.events.saga import Saga
from consona.events.stream import Stream, View
from consona.log.log import Entry, Log, Retention
from consona.part import Health, Part, Status
from consona.resilience.retry import Retry
from consona.sql.transaction import Transaction
from consona.storage.store import Store
from consona.storage.sweeping import Sweeper
from consona.telemetry.observer import Observer
from consona.telemetry.trace import inject

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.storage.transaction import SharedTransaction

__all__ = ["EventBus"]

MAX_DATA_BYTES: Final = 900_000
MAX_NAME_BYTES: Final = 100
FORGET_PAUSE_S: Final = 60.0

H = TypeVar("H", bound=Handler)
T = TypeVar("T")


class EventBus(Part, LookingBack):
    """One bus; the same on every engine of the log.

    Args:
        target: The address of an engine (`memory://`, `sqlite:///bus.db`, …). The log and the positions are there.
        name: All who name the same bus at the same address share it.
        source: The attribute `source` of the events that are published here; by default `/` and the name.
        outbox: Databases in whose transactions events are published, where they are not the bus's own.
        retention: How long, and how many events are kept. A consumer that falls behind stops with a `GapError`.
        consume: Handle events in this process, from its start to its stop. Else `work` or `consona worker` does.
        observer: Where its operations are noted.
        clock: Seconds since the epoch, where the engine has no clock of its own.

    Raises:
        AddressError: No engine has the address' scheme.

    Example:
        >>> import asyncio, msgspec
        >>> class Greeted(msgspec.Struct):
        ...     name: str
        >>> async def main():
        ...     async with EventBus("memory://example") as bus:
        ...         await bus.publish(Greeted("Ada"))
        ...         return [(r.event.type, r.event.json()) async for r in bus.events()]
        >>> asyncio.run(main())
        [('Greeted', {'name': 'Ada'})]
    """

    kind: ClassVar[str] = "events"

    def __init__(
        self,
        target: str | Address,
        *,
        name: str = "events",
        source: str = "",
        outbox: Iterable[SQLDatabase] = (),
        retention: Retention = Retention(),  # noqa: B008  frozen
        consume: bool = False,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not name or len(name.encode()) > MAX_NAME_BYTES:
            raise ConfigurationError(f"EventBus(name=…): expected 1 to {MAX_NAME_BYTES} bytes of UTF-8.")
        super().__init__(name, observer=observer)
        self.address = Address.parse(target)
        self.source = source or f"/{name}"
        self.retention = retention
        self.log_stream = f"events/{name}"
        """Its stream in the log."""
        self.process = f"{os.getpid()}-{uuid4().hex[:8]}"
        self.log = Log(self.address, name=f"{name} log", retention=retention, observer=self.observer, clock=clock)
        self.store = Store(self.address, prefix=f"events/{name}/", observer=self.observer, clock=clock)
        self.upcasters = Upcasters()
        self._outboxes = [Outbox(db, name) for db in outbox]
        self._relays: list[Relay] = []
        self._subscriptions: list[Subscription] = []
        self._sagas: list[Saga] = []
        self._consumers: list[Consumer] = []
        self._consume = consume
        self._working: asyncio.Task[None] | None = None
        self._sweeper = Sweeper(self._forget, pause_s=FORGET_PAUSE_S)
        self._clock = clock

    async def _open(self) -> None:
        opened: list[Part | Outbox] = []
        try:
            for part in self._parts():
                await part.start()
                opened.append(part)
            for db in self._inboxes():
                await inbox.prepare(db)
            self._consumers = [
                Consumer(self, each, clock=self._clock)
                if each.view is None
                else Processor(self, each, each.view, clock=self._clock)
                for each in self._subscriptions
            ]
            for consumer in self._consumers:
                await consumer.prepare()
        except BaseException:
            for part in reversed(opened):
                await part.stop()
            raise
        for outbox in self._outboxes:
            lease = Lease(self.store, f"lease/outbox/{outbox.place}", self.process, ttl_s=LEASE_S)
            self._relays.append(Relay(outbox, lease, self._append, renew_s=LEASE_S / 3))
            self._relays[-1].start()
        self._sweeper.start()
        if self._consume:
            self._working = asyncio.create_task(self._run(drain_s=10.0, until_empty=False), name=f"{self.name} work")

    async def _close(self) -> None:
        if self._working is not None:
            self._working.cancel()
            with suppress(asyncio.CancelledError):
                await self._working
            self._working = None
        await self._sweeper.stop()
        for relay in self._relays:
            await relay.stop()
        self._relays.clear()
        for part in reversed(self._parts()):
            await part.stop()

    def _parts(self) -> list[Part | Outbox]:
        return [self.log, self.store, *self._outboxes, *self._inboxes()]

    def _inboxes(self) -> list[SQLDatabase]:
        """The databases in which it is noted what was handled, each once."""
        of_handlers = [each.once for each in self._subscriptions if each.once is not None]
        of_sagas = [db for saga in self._sagas for db in saga.databases()]
        return list(dict.fromkeys([*of_handlers, *of_sagas]))

    async def check(self) -> Health:
        """Whether the log can be reached, and every consumer goes on."""
        health = await self.log.check()
        stuck = {each.name: each.problem.message for each in self._consumers if each.problem is not None}
        if not health.ok or not stuck:
            return health
        return Health(Status.DEGRADED, "; ".join(f"{name}: {why}" for name, why in stuck.items()), detail=dict(stuck))

    def detail(self) -> dict[str, Any]:
        return {"consumers": {each.name: each.position for each in self._consumers}}

    # Publishing.

    async def publish(
        self,
        event: Any,
        *,
        key: str = "",
        subject: str = "",
        id: str = "",  # noqa: A002  the attribute's name
        extensions: Mapping[str, str | int | bool] | None = None,
        tx: SharedTransaction | None = None,
    ) -> str:
        """Tell what happened, durably. Returns the event's id.

        Args:
            event: A Struct or dataclass, or a `CloudEvent`, which is published as it is. Up to 900,000 bytes of JSON.
            key: Events with the same key are handled in order, also by consumers with `concurrency`.
            subject: What it happened to, within the source: `orders/7`.
            id: Names the event together with the source; by default a new UUID.
            extensions: More attributes of the CloudEvent.
            tx: Publish it with this open transaction, or not at all: one of the bus's own database, or of one
                of `outbox`.

        Raises:
            ValidationError: It is too large, or is no data.
            ConfigurationError: The transaction's database is neither the bus's nor one of `outbox`.
        """
        [name] = await self.publish_many([event], key=key, subject=subject, ids=[id], extensions=extensions, tx=tx)
        return name

    async def publish_many(
        self,
        events: Sequence[Any],
        *,
        key: str = "",
        subject: str = "",
        ids: Sequence[str] = (),
        extensions: Mapping[str, str | int | bool] | None = None,
        tx: SharedTransaction | None = None,
    ) -> list[str]:
        """Publish up to 10,000 events in order: all or none. Returns their ids. See `publish`."""
        self._require_started()
        with self.observer.operation("publish") as op:
            more = dict(extensions or {})
            if TRACE not in more:
                trace: dict[str, str] = {}
                inject(trace)
                more.update({TRACE: trace["traceparent"]} if "traceparent" in trace else {})
            named = ids or [""] * len(events)
            told = [
                each
                if isinstance(each, CloudEvent)
                else wrapped(each, source=self.source, key=key, subject=subject, id=name, extensions=more)
                for each, name in zip(events, named, strict=True)
            ]
            op.set(events=len(told), bytes=sum(_size(each) for each in told))
            await self._publish([entry_of(each) for each in told], tx)
        return [each.id for each in told]

    async def _publish(self, entries: list[Entry], tx: SharedTransaction | None) -> None:
        if tx is None:
            await self._append(entries)
            return
        if not isinstance(tx, Transaction) or self._is_ours(tx.database):
            await self.log.append_many(self.log_stream, entries, tx=tx)
            return
        for outbox in self._outboxes:
            if outbox.db is tx.database:
                await outbox.add(entries, tx)
                return
        raise ConfigurationError(
            f"The transaction's database {tx.database.name!r} is neither that of {self.name} nor one of its outboxes.",
            hint="Name it: EventBus(…, outbox=[db])",
        )

    async def _append(self, entries: Sequence[Entry]) -> None:
        await self.log.append_many(self.log_stream, entries)

    def _is_ours(self, db: SQLDatabase) -> bool:
        """Whether the bus's log lies in this database, so that it shares its transactions."""
        return db.address is not None and _place(db.address) == _place(self.address)

    # Consuming.

    def on(
        self,
        *events: type | str,
        durable: str = "",
        concurrency: int = 1,
        retry: Retry = Retry(attempts=5, backoff=0.5, max_wait=60.0),  # noqa: B008  frozen
        start: Place = "new",
        once: SQLDatabase | None = None,
    ) -> Callable[[H], H]:
        """Register a handler of events; the function itself stays as it is. It runs where the bus works.

        The handler takes the event, and where it likes a parameter of the type `Received` (position, attempt,
        all attributes) and, with `once`, `tx: Transaction`. A plain function runs in a thread.

        Args:
            events: Classes, or patterns of names: `"order.*"` (one word), `"order.>"` (one and more), `">"` (all).
            durable: The consumer's name. It gets each event at least once, also those of the time when it did not
                run; of several processes one handles them. Without a name, each process gets what comes while it
                runs, and what fails is logged and left.
            concurrency: How many events are handled at a time: those with the same key in order, others in any.
                With 1, all in order.
            retry: How often a handler is tried for one event; then the event goes to the dead letters. An event
                that does not fit the handler's type goes there at once.
            start: Where a durable consumer begins that has no position yet.
            once: What the handler writes through the `tx` that it takes happens exactly once, though the event
                may come twice: the database's inbox remembers it in the same transaction.

        Raises:
            ConfigurationError: The handler takes what the bus does not know, or the durable name is taken.
        """

        def register(handler: H) -> H:
            if self.started:
                raise ConfigurationError(f"{self.name} is started already.", hint="Register handlers before that.")
            if durable and any(each.durable == durable for each in self._subscriptions):
                raise ConfigurationError(
                    f"{self.name} has a consumer {durable!r} already.", hint="Give each handler a name of its own."
                )
            if len(durable.encode()) > MAX_NAME_BYTES or not durable.isprintable() or "/" in durable:
                raise ConfigurationError(
                    f"on(durable={durable[:40]!r}): expected up to {MAX_NAME_BYTES} bytes of text without a slash."
                )
            self._subscriptions.append(
                subscribed(
                    events, handler, durable=durable, concurrency=concurrency, retry=retry, start=start, once=once
                )
            )
            return handler

        return register

    def stream(self, *events: type | str) -> Stream:
        """Figures over these events (classes or patterns, see `on`), computed wherever the bus works.

        Example:
            >>> import msgspec
            >>> class Sold(msgspec.Struct):
            ...     item: str
            >>> from consona.events.aggregates import count
            >>> bus = EventBus("memory://")
            >>> sales = bus.stream(Sold).key_by(lambda sold: sold.item).window(minutes=5).aggregate("sales", n=count())
        """
        return Stream(self, events)

    def saga(self, name: str, event: type, *, concurrency: int = 8) -> Saga:
        """Steps for each event of this class, with what undoes them. See `Saga`.

        Args:
            name: Its own; its state is kept under it.
            event: What begins a run.
            concurrency: How many runs go on at a time; those with the same key one after another.
        """
        saga = Saga(self, name, event, concurrency=concurrency, clock=self._clock)
        self._sagas.append(saga)
        return saga

    def _add_view(self, view: View) -> None:
        """See `WindowedStream.aggregate`."""

        async def figures(event: Any) -> None:
            """Stands in the list of handlers under the view's name."""

        self.on(*view.stream.events, durable=view.durable, start=view.start)(figures)
        self._subscriptions[-1] = replace(self._subscriptions[-1], view=view)

    def upcast(
        self, declared: type, *, from_version: int
    ) -> Callable[[Callable[[dict[str, Any]], T]], Callable[[dict[str, Any]], T]]:
        """Register how an old event becomes one of the next version: `{...}` in, `{...}` out.

        Raises:
            ConfigurationError: The class has no such older version, or it has that step already.
        """

        def register(step: Callable[[dict[str, Any]], T]) -> Callable[[dict[str, Any]], T]:
            self.upcasters.add(declared, from_version, step)  # type: ignore[arg-type]  # it makes a dict of a dict
            return step

        return register

    def asyncapi(self, *, title: str = "", version: str = "1", publishes: Sequence[type] = ()) -> dict[str, Any]:
        """The AsyncAPI 3 document: the events, their JSON Schemas, and who handles them.

        Args:
            title: By default the bus's name.
            version: Of the events, for readers.
            publishes: The classes of events that this program publishes; those that it handles are known.
        """
        return document(
            title=title or self.name, version=version, subscriptions=self._subscriptions, publishes=publishes
        )

    async def work(self, *, drain: float = 30.0, until_empty: bool = False) -> None:
        """Run the registered handlers until cancelled (or, `until_empty`, until nothing is left to do now).

        Cancelled, it takes no more; what is being handled has `drain` seconds to end, then it is interrupted
        and will come again.

        Raises:
            ConfigurationError: No handler is registered, or this process handles them already (`consume=True`).
        """
        self._require_started()
        if not self._consumers:
            raise ConfigurationError(
                f"{self.name} has no handler.", hint="Register one: @bus.on(OrderPlaced, durable='billing')"
            )
        if self._working is not None:
            raise ConfigurationError(f"{self.name} handles its events already (consume=True).", hint="Leave one out.")
        await self._run(drain_s=drain, until_empty=until_empty)

    async def _run(self, *, drain_s: float, until_empty: bool) -> None:
        tasks = [asyncio.create_task(each.run(until_empty=until_empty), name=each.name) for each in self._consumers]
        if not tasks:
            return
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for consumer in self._consumers:
                consumer.stop()
            _, late = await asyncio.wait(tasks, timeout=drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _forget(self) -> int:
        """Inbox notes of events that cannot come again."""
        if self.retention.max_age is None:
            return 0
        before = self._clock() - 2 * self.retention.max_age
        return sum([await inbox.forget(db, before=before) for db in self._inboxes()])


def _size(event: CloudEvent) -> int:
    size = len(event.data or b"")
    if size > MAX_DATA_BYTES:
        problem = f"expected at most {MAX_DATA_BYTES} bytes, got {size}"
        raise ValidationError(f"The event {event.type!r} is too large.", fields=[FieldProblem("data", problem)])
    return size


def _place(address: Address) -> tuple[Any, ...]:
    """What makes two addresses one database, whatever their options."""
    if address.scheme == "sqlite":
        return ("sqlite", address.canonical.partition("?")[0], address.host)
    scheme = "postgresql" if address.scheme == "postgres" else address.scheme
    return (scheme, address.host, address.port, address.path)
