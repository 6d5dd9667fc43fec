"""Channels: what is published in one process reaches the subscribers in all of them, in order, each once.

    async with Channels("sqlite:///bus.db") as channels:
        await channels.publish("chat.tea", {"text": "hello"})
        channels.recent("chat.tea")

All processes that name the same engine append to one stream of its log, and each process has one reader of it,
however many channels and clients there are. So there is one order of all messages, and a position in it says for
every channel what a client has seen. The newest messages stay in memory: who comes back gets what it missed from
there, or is told that there is a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from consona.address import Address
from consona.errors import ConfigurationError, ConsonaError, FieldProblem, GapError, ValidationError
from consona.log.log import Entry, Log, Record, Retention
from consona.part import Health, Part, Status
from consona.realtime.message import BINARY, FRAME, TEXT, Message
from consona.realtime.window import Window
from consona.rest.server.responses import json_encode
from consona.storage.store import Store
from consona.telemetry import trace
from consona.telemetry.observer import Observer

__all__ = ["ABOUT", "ALL", "Channels", "Joined", "Kept", "Subscriber"]

log = logging.getLogger("consona.realtime")

MAX_CHANNEL_BYTES: Final = 200
ALL: Final = "all"
"""The channel of those who name none."""
ABOUT: Final = "\x01"
"""Before the name of a channel: what is announced of it. No user's channel begins so."""
PAUSE_S: Final = 0.5
"""How long the reader waits after a failure of the engine."""
LOOK_S: Final = 5.0
"""How often the reader looks whether the engine is still the one that it was."""
SLICE: Final = 200
"""To how many subscribers a message is given before others of the process have their turn."""

_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_TOKEN: Final = re.compile(r"([0-9a-f]{8})-(\d{1,18})")


class Subscriber(Protocol):
    """Who gets the messages of channels. Neither method waits or raises."""

    def deliver(self, message: Message) -> None:
        """Take a message."""

    def gap(self, channel: str, token: str) -> None:
        """Take note that messages of the channel were lost; what comes now is behind `token`."""


@dataclass(frozen=True, slots=True)
class Joined:
    """How a subscriber came in."""

    token: str
    """The position that it stands at, before `messages`."""
    gap: bool
    """Whether what it missed is not known any more in full."""
    messages: list[Message]
    """What it missed, or the history that it asked for: oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How many messages are kept, for history and for clients that come back. The oldest go first."""

    max_age: float | None = 86_400.0
    """Seconds; None for no limit."""
    messages: int = 10_000
    """Of all channels of the engine together."""
    bytes: int = 16 << 20
    """The same, in bytes."""
    per_channel: int = 1_000

    def __post_init__(self) -> None:
        for name in ("messages", "bytes", "per_channel", "max_age"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"Kept({name}={value!r}): expected a number above 0.")


class Channels(Part):
    """The channels of one engine, as this process sees them.

    Args:
        target: The address of a log's engine: `memory://` (this process alone), `sqlite:///bus.db` (the processes
            of one machine), `postgresql://…`, `redis://…` (many machines).
        name: All who name the same channels at the same address share them.
        keep: What is kept for history and for clients that come back.
        store: Where the presence of members and the age of the stream are kept; by default at the same address.
        observer: Where its operations are noted; by default one of its own.
        clock: Seconds since the epoch, where the engine has no clock of its own.

    Raises:
        AddressError: No engine has the address' scheme.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with Channels("memory://example") as channels:
        ...         await channels.publish("chat.tea", {"text": "hello"})
        ...         token = await channels.publish("chat.tea", {"text": "again"})
        ...         await channels.reached(token)  # this process has read what it published
        ...         return [message.data["text"] for message in channels.recent("chat.tea")]
        >>> asyncio.run(main())
        ['hello', 'again']
    """

    kind: ClassVar[str] = "channels"

    def __init__(
        self,
        target: str | Address = "memory://",
        *,
        name: str = "channels",
        keep: Kept = Kept(),
        store: Store | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        self.address = Address.parse(target)
        self.keep = keep
        self.stream = f"channels/{name}"
        """Its stream in the log."""
        retention = Retention(max_age=keep.max_age, max_records=keep.messages, max_bytes=2 * keep.bytes)
        self.log = Log(self.address, name=f"{name} log", retention=retention, observer=self.observer, clock=clock)
        self.store = store or Store(self.address, prefix=f"channels/{name}/", observer=self.observer, clock=clock)
        self.position = 0
        """Up to which position this process has given out what was published."""
        self.lag = 0.0
        """Seconds from the publishing of the newest message until it was given out here."""
        self._clock = clock
        self.window = self._new_window()
        self._members: dict[str, dict[Subscriber, int]] = {}
        self._epoch = ""
        self._reader: asyncio.Task[None] | None = None
        self._looked = 0.0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._failing = ""
        self._published = self._delivered = 0

    # What users do.

    async def publish(self, channel: str, data: Any, *, event: str = "", plain: bool = False) -> str:
        """Tell all subscribers of a channel, in all processes. Returns its place, as clients see it.

        It returns when the engine has it: from then on nobody who stays, or comes back in time, misses it.

        Args:
            channel: 1 to 200 bytes of UTF-8 without control characters.
            data: Anything that can be JSON.
            event: A name for it, for those who listen to some events only.
            plain: Send text or bytes as they are, without the envelope that says where they are from.

        Raises:
            ValidationError: The channel's name or the event's cannot be one, or the data is too large.
        """
        return (await self.publish_many(channel, [data], event=event, plain=plain))[0]

    async def publish_many(self, channel: str, data: list[Any], *, event: str = "", plain: bool = False) -> list[str]:
        """Publish several at once, in order: all or none."""
        check_name("channel", channel)
        if event:
            check_name("event", event)
        self._require_started()
        with self.observer.operation("publish") as op:
            headers = {"channel": channel}
            if event:
                headers["event"] = event
            trace.inject(headers)
            entries = [_entry(each, headers, plain=plain) for each in data]
            op.set(messages=len(entries), bytes=sum(len(entry.body) for entry in entries))
            positions = await self.log.append_many(self.stream, entries)
        self._published += len(positions)
        return [self.token(position) for position in positions]

    def recent(self, channel: str, *, limit: int = 100) -> list[Message]:
        """The newest messages of a channel that are kept, oldest first."""
        self._require_started()
        return self.window.last(channel, limit)

    async def join(self, subscriber: Subscriber, channel: str, *, after: str | None = None, history: int = 0) -> Joined:
        """Give the channel's messages to a subscriber from now on.

        The caller takes `messages` at once, before it waits for anything: then each message comes once, in order.

        Args:
            subscriber: Who gets them. One who is in the channel already starts over.
            channel: Its name; it may have no message yet.
            after: The last position that it has seen (a message's `position`); None for a new one.
            history: How many of the newest messages a new one gets first.

        Raises:
            ValidationError: The channel's name cannot be one.
        """
        check_name("channel", channel)
        self._require_started()
        place = None if after is None else self._place(after)
        if place is not None and place > self.position and place > await self.log.end(self.stream):
            place = None  # nothing was ever there
        # From here on nothing is waited for, so that no message is given out meanwhile.
        here = self.position
        missed = None if place is None else self.window.since(channel, place)
        gap = after is not None and missed is None
        if missed is None:
            missed, place = self.window.last(channel, history), None
        begin = here if place is None else max(place, here)
        self._members.setdefault(channel, {})[subscriber] = begin
        first = place if place is not None else missed[0].position - 1 if missed else here
        return Joined(self.token(first), gap, missed)

    def missed(self, channels: Iterable[str], after: str) -> tuple[str, list[Message], list[str]]:
        """What was published in some channels behind a position, in order: (position now, messages, channels with gaps)."""
        place = self._place(after)
        found: list[Message] = []
        gaps: list[str] = []
        for channel in channels:
            messages = None if place is None else self.window.since(channel, place)
            if messages is None:
                gaps.append(channel)
            else:
                found += messages
        found.sort(key=lambda message: message.position)
        # A client may have been elsewhere, where more was known already.
        here = self.position if gaps or place is None else max(place, self.position)
        return self.token(here), found, gaps

    def leave(self, subscriber: Subscriber, channel: str) -> None:
        """Give it no more of the channel's messages."""
        members = self._members.get(channel)
        if members is not None and members.pop(subscriber, None) is not None and not members:
            del self._members[channel]

    def forget(self, subscriber: Subscriber, channels: Iterable[str]) -> None:
        """Give it nothing more of any of these channels."""
        for channel in channels:
            self.leave(subscriber, channel)
            self.leave(subscriber, ABOUT + channel)

    def names(self) -> list[str]:
        """The channels that have subscribers in this process."""
        return [channel for channel in self._members if not channel.startswith(ABOUT)]

    # Who came and who went is told on a channel beside the channel, so that it is no part of its history.

    def listen(self, subscriber: Subscriber, channel: str) -> None:
        """Tell a subscriber from now on what is announced of a channel."""
        self._members.setdefault(ABOUT + channel, {})[subscriber] = self.position

    def unlisten(self, subscriber: Subscriber, channel: str) -> None:
        """Tell it no more."""
        self.leave(subscriber, ABOUT + channel)

    async def announce(self, channel: str, fields: Any) -> None:
        """Tell those who listen, in all processes. They get `fields` as they are, as JSON."""
        self._require_started()
        with self.observer.operation("announce"):
            headers = {"channel": ABOUT + channel, "plain": FRAME}
            await self.log.append(self.stream, json_encode(fields), headers=headers)

    def announced(self, channel: str) -> int:
        """The position of what was announced last."""
        newest = self.window.last(ABOUT + channel, 1)
        return newest[0].position if newest else 0

    async def reached(self, token: str) -> None:
        """Wait until this process has given out all messages up to `token`.

        Raises:
            ValidationError: It is no position of these channels.
        """
        place = self._place(token)
        if place is None:
            raise _refused("position", "expected one that these channels gave")
        if self.position < place:
            moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((place, moved))
            await moved

    def subscribers(self, channel: str) -> int:
        """How many there are in this process."""
        return len(self._members.get(channel, ()))

    def token(self, position: int) -> str:
        """A position as clients see it."""
        return f"{self._epoch}-{position}"

    # Its life.

    async def _open(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.log)
            await stack.enter_async_context(self.store)
            await self._know_epoch()
            self.window = self._new_window()
            end = await self.log.end(self.stream)
            begin = await self.log.begin(self.stream)
            self.window.cut(begin)
            self.position = begin
            while self.position < end:
                page = await self.log.read(self.stream, after=self.position)
                for record in page.records:
                    self.window.add(self._message(record))
                    self.position = record.position
                if not page.records:
                    break
            stack.pop_all()
        self._reader = asyncio.create_task(self._read(), name=f"{self.name} reader")

    async def _close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
            self._reader = None
        self._members.clear()
        await self.store.stop()
        await self.log.stop()

    async def check(self) -> Health:
        """Whether messages can be published and read now."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        if self._failing:
            return Health(Status.DOWN, self._failing)
        return await self.log.check()

    def detail(self) -> dict[str, Any]:
        return {
            "channels": len(self._members),
            "subscriptions": sum(map(len, self._members.values())),
            "published": self._published,
            "delivered": self._delivered,
            "kept": len(self.window),
            "lag": round(self.lag, 4),
        }

    async def _know_epoch(self) -> None:
        """Positions of a log that was made anew begin at 1 again: its age tells them from those of the old one."""
        new = secrets.token_hex(4)
        if await self.store.put_if("epoch", new.encode(), version=0) is None:
            item = await self.store.get("epoch")
            assert item is not None
            new = item.value.decode()
        self._epoch = new

    # Reading.

    async def _read(self) -> None:
        while True:
            try:
                await self._look_after_age()
                page = await self.log.read(self.stream, after=self.position)
                for record in page.records:
                    await self._give_out(record)
                if not page.records:
                    await self.log.wait(self.stream, after=self.position)
                self._failing = ""
            except GapError as error:
                self._tell_gap(error.begin)
            except ConsonaError as error:
                if not self._failing:
                    log.warning("%s: the reader failed, and tries again: %s", self.name, error.message)
                self._failing = error.message
                await asyncio.sleep(PAUSE_S)

    async def _give_out(self, record: Record) -> None:
        message = self._message(record)
        # Who joins from here on finds it in the window, and is not among the members that are gone through.
        self.window.add(message)
        self.position = record.position
        members = self._members.get(message.channel)
        parent = trace.extract(message.trace, trusted=True) if message.trace else None
        with self.observer.operation("deliver", parent=parent) as op:
            given = 0
            if members:
                for subscriber, after in list(members.items()):
                    if message.position > after and subscriber in members:
                        subscriber.deliver(message)
                        given += 1
                        if given % SLICE == 0:
                            await asyncio.sleep(0)
            op.set(subscribers=given)
        self._delivered += given
        self.lag = max(0.0, self._clock() - message.at)
        if self._waiting:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for place, moved in waiting:
            if self.position < place:
                self._waiting.append((place, moved))
            elif not moved.done():
                moved.set_result(None)

    async def _look_after_age(self) -> None:
        """Begin anew where the engine lost all it had: else the reader would wait behind an end that is no more."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        item = await self.store.get("epoch")
        if item is not None and item.value.decode() == self._epoch:
            return
        log.warning("%s: the engine has lost its messages, and begins anew.", self.name)
        await self._know_epoch()
        self.window = self._new_window()
        self._tell_gap(await self.log.begin(self.stream))

    def _tell_gap(self, begin: int) -> None:
        self.window.cut(begin)
        self.position = begin
        self._members = {channel: dict.fromkeys(members, begin) for channel, members in self._members.items()}
        token = self.token(begin)
        for channel, members in list(self._members.items()):
            for subscriber in list(members):
                subscriber.gap(channel, token)

    def _message(self, record: Record) -> Message:
        headers = record.headers
        return Message(
            headers.get("channel", ""),
            record.position,
            self.token(record.position),
            record.at,
            record.body,
            event=headers.get("event", ""),
            plain=headers.get("plain", ""),
            trace=headers.get("traceparent", ""),
        )

    def _place(self, token: str) -> int | None:
        """The position in a token; None where it is none of this stream's."""
        found = _TOKEN.fullmatch(token)
        return int(found[2]) if found is not None and found[1] == self._epoch else None

    def _new_window(self) -> Window:
        keep = self.keep
        return Window(
            max_messages=keep.messages,
            max_bytes=keep.bytes,
            per_channel=keep.per_channel,
            max_age=keep.max_age,
            clock=self._clock,
        )


def _entry(data: Any, headers: dict[str, str], *, plain: bool) -> Entry:
    if not plain:
        return Entry(json_encode(data), headers)
    if isinstance(data, str):
        return Entry(data.encode(), {**headers, "plain": TEXT})
    if isinstance(data, bytes):
        return Entry(data, {**headers, "plain": BINARY})
    raise _refused("data", f"expected text or bytes, got {type(data).__name__}")


def check_name(what: str, name: Any) -> str:
    """The name of a channel or of an event, where it can be one.

    Raises:
        ValidationError: It is empty, too long, or holds control characters.
    """
    if not isinstance(name, str) or not name:
        raise _refused(what, "expected a name of at least one character")
    if len(name) > MAX_CHANNEL_BYTES or len(name.encode("utf-8", "replace")) > MAX_CHANNEL_BYTES:
        raise _refused(what, f"expected at most {MAX_CHANNEL_BYTES} bytes of UTF-8")
    if _UNFIT.search(name):
        raise _refused(what, "expected no control characters and no halves of surrogate pairs")
    return name


def _refused(what: str, problem: str) -> ValidationError:
    return ValidationError(f"The {what} was refused: {problem}.", fields=[FieldProblem(what, problem)])
