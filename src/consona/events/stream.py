"""Figures over streams of events: filtered, grouped, cut into windows of time, and kept.

    sales = (
        bus.stream(OrderPlaced)
        .key_by(lambda order: order.item)
        .window(minutes=5)
        .aggregate("sales", orders=count(), revenue=total(lambda order: order.total))
    )

    @sales.on_result
    async def show(result: WindowResult): ...

The time of an event is the one it carries. A window is complete when an event has come that is
`lateness` seconds younger than its end; what comes for it after that is late.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from consona.errors import ConfigurationError
from consona.events.aggregates import Aggregate
from consona.events.records import Received
from consona.events.windows import Windows

if TYPE_CHECKING:  # the bus makes streams, so the import can only go one way
    from consona.events.bus import EventBus

__all__ = ["Stream", "View", "WindowResult", "WindowedStream"]

DAY_S = 86_400.0


class WindowResult(msgspec.Struct, frozen=True):
    """What became of one window of one key."""

    key: str
    start: datetime
    end: datetime
    values: dict[str, Any]
    """Each figure by its name; sums and extremes as text, where they were read from the store."""


@dataclass(frozen=True)
class Stream:
    """Events on their way to a figure. Made by `bus.stream`."""

    bus: EventBus
    events: tuple[Any, ...]
    steps: tuple[Callable[[Any], Any], ...] = ()
    """Each takes the event and gives the next one, or `DROPPED`."""
    key: Callable[[Any], Any] | None = None

    def filter(self, keep: Callable[[Any], object]) -> Stream:
        """Only the events for which `keep(event)` is true."""
        return replace(self, steps=(*self.steps, lambda event: event if keep(event) else DROPPED))

    def map(self, change: Callable[[Any], Any]) -> Stream:
        """`change(event)` in place of each event."""
        return replace(self, steps=(*self.steps, change))

    def key_by(self, key: Callable[[Any], Any]) -> Stream:
        """A figure for each `key(event)`: a text or a number. Without it, one for all."""
        return replace(self, key=key)

    def window(
        self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0, every: float | None = None
    ) -> WindowedStream:
        """Windows of this length, side by side; or, with `every` (seconds), one that begins so often.

        They begin at multiples of their distance since 1970 (UTC): those of an hour at the full hour.

        Raises:
            ConfigurationError: The length is not above 0, or `every` is longer than it.
        """
        size = seconds + 60 * minutes + 3600 * hours + DAY_S * days
        return WindowedStream(self, Windows(size, size if every is None else every))

    def session(self, gap: float) -> WindowedStream:
        """One window for all events of a key between which never `gap` seconds pass.

        Raises:
            ConfigurationError: The gap is not above 0.
        """
        return WindowedStream(self, Windows(gap, gap, sessions=True))


DROPPED = object()


@dataclass(frozen=True)
class WindowedStream:
    """A stream that is cut into windows. Made by `Stream.window` and `Stream.session`."""

    stream: Stream
    windows: Windows

    def aggregate(
        self,
        durable: str,
        *,
        lateness: float = 0.0,
        time: Callable[[Any], datetime] | None = None,
        start: Any = "new",
        keep: float = 7 * DAY_S,
        **figures: Aggregate,
    ) -> View:
        """Compute these figures for each window and key, wherever the bus works.

        Args:
            durable: The name of this computation: its position and its state are kept, so that a killed
                program goes on with the same results.
            lateness: Seconds for which a window waits for events that come out of order.
            time: The time of an event; by default the one it carries.
            start: Where it begins, see `EventBus.on`.
            keep: Seconds for which results can be read.
            figures: What to compute, by name: `count()`, `total(...)`, `mean(...)`, `smallest(...)`, `largest(...)`,
                `percentile(...)`, `distinct(...)`.

        Raises:
            ConfigurationError: No figure was asked for, or the name is taken.
        """
        if not figures:
            raise ConfigurationError("aggregate() computes nothing.", hint="Name a figure: orders=count()")
        if not lateness >= 0 or not keep > 0:
            raise ConfigurationError("aggregate(): lateness cannot be negative, and keep must be above 0 seconds.")
        view = View(self.stream, self.windows, durable, lateness, time, start, keep, figures)
        self.stream.bus._add_view(view)
        return view


@dataclass(eq=False)
class View:
    """Figures that are kept up to date. Made by `WindowedStream.aggregate`.

    Attributes:
        late: How many events came too late, in this process.
    """

    stream: Stream
    windows: Windows
    durable: str
    lateness_s: float
    time: Callable[[Any], datetime] | None
    start: Any
    keep_s: float
    figures: dict[str, Aggregate]
    late: int = 0
    result_handler: Callable[[WindowResult], Awaitable[None]] | None = None
    late_handler: Callable[[Any, Received], Awaitable[None]] | None = None

    def on_result(
        self, handler: Callable[[WindowResult], Awaitable[None]]
    ) -> Callable[[WindowResult], Awaitable[None]]:
        """Call `handler(result)` for each complete window: at least once, with the same values each time."""
        self.result_handler = handler
        return handler

    def on_late(
        self, handler: Callable[[Any, Received], Awaitable[None]]
    ) -> Callable[[Any, Received], Awaitable[None]]:
        """Call `handler(event, received)` for each event that came too late; else they are only counted."""
        self.late_handler = handler
        return handler

    async def results(self, key: str | None = None) -> AsyncIterator[WindowResult]:
        """The complete windows that are kept, by key and time: of one key, or of all."""
        store = self.stream.bus.store
        prefix = f"result/{self.durable}/" + ("" if key is None else f"{key_name(key)}/")
        async for item in store.scan(prefix):
            yield msgspec.msgpack.decode(item.value, type=WindowResult)

    async def open_windows(self, key: str | None = None) -> list[WindowResult]:
        """The windows that are not complete, as they stand, by key and time."""
        found = []
        store = self.stream.bus.store
        async for item in store.scan(f"stream/{self.durable}/key/" + ("" if key is None else key_name(key))):
            state = msgspec.msgpack.decode(item.value, type=KeyState)
            found += [self.result(state.key, window) for window in state.windows]
        return found

    def result(self, key: str, window: OpenWindow) -> WindowResult:
        return WindowResult(
            key,
            datetime.fromtimestamp(window.start, UTC),
            datetime.fromtimestamp(window.end, UTC),
            {name: figure.result(window.states[name]) for name, figure in self.figures.items()},
        )


class OpenWindow(msgspec.Struct):
    """The state of one window of one key."""

    start: float
    end: float
    states: dict[str, Any]


class KeyState(msgspec.Struct):
    """Everything that is kept of one key."""

    key: str
    position: int
    """The last event that is in it, so that one that comes again is left out."""
    windows: list[OpenWindow]


def key_name(key: str) -> str:
    """A key as part of a name in the store: of bounded length, without a slash."""
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
