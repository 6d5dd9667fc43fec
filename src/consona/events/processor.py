"""Keeps a view up to date: reads the log as a consumer does, and keeps the state of each key with its position.

The state of a key says up to which event it is complete, so an event that is read again after a kill
changes nothing. Saved in this order: the keys that changed, the watermark, the position. Whether an event
is late depends on the events before it in the log alone, so every run decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from consona.errors import ConsonaError, DeliveryError, ValidationError
from consona.events.consumer import Consumer
from consona.events.records import Received, received_of
from consona.events.stream import DROPPED, KeyState, OpenWindow, View, key_name
from consona.log.log import Record
from consona.messaging.message import described
from consona.storage.store import ABSENT

if TYPE_CHECKING:
    from consona.events.bus import EventBus
    from consona.events.handler import Subscription

__all__ = ["Processor"]

CACHED_KEYS: Final = 10_000


class _Mark(msgspec.Struct):
    """How far the states are complete, and the youngest event up to there."""

    position: int
    youngest: float


class Processor(Consumer):
    """Runs one view. Made by the bus."""

    def __init__(self, bus: EventBus, subscription: Subscription, view: View, **given: Any) -> None:
        super().__init__(bus, subscription, **given)
        self._view = view
        self._prefix = f"stream/{self.name}/"
        self._youngest = float("-inf")
        self._keys: dict[str, KeyState] = {}
        self._open: dict[str, float] = {}
        """The keys with open windows, and when the first of those ends."""

    async def _load(self) -> bool:
        version = self._version
        found = await super()._load()
        if found and self._version != version:
            await self._load_state()
        return found

    async def _load_state(self) -> None:
        self._keys.clear()
        self._open.clear()
        item = await self.bus.store.get(f"{self._prefix}mark")
        if item is None:  # it never ran, or was sent to another place: what there is counts from there
            self._youngest = float("-inf")
            for prefix in (f"{self._prefix}key/", f"result/{self.name}/"):
                async for old in self.bus.store.scan(prefix):
                    await self.bus.store.delete(old.key)
            return
        mark = msgspec.msgpack.decode(item.value, type=_Mark)
        self.position, self._youngest = max(self.position, mark.position), mark.youngest
        async for item in self.bus.store.scan(f"{self._prefix}key/"):
            state = msgspec.msgpack.decode(item.value, type=KeyState)
            self._note(state)
            if not state.windows and state.position <= mark.position:
                await self.bus.store.delete(item.key)  # killed between the mark and this

    async def _handle_page(self, records: Sequence[Record]) -> None:
        try:
            with self.bus.observer.operation("process", self.name) as op:
                changed = await self._add_all(records)
                op.set(events=len(records), keys=len(changed))
                await self._keep(changed)
        except BaseException as error:
            self._version = ABSENT  # what is in memory is ahead of what is kept: read it anew
            if isinstance(error, Exception) and not isinstance(error, ConsonaError):
                raise DeliveryError(f"A result of {self.name} could not be handled: {described(error)}") from error
            raise
        await self._save()
        self._shrink()

    async def _handle(self, record: Record) -> bool:
        """A dead letter that is to be tried again: its place in the order of events is gone."""
        await self._bury(record, 1, DeliveryError("A view takes events in order only.", hint="Rebuild it with seek()."))
        return True

    async def _add_all(self, records: Sequence[Record]) -> set[str]:
        """Count these events, and give out what is complete. Returns the keys that changed."""
        changed: set[str] = set()
        for record in records:
            if self._wanted(record):
                await self._add(record, changed)
        await self._close(changed)
        self.position = records[-1].position
        return changed

    async def _keep(self, changed: set[str]) -> None:
        """The states, the mark, and only then the keys without windows go: until the mark they say what is done."""
        store = self.bus.store
        for name in changed:
            await store.put(f"{self._prefix}key/{name}", msgspec.msgpack.encode(self._keys[name]))
        if changed or self._youngest > float("-inf"):
            mark = _Mark(self.position, self._youngest)
            await store.put(f"{self._prefix}mark", msgspec.msgpack.encode(mark))
        for name in changed:
            if not self._keys[name].windows:
                del self._keys[name]
                await store.delete(f"{self._prefix}key/{name}")

    async def _add(self, record: Record, changed: set[str]) -> None:
        """Count one event, and the time it brings."""
        try:
            received = received_of(record)
            event, at, key = self._understood(received)
        except Exception as error:  # noqa: BLE001  what cannot be read, or what a step raised
            await self._bury(record, 1, error)
            return
        if event is DROPPED:
            return
        windows = [window for window in self._view.windows.of(at) if window[1] + self._view.lateness_s > self._youngest]
        self._youngest = max(self._youngest, at)
        if not windows:
            self._view.late += 1
            if self._view.late_handler is not None:
                await self._view.late_handler(event, received)
            return
        name = key_name(key)
        state = await self._state(name, key)
        if state.position >= record.position:
            return  # it is in it already
        try:
            for start, end in windows:
                self._into_window(state, start, end, event)
        except ValidationError as error:
            await self._bury(record, 1, error)
            return
        state.position = record.position
        self._note(state)
        changed.add(name)

    def _understood(self, received: Received) -> tuple[Any, float, str]:
        """The event after all steps (or `DROPPED`), its time, and its key."""
        stream, name = self._view.stream, received.event.type
        declared = self.subscription.declared.get(name, Any)
        event = self.bus.upcasters.decode(declared, name, received.version, received.event.data or b"null")
        for step in stream.steps:
            event = step(event)
            if event is DROPPED:
                return event, 0.0, ""
        moment = received.event.time if self._view.time is None else self._view.time(event)
        at = received.at if moment is None else moment.timestamp()
        return event, at, "" if stream.key is None else str(stream.key(event))

    def _into_window(self, state: KeyState, start: float, end: float, event: Any) -> None:
        figures = self._view.figures
        window = OpenWindow(start, end, {name: figure.zero() for name, figure in figures.items()})
        if self._view.windows.sessions:
            for other in [each for each in state.windows if each.start < end and start < each.end]:
                state.windows.remove(other)
                window.start, window.end = min(window.start, other.start), max(window.end, other.end)
                window.states = {
                    name: figure.merge(window.states[name], other.states[name]) for name, figure in figures.items()
                }
        else:
            window = next((each for each in state.windows if each.start == start), window)
        added = {name: figure.add(window.states[name], event) for name, figure in figures.items()}
        window.states = added
        if window not in state.windows:
            state.windows.append(window)
            state.windows.sort(key=lambda each: each.start)

    async def _close(self, changed: set[str]) -> None:
        """Give out the windows that are complete."""
        complete = self._youngest - self._view.lateness_s
        for name in [name for name, end in self._open.items() if end <= complete]:
            state = await self._state(name, "")
            for window in [window for window in state.windows if window.end <= complete]:
                await self._give_out(state.key, window)
                state.windows.remove(window)
            self._note(state)
            changed.add(name)

    async def _give_out(self, key: str, window: OpenWindow) -> None:
        result = self._view.result(key, window)
        stored = f"result/{self.name}/{key_name(key)}/{window.start:020.3f}"
        await self.bus.store.put(stored, msgspec.msgpack.encode(result), ttl=self._view.keep_s)
        if self._view.result_handler is not None:
            with self.bus.observer.operation("result", self.name):
                await self._view.result_handler(result)

    async def _state(self, name: str, key: str) -> KeyState:
        state = self._keys.get(name)
        if state is None:
            item = await self.bus.store.get(f"{self._prefix}key/{name}")
            state = KeyState(key, 0, []) if item is None else msgspec.msgpack.decode(item.value, type=KeyState)
            self._keys[name] = state
        return state

    def _note(self, state: KeyState) -> None:
        name = key_name(state.key)
        if state.windows:
            self._open[name] = min(window.end for window in state.windows)
            self._keys[name] = state
        else:
            self._open.pop(name, None)

    def _shrink(self) -> None:
        """Forget keys in memory that the store has too."""
        for name in list(self._keys)[: max(0, len(self._keys) - CACHED_KEYS)]:
            del self._keys[name]
