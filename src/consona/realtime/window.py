"""The newest messages of all channels, in the memory of the process: what history and resuming are answered from.

A thousand clients that come back at once ask it, and not the engine. Bounded in messages and bytes as a whole,
and in messages for each channel, so that a loud channel does not push out the history of a quiet one by count.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from consona.realtime.message import Message

__all__ = ["Window"]

MAX_LOST: Final = 100_000
"""Of how many channels it is known what they lost; beyond, a gap is told also where there may be none."""


class Window:
    """Messages by channel, oldest first.

    Args:
        max_messages: Of all channels together.
        max_bytes: Of the bodies of all channels together.
        per_channel: Messages of one channel.
        max_age: Seconds; None for no limit.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        max_messages: int,
        max_bytes: int,
        per_channel: int,
        max_age: float | None,
        clock: Callable[[], float],
    ) -> None:
        self.floor = 0
        """Up to this position nothing is known: it was dropped before this process began to read."""
        self.bytes = 0
        self._max = max_messages
        self._max_bytes = max_bytes
        self._per_channel = per_channel
        self._max_age = max_age
        self._clock = clock
        self._all: OrderedDict[int, Message] = OrderedDict()
        self._channels: dict[str, deque[Message]] = {}
        self._lost: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, message: Message) -> None:
        """Keep it, and drop what is too old or too much."""
        kept = self._channels.get(message.channel)
        if kept is None:
            kept = self._channels[message.channel] = deque()
        kept.append(message)
        self._all[message.position] = message
        self.bytes += len(message.body)
        if len(kept) > self._per_channel:
            self._drop(kept[0])
        while len(self._all) > self._max or (self.bytes > self._max_bytes and len(self._all) > 1):
            self._drop(next(iter(self._all.values())))
        self.expire()

    def expire(self) -> None:
        """Drop what is older than `max_age`."""
        if self._max_age is None:
            return
        oldest = self._clock() - self._max_age
        while self._all and (message := next(iter(self._all.values()))).at < oldest:
            self._drop(message)

    def since(self, channel: str, after: int) -> list[Message] | None:
        """The channel's messages behind the position `after`; None where some of them are not kept any more."""
        self.expire()
        if after < max(self.floor, self._lost.get(channel, 0)):
            return None
        found: list[Message] = []
        for message in reversed(self._channels.get(channel, ())):
            if message.position <= after:
                break
            found.append(message)
        found.reverse()
        return found

    def last(self, channel: str, limit: int) -> list[Message]:
        """The channel's newest messages, at most `limit`, oldest first."""
        self.expire()
        kept = self._channels.get(channel, ())
        return list(kept)[max(0, len(kept) - limit) :] if limit > 0 else []

    def cut(self, position: int) -> None:
        """Note that messages up to `position` were lost before they were read."""
        self.floor = max(self.floor, position)

    def _drop(self, message: Message) -> None:
        """Drop a message that is the oldest of its channel."""
        del self._all[message.position]
        self.bytes -= len(message.body)
        kept = self._channels[message.channel]
        kept.popleft()
        if not kept:
            del self._channels[message.channel]
        self._lost[message.channel] = message.position
        if len(self._lost) > MAX_LOST:
            self.floor = max(self.floor, *self._lost.values())
            self._lost.clear()
