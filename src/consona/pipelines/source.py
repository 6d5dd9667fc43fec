"""Where rows come from: what a source must do, and the simplest of them.

A source gives batches of rows, and after each the position where it goes on. `SQLSource`, `FileSource`,
`APISource`, `DocumentSource` and `RowsSource` are sources.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol, runtime_checkable
from uuid import UUID

import msgspec

from consona.errors import ConfigurationError
from consona.part import Part
from consona.pipelines.batch import Position, Row

__all__ = ["NATIVE_TYPES", "Extracted", "Room", "RowsSource", "Source", "batched"]

NATIVE_TYPES: Final = (datetime, date, time, timedelta, Decimal, UUID, bytes)
"""What stays as it is when a Struct becomes a row."""


@dataclass(slots=True)
class Extracted:
    """Rows that a source gave."""

    rows: list[Row]
    position: Position = None
    places: list[str] | None = None
    """Where each of them stands: `orders.csv:17`."""
    bad: Sequence[tuple[str, str, Any]] = ()
    """What is no row at all: where it stands, why, and its text."""


@dataclass(slots=True)
class Room:
    """How many rows the next batch may have; the run adapts it to how large rows are."""

    rows: int


@runtime_checkable
class Source(Protocol):
    """A place that rows come from."""

    name: str
    incremental: bool
    """Whether a run goes on where the last one ended; else each run reads everything."""
    resumable: bool
    """Whether it can go on at a position in the middle of a run that was cut off."""

    @property
    def parts(self) -> Sequence[Part]:
        """What must be started while it is read."""

    def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        """The rows after `position`, at most `room.rows` at a time, which may change between two batches.

        Each `Extracted.position` is where it goes on after those rows, also in another process later.
        """


RowsMaker = Callable[[], Iterable[Any] | AsyncIterable[Any]]


class RowsSource:
    """Rows of the program itself: a list, a generator, an async generator.

    Args:
        rows: Mappings, Structs or dataclasses; or a function without arguments that gives them, so that a
            pipeline can run more than once over what a generator makes.
        name: What reports call it.

    Example:
        >>> RowsSource([{"id": 1}]).name
        'rows'
    """

    incremental = False

    def __init__(self, rows: Iterable[Any] | AsyncIterable[Any] | RowsMaker, *, name: str = "rows") -> None:
        if isinstance(rows, str | bytes | Mapping) or not (
            callable(rows) or hasattr(rows, "__iter__") or hasattr(rows, "__aiter__")
        ):
            raise ConfigurationError(f"Rows are something to iterate over; got {type(rows).__name__}.")
        self.name = name
        self._rows = rows
        # A list is the same when it is read again; what a generator gives may not be.
        self.resumable = isinstance(rows, Sequence)

    @property
    def parts(self) -> Sequence[Part]:
        return ()

    async def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        rows = self._rows() if callable(self._rows) else self._rows
        done = position or 0
        if isinstance(rows, Sequence):
            rows = rows[done:]
        async for some in batched(rows, room):
            done += len(some)
            yield Extracted([_as_row(row) for row in some], done)


def _as_row(row: Any) -> Row:
    if type(row) is dict:
        return row
    if isinstance(row, Mapping):
        return dict(row)
    try:
        made = msgspec.to_builtins(row, builtin_types=NATIVE_TYPES)
    except TypeError:
        made = None
    if not isinstance(made, dict):
        raise ConfigurationError(
            f"A row is a mapping, a Struct or a dataclass; got {type(row).__name__}.",
            hint='For plain values: RowsSource([{"value": value} for value in values]).',
        )
    return made


async def batched(rows: Iterable[Any] | AsyncIterable[Any], room: Room) -> AsyncGenerator[list[Any]]:
    """Lists of at most `room.rows` of them."""
    some: list[Any] = []
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            some.append(row)
            if len(some) >= room.rows:
                yield some
                some = []
    else:
        for row in rows:
            some.append(row)
            if len(some) >= room.rows:
                yield some
                some = []
    if some:
        yield some
