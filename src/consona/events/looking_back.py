"""What a bus keeps can be read again, and its consumers moved: the part of `EventBus` for those who look after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from consona.errors import ConfigurationError, NotFound
from consona.events.dead_letters import DeadEvent, DeadLetters
from consona.events.event import event_type, matcher
from consona.events.records import Received, received_of

if TYPE_CHECKING:
    from consona.events.consumer import Consumer
    from consona.log.log import Log
    from consona.storage.store import Store
    from consona.telemetry.observer import Observer

__all__ = ["ConsumerState", "LookingBack", "Place"]

Place = Literal["new", "beginning"] | int | datetime
"""Where a consumer begins: with what comes, with the oldest that is kept, behind a position, or at a time."""


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """Where a durable consumer stands."""

    name: str
    position: int
    behind: int
    """How far its position is from the newest event's. Positions of other types count too."""
    problem: str = ""
    """Why it does not go on."""


class LookingBack:
    """Reading again, moving consumers, dead letters."""

    name: str
    observer: Observer
    log: Log
    store: Store
    log_stream: str
    _consumers: list[Consumer]

    if TYPE_CHECKING:  # the part has it

        def _require_started(self) -> None: ...

    async def events(
        self, *patterns: type | str, after: int = 0, since: datetime | None = None, until: int | None = None
    ) -> AsyncIterator[Received]:
        """What is kept, oldest first, up to what is the newest when it begins.

        Args:
            patterns: Only these: classes or patterns, see `on`.
            after: Behind this position.
            since: From this time on, with its zone.
            until: Up to this position; by default to the newest.

        Raises:
            GapError: What is behind `after` is not kept any more.
        """
        self._require_started()
        names = [each if isinstance(each, str) else event_type(each).name for each in patterns]
        wants = matcher(names or [">"])
        position = after if since is None else await self.position_of(since)
        last = await self.log.end(self.log_stream) if until is None else until
        while position < last:
            page = await self.log.read(self.log_stream, after=position)
            if not page.records:
                return
            for record in page.records:
                if record.position > last:
                    return
                if wants(record.headers.get("type", "")):
                    yield received_of(record)
            position = page.records[-1].position

    async def position_of(self, place: Place) -> int:
        """The position behind which that place is.

        Raises:
            ConfigurationError: It is none of those, or a time without its zone.
        """
        if place == "new":
            return await self.log.end(self.log_stream)
        if place == "beginning":
            return await self.log.begin(self.log_stream)
        if isinstance(place, datetime):
            if place.tzinfo is None:
                raise ConfigurationError(
                    f"{place} has no time zone.", hint="Use datetime.now(UTC), or a time with its zone."
                )
            return await self.log.position_at(self.log_stream, place.timestamp())
        if type(place) is int and place >= 0:
            return place
        raise ConfigurationError(
            f"{place!r} is no place in a bus.", hint="Use 'new', 'beginning', a position, or a datetime with its zone."
        )

    async def seek(self, durable: str, place: Place) -> int:
        """Let a consumer go on from another place: back, to handle events again, or on, to leave some out.

        Returns:
            The position, behind which it goes on within about a second.
        """
        position = await self.position_of(place)
        with self.observer.operation("seek", durable) as op:
            op.set(position=position)
            await self.store.delete(f"stream/{durable}/mark")  # a view begins anew
            await self.store.put(f"position/{durable}", b"%d" % position)
        return position

    async def consumers(self) -> list[ConsumerState]:
        """Every durable consumer that ever took its place, sorted by name."""
        self._require_started()
        end = await self.log.end(self.log_stream)
        problems = {each.name: each.problem.message for each in self._consumers if each.problem is not None}
        found = []
        async for item in self.store.scan("position/"):
            name, position = item.key.removeprefix("position/"), int(item.value)
            found.append(ConsumerState(name, position, max(0, end - position), problems.get(name, "")))
        return found

    async def remove_consumer(self, durable: str) -> None:
        """Forget a consumer: its position and its dead letters.

        Raises:
            NotFound: There is none of this name.
        """
        if not await self.store.delete(f"position/{durable}"):
            raise NotFound(f"{self.name} has no consumer {durable!r}.")
        async for letter in self.dead_letters(durable):
            await DeadLetters(self.store, durable).purge(letter.position)

    # Dead letters.

    async def dead_letters(self, durable: str) -> AsyncIterator[DeadEvent]:
        """The events that this consumer could not handle, by position."""
        self._require_started()
        async for letter in DeadLetters(self.store, durable).all():
            yield letter

    async def redrive(self, durable: str, *positions: int) -> int:
        """Let the consumer try dead letters again: these, or all. Returns how many there were."""
        return await self._each(durable, positions, "redrive", DeadLetters.redrive)

    async def purge(self, durable: str, *positions: int) -> int:
        """Remove dead letters for ever: these, or all. Returns how many there were."""
        return await self._each(durable, positions, "purge", DeadLetters.purge)

    async def _each(
        self, durable: str, positions: Sequence[int], name: str, do: Callable[[DeadLetters, int], Awaitable[bool]]
    ) -> int:
        letters = DeadLetters(self.store, durable)
        with self.observer.operation(name, durable) as op:
            chosen = positions or [letter.position async for letter in self.dead_letters(durable)]
            count = sum([await do(letters, position) for position in chosen])
            op.set(events=count)
        return count
