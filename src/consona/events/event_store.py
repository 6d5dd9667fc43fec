"""An event store: what happened to each thing, in order, as the only record of how it is.

    store = EventStore(db, bus=bus)

    events = await store.read("order-7")
    order = await store.fold("order-7", apply, Order())
    await store.append("order-7", [OrderPaid(id=7)], expected_version=events[-1].version)

Who appends says which version it has seen. Where somebody was faster, nothing is written and `Conflict` is
raised: read again, decide again. With a bus, the events are published in the same transaction.

Source: M. Fowler, "Event Sourcing", 2005; G. Young, "CQRS Documents", 2010.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import msgspec

from consona.errors import ConfigurationError, Conflict, ConsonaError, ConstraintFailed, FieldProblem, ValidationError
from consona.events.cloudevents import CloudEvent
from consona.events.event import EventType, Upcasters, event_type
from consona.events.records import Received, wrapped
from consona.part import Health, Part
from consona.sql import own_tables
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.events.bus import EventBus
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["EventStore", "StoredEvent"]

MAX_STREAM_BYTES: Final = 200
MAX_AT_ONCE: Final = 1000
TRIES: Final = 20
"""How often to append whatever the version is, while others do so too."""
PAGE: Final = 500

S = TypeVar("S")

STEPS: Final = (
    (
        """CREATE TABLE IF NOT EXISTS consona_event_store (
            number {numbered},
            stream VARCHAR(200) NOT NULL,
            version BIGINT NOT NULL,
            attributes {bytes} NOT NULL,
            data {bytes} NOT NULL,
            UNIQUE (stream, version))""",
    ),
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a stream."""

    stream: str
    version: int
    """1 for the first of its stream, and one more for each."""
    number: int
    """Grows over all streams of the database."""
    event: CloudEvent
    """All attributes, and the data as bytes."""
    data: Any
    """An instance of the class that the store knows by this type's name, else plain data."""


class EventStore(Part):
    """Streams of events in a SQL database.

    Args:
        db: Where they are: SQLite, PostgreSQL or MariaDB.
        types: The classes of events that it reads.
        bus: Publish what is appended there, in the same transaction: its own database, or one of its outboxes.
        source: The attribute `source` of the events.
        name: What the dashboard calls it.

    Raises:
        ConfigurationError: Two of the classes have the same name.
    """

    kind: ClassVar[str] = "event store"

    def __init__(
        self,
        db: SQLDatabase,
        *,
        types: Sequence[type] = (),
        bus: EventBus | None = None,
        source: str = "",
        name: str = "event store",
        observer: Observer | None = None,
    ) -> None:
        super().__init__(name, observer=observer)
        self.db = db
        self.bus = bus
        self.source = source or (bus.source if bus is not None else f"/{name.replace(' ', '-')}")
        self.upcasters: Upcasters = bus.upcasters if bus is not None else Upcasters()
        self._types: dict[str, type] = {}
        for each in types:
            kind: EventType = event_type(each)
            if self._types.setdefault(kind.name, each) is not each:
                raise ConfigurationError(
                    f"Two classes of {name} are called {kind.name!r}.", hint="Give each a name of its own: @event(…)"
                )

    async def _open(self) -> None:
        await self.db.start()
        try:
            await own_tables.prepare(self.db, "event_store", STEPS)
        except BaseException:
            await self.db.stop()
            raise

    async def _close(self) -> None:
        await self.db.stop()

    async def check(self) -> Health:
        """Whether its database can be asked now."""
        return await self.db.check() if self.started else await super().check()

    async def append(
        self, stream: str, events: Sequence[Any], *, expected_version: int | None, tx: Transaction | None = None
    ) -> int:
        """Append up to 1,000 events, all or none. Returns the stream's version then.

        Args:
            stream: Its name, such as `order-7`: up to 200 bytes of UTF-8. Made by its first event.
            events: Structs, dataclasses, or `CloudEvent`s.
            expected_version: That of the last event you have seen; 0 for a stream that must be new. None appends
                whatever is there.
            tx: Append in this open transaction of the same database, with the rest.

        Raises:
            Conflict: The stream has another version. With `tx`, that transaction cannot go on.
            ValidationError: Something of it is too large, or is no data.
        """
        self._require_started()
        _checked(stream, events)
        with self.observer.operation("append") as op:
            op.set(events=len(events))
            told = [
                each
                if isinstance(each, CloudEvent)
                else wrapped(each, source=self.source, key=stream, subject=stream, id="", extensions={})
                for each in events
            ]
            if tx is not None:
                return await self._first(self._append(stream, told, expected_version, tx), stream, expected_version)
            for last in (*[False] * (TRIES - 1), True):
                writing = self.db.run_in_transaction(
                    lambda tx: self._append(stream, told, expected_version, tx), name="append"
                )
                try:
                    return await self._first(writing, stream, expected_version)
                except Conflict:
                    if expected_version is not None or last:
                        raise
            raise AssertionError  # the last try ended in one way or the other

    async def _first(self, writing: Awaitable[int], stream: str, expected: int | None) -> int:
        try:
            return await writing
        except ConstraintFailed as error:
            raise self._conflict(stream, expected) from error

    async def _append(self, stream: str, events: Sequence[CloudEvent], expected: int | None, tx: Transaction) -> int:
        version = await self._version(tx, stream)
        if expected is not None and version != expected:
            raise self._conflict(stream, expected, version)
        for version, each in enumerate(events, version + 1):  # noqa: B020  counted on from what there is
            await tx.execute(
                "INSERT INTO consona_event_store (stream, version, attributes, data) VALUES (?, ?, ?, ?)",
                stream,
                version,
                msgspec.msgpack.encode(each.attributes()),
                each.data or b"",
            )
        if self.bus is not None and events:
            await self.bus.publish_many(events, tx=tx)
        return version

    async def version(self, stream: str) -> int:
        """The version of the stream's last event; 0 where it has none."""
        self._require_started()
        return await self._version(self.db, stream)

    async def read(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[StoredEvent]:
        """The events of a stream in order, those behind version `after`, at most `limit`."""
        self._require_started()
        with self.observer.operation("read") as op:
            rows = await self.db.fetch_all(
                "SELECT number, stream, version, attributes, data FROM consona_event_store"
                " WHERE stream = ? AND version > ? ORDER BY version LIMIT ?",
                stream,
                after,
                (1 << 31) - 1 if limit is None else limit,
            )
            op.set(events=len(rows))
        return [self._stored(row) for row in rows]

    async def fold(self, stream: str, apply: Callable[[S, Any], S], state: S) -> tuple[S, int]:
        """How the thing is: `apply(state, event)` for each of its events. Returns that, and the version it has."""
        version = 0
        while page := await self.read(stream, after=version, limit=PAGE):
            for stored in page:
                state = apply(state, stored.data)
            version = page[-1].version
        return state, version

    async def all(self, *, after: int = 0) -> AsyncIterator[StoredEvent]:
        """The events of all streams, by number: those that are committed when they are read.

        To build a projection anew, read all of them; to follow, give the store a bus.
        """
        self._require_started()
        while rows := await self.db.fetch_all(
            "SELECT number, stream, version, attributes, data FROM consona_event_store"
            " WHERE number > ? ORDER BY number LIMIT ?",
            after,
            PAGE,
        ):
            for row in rows:
                yield self._stored(row)
            after = rows[-1]["number"]

    async def _version(self, asked: SQLDatabase | Transaction, stream: str) -> int:
        found = await asked.fetch_value("SELECT max(version) FROM consona_event_store WHERE stream = ?", stream)
        return int(found or 0)

    def _stored(self, row: dict[str, Any]) -> StoredEvent:
        attributes = msgspec.msgpack.decode(bytes(row["attributes"]), type=dict[str, str])
        event = CloudEvent.of(attributes, bytes(row["data"]) or None)
        declared: Any = self._types.get(event.type, Any)
        version = Received(event, 0, 0.0, 1).version
        data = self.upcasters.decode(declared, event.type, version, event.data or b"null")
        return StoredEvent(row["stream"], row["version"], row["number"], event, data)

    def _conflict(self, stream: str, expected: int | None, found: int | None = None) -> ConsonaError:
        stands = "has grown meanwhile" if found is None else f"has version {found}"
        wanted = "" if expected is None else f"; {expected} was expected"
        return Conflict(
            f"The stream {stream!r} {stands}{wanted}.",
            hint="Read it again and decide anew.",
            retryable=True,
            stream=stream,
        )


def _checked(stream: Any, events: Sequence[Any]) -> None:
    if not isinstance(stream, str) or not stream or len(stream.encode(errors="replace")) > MAX_STREAM_BYTES:
        problem = f"expected a name of 1 to {MAX_STREAM_BYTES} bytes of UTF-8"
        raise ValidationError("This is no stream.", fields=[FieldProblem("stream", problem)])
    if not 1 <= len(events) <= MAX_AT_ONCE:
        problem = f"expected 1 to {MAX_AT_ONCE} events, got {len(events)}"
        raise ValidationError("Nothing was appended.", fields=[FieldProblem("events", problem)])
