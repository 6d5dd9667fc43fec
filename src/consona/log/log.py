"""Streams of records: appended at the end, read from any position, by as many readers as there are.

    async with Log("sqlite:///bus.db") as log:
        position = await log.append("orders", b"...", headers={"type": "OrderPlaced"})
        page = await log.read("orders", after=position)
        async for record in log.follow("orders", after=0): ...       # all that is kept, and then what comes

A reader remembers the position of the last record that it finished; the log keeps no readers. `LogPort`
is what an engine must do (memory, SQLite; others add theirs); `Log` does everything else. Events,
channels, outboxes and change streams stand on it.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, runtime_checkable

from consona.address import Address, adapter_for
from consona.errors import ConfigurationError, ConsonaError, FieldProblem, GapError, ValidationError
from consona.part import Health, Part, Status
from consona.storage.sweeping import Sweeper
from consona.telemetry.observer import Observer

if TYPE_CHECKING:  # SQLite is loaded where its scheme is used
    from consona.storage.transaction import SharedTransaction

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_STREAM_BYTES",
    "Entry",
    "Log",
    "LogPort",
    "Page",
    "Record",
    "Retention",
    "SupportsTransactions",
]

MAX_STREAM_BYTES: Final = 200
"""Length of a stream's name in UTF-8."""
MAX_BODY_BYTES: Final = 1_000_000
MAX_HEADERS_BYTES: Final = 64_000
MAX_ENTRIES: Final = 10_000
"""How many records one call appends or reads."""
PAGE_BYTES: Final = 4 << 20
WAIT_S: Final = 5.0
TRIM_PAUSE_S: Final = 2.0

_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is appended."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """What was appended, with its place and time."""

    position: int
    """Grows from record to record of a stream; not necessarily by one. At least 1."""
    at: float
    """When it was appended: seconds since the epoch, by the engine's clock; never less than the one before."""
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """Some records in order, and where the stream begins now."""

    records: list[Record]
    begin: int
    """The position before the oldest record that is kept: 0 where nothing was trimmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of a stream is kept; the oldest records go first. None sets no limit.

    The limits are kept within a few seconds, not at every append.
    """

    max_age: float | None = 7 * 86_400.0
    """Seconds."""
    max_records: int | None = 1_000_000
    max_bytes: int | None = 1 << 30
    """Of bodies and headers together."""

    def __post_init__(self) -> None:
        for name in ("max_age", "max_records", "max_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"Retention({name}={value!r}): expected a number above 0, or None.")


class LogPort(Protocol):
    """What an engine must do. What it gets is checked before; times are in seconds.

    A record that was given out stays readable at its position, in the same order, until it is trimmed; a
    reader that goes from page to page sees every record once, also those that were committed late.
    """

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def append(self, stream: str, entries: Sequence[Entry]) -> list[int]:
        """Append all or nothing, durably. Returns their positions."""

    async def read(self, stream: str, *, after: int, limit: int, max_bytes: int) -> Page:
        """The first records behind `after`: at most `limit`, fewer where they are large, at least one if there is one."""

    async def wait(self, stream: str, *, after: int, timeout_s: float) -> None:
        """Return as soon as there is a record behind `after`, or when time is over. May return early."""

    async def trim(self, stream: str, retention: Retention) -> int:
        """Remove what the retention does not keep. Returns how many records that were."""

    async def locate(self, stream: str, at: float) -> int:
        """The position of the last record appended before `at`: the place from which to replay from then.

        `-inf` gives the beginning (see `Page.begin`), `inf` the end (0 where nothing was ever appended).
        """


@runtime_checkable
class SupportsTransactions(Protocol):
    """The engine can take part in a transaction of its database."""

    def inside(self, tx: SharedTransaction) -> LogPort:
        """The same log, appending and reading in the open transaction `tx`."""


class Log(Part):
    """Streams of records; the same on every engine.

    Args:
        target: The address of an engine (`memory://`, `sqlite:///bus.db`), or an engine.
        name: What the dashboard calls it.
        retention: How much of each stream is kept. Whoever appends to a stream also trims it.
        clock: Seconds since the epoch, where the engine has no clock of its own.

    Raises:
        AddressError: No engine has the address' scheme.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with Log("memory://example") as log:
        ...         await log.append("orders", b"one")
        ...         await log.append("orders", b"two")
        ...         return [record.body for record in (await log.read("orders")).records]
        >>> asyncio.run(main())
        [b'one', b'two']
    """

    kind: ClassVar[str] = "log"

    def __init__(
        self,
        target: str | Address | LogPort,
        *,
        name: str = "log",
        retention: Retention = Retention(),
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        if isinstance(target, str | Address):
            address = Address.parse(target)
            target = adapter_for("log", address)(address, clock=clock)
        assert not isinstance(target, str | Address)
        self.engine: LogPort = target
        self.retention = retention
        self._retentions: dict[str, Retention] = {}
        self._appended: dict[str, None] = {}
        self._sweeper = Sweeper(self._trim_appended, pause_s=TRIM_PAUSE_S)

    async def _open(self) -> None:
        await self.engine.open()
        self._sweeper.start()

    async def _close(self) -> None:
        await self._sweeper.stop()
        await self.engine.close()

    async def check(self) -> Health:
        """Whether it can be read now."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        try:
            await self.engine.locate("check", float("inf"))
        except ConsonaError as error:
            return Health(Status.DOWN, error.message)
        return Health(Status.UP)

    def keep(self, stream: str, retention: Retention) -> None:
        """Keep more or less of this stream than of the others."""
        self._retentions[_checked_stream(stream)] = retention

    async def append(
        self, stream: str, body: bytes, *, headers: Mapping[str, str] | None = None, tx: SharedTransaction | None = None
    ) -> int:
        """Append one record, durably. Returns its position.

        Args:
            stream: 1 to 200 bytes of UTF-8 without control characters; made by its first record.
            body: Up to 1,000,000 bytes.
            headers: Texts by name, together up to 64,000 bytes.
            tx: Append in this open transaction of the same database: it happens with the rest, or not at all.
        """
        [position] = await self.append_many(stream, [Entry(body, headers or {})], tx=tx)
        return position

    async def append_many(
        self, stream: str, entries: Sequence[Entry], *, tx: SharedTransaction | None = None
    ) -> list[int]:
        """Append up to 10,000 records in order: all or nothing. Returns their positions."""
        _checked_stream(stream)
        checked = _checked(entries)
        engine = self._engine(tx)
        if not checked:
            return []
        with self.observer.operation("append", stream) as op:
            op.set(records=len(checked), bytes=sum(len(entry.body) for entry in checked))
            positions = await engine.append(stream, checked)
        self._appended[stream] = None
        return positions

    async def read(
        self, stream: str, *, after: int = 0, limit: int = 1000, tx: SharedTransaction | None = None
    ) -> Page:
        """The first records behind position `after`, at most `limit`, and fewer where they are large.

        Raises:
            GapError: Records behind `after` were trimmed before they were read.
        """
        _checked_stream(stream)
        _check_number("after", after, 0, None)
        _check_number("limit", limit, 1, MAX_ENTRIES)
        engine = self._engine(tx)
        with self.observer.operation("read", stream) as op:
            page = await engine.read(stream, after=after, limit=limit, max_bytes=PAGE_BYTES)
            op.set(records=len(page.records))
            if page.begin > after > 0:
                raise GapError(
                    f"{self.name}: the reader of {stream!r} stands at {after}; what followed was trimmed up to"
                    f" {page.begin}.",
                    stream=stream,
                    after=after,
                    begin=page.begin,
                )
        return page

    async def follow(self, stream: str, *, after: int | None = None) -> AsyncIterator[Record]:
        """Every record behind `after`, and then each new one, without end. Leave it with `break`.

        Args:
            stream: Its name; it may have no record yet.
            after: The last position that is done; 0 begins with the oldest that is kept, None with what comes now.

        Raises:
            GapError: The reader was so slow that records were trimmed before they were read.
        """
        position = await self.end(stream) if after is None else after
        while True:
            page = await self.read(stream, after=position)
            for record in page.records:
                yield record
                position = record.position
            if not page.records:
                await self.wait(stream, after=position)

    async def wait(self, stream: str, *, after: int, timeout: float = WAIT_S) -> None:  # noqa: ASYNC109  no scope
        """Return as soon as there is a record behind `after`, and after `timeout` seconds in any case."""
        self._require_started()
        await self.engine.wait(_checked_stream(stream), after=after, timeout_s=timeout)

    async def begin(self, stream: str) -> int:
        """The position before the oldest record that is kept."""
        return await self.position_at(stream, float("-inf"))

    async def end(self, stream: str) -> int:
        """The position of the newest record; 0 where there never was one."""
        return await self.position_at(stream, float("inf"))

    async def position_at(self, stream: str, at: float) -> int:
        """The position behind which the records begin that were appended at `at` (seconds since the epoch) or later."""
        self._require_started()
        return await self.engine.locate(_checked_stream(stream), at)

    async def trim(self, stream: str, retention: Retention | None = None) -> int:
        """Remove now what the retention (by default the stream's own) does not keep. Returns how many records."""
        self._require_started()
        wanted = retention or self._retentions.get(_checked_stream(stream), self.retention)
        with self.observer.operation("trim", stream) as op:
            trimmed = await self.engine.trim(stream, wanted)
            op.set(records=trimmed)
        return trimmed

    async def _trim_appended(self) -> int:
        appended, self._appended = self._appended, {}
        trimmed = 0
        for stream in appended:
            trimmed += await self.engine.trim(stream, self._retentions.get(stream, self.retention))
        return trimmed

    def _engine(self, tx: SharedTransaction | None) -> LogPort:
        self._require_started()
        if tx is None:
            return self.engine
        if not isinstance(self.engine, SupportsTransactions):
            raise ConfigurationError(
                f"{self.name} cannot take part in a transaction: its engine is no database.",
                hint="Give the log the address of the database whose transaction it is.",
            )
        return self.engine.inside(tx)


def _checked_stream(stream: Any) -> str:
    if not isinstance(stream, str) or not stream:
        raise _refused("stream", "expected a name of at least one character")
    if _UNFIT.search(stream):
        raise _refused("stream", "expected no control characters and no halves of surrogate pairs")
    if len(stream.encode()) > MAX_STREAM_BYTES:
        raise _refused("stream", f"expected at most {MAX_STREAM_BYTES} bytes of UTF-8")
    return stream


def _checked(entries: Sequence[Entry]) -> list[Entry]:
    if len(entries) > MAX_ENTRIES:
        raise _refused("entries", f"expected at most {MAX_ENTRIES} at once, got {len(entries)}")
    return [_checked_entry(entry) for entry in entries]


def _checked_entry(entry: Entry) -> Entry:
    body: Any = entry.body
    if not isinstance(body, bytes):
        raise _refused("body", f"expected bytes, got {type(body).__name__}")
    if len(body) > MAX_BODY_BYTES:
        raise _refused("body", f"expected at most {MAX_BODY_BYTES} bytes, got {len(body)}")
    if entry.headers and (size := _size_of(entry.headers)) > MAX_HEADERS_BYTES:
        raise _refused("headers", f"expected at most {MAX_HEADERS_BYTES} bytes, got {size}")
    return entry


def _size_of(headers: Mapping[Any, Any]) -> int:
    try:
        return sum(len(name.encode()) + len(text.encode()) for name, text in headers.items())
    except AttributeError:
        raise _refused("headers", "expected names and values to be text") from None
    except UnicodeEncodeError:
        raise _refused("headers", "expected no halves of surrogate pairs") from None


def _check_number(name: str, value: Any, low: int, high: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        limits = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise _refused(name, f"expected a number {limits}")


def _refused(name: str, problem: str) -> ValidationError:
    return ValidationError(f"The log refused the {name}: {problem}.", fields=[FieldProblem(name, problem)])
