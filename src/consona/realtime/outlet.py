"""What goes out to one client: in order, at once where the client takes it, and else never more than stated.

A client that is quick has no queue and no task: what is sent goes straight to its connection. One that is slow has
a queue of bounded length and the task that empties it, until it has caught up.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Final

from consona.errors import ConfigurationError

__all__ = ["Counters", "Outlet", "SlowClients"]

DROP: Final = "drop"
DISCONNECT: Final = "disconnect"
POLICIES: Final = (DROP, DISCONNECT)

ENDED: Final = (OSError, RuntimeError)
"""What servers raise once the client has gone, and once the connection was closed from here."""
STEADY: Final = ("uvicorn.", "consona.")
"""Whose `send` waits for nothing but a future, so that it may begin in one task and end in another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClients:
    """What happens to a client that takes messages more slowly than they come. Nobody else waits for it.

    Raises:
        ConfigurationError: The policy is not one of the two, or the queue has no room.
    """

    policy: str = DROP
    """`drop`: it loses the oldest messages of its queue, and is told that there is a gap. `disconnect`: its
    connection is closed with the code 4008, and it comes back and gets what it missed."""
    queue: int = 256
    """How many messages may wait for it."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigurationError(
                f"SlowClients(policy={self.policy!r}) is not known.", hint="Use 'drop' or 'disconnect'."
            )
        if self.queue < 1:
            raise ConfigurationError(f"SlowClients(queue={self.queue!r}): expected a number of at least 1.")


class Counters:
    """What happened to the messages of all clients of a server."""

    __slots__ = ("disconnected", "dropped", "queued", "sent")

    def __init__(self) -> None:
        self.sent = 0
        """Handed to the connections of clients."""
        self.queued = 0
        """Of those, how many had to wait first."""
        self.dropped = 0
        """Lost to slow clients, who were told of a gap."""
        self.disconnected = 0
        """Slow clients whose connection was closed."""


class Outlet:
    """The way out to one client.

    Args:
        send: Sends one message, and waits until the client can take more.
        slow: How long the queue is, and what happens when it is full.
        counters: Where it is counted.
        too_slow: Called once, where the client is to be disconnected.
        gap: Makes the message that tells of a gap in a channel; None where the client cannot be told.
    """

    __slots__ = (
        "_counters",
        "_gap",
        "_gaps",
        "_queue",
        "_send",
        "_sending",
        "_slow",
        "_steady",
        "_too_slow",
        "closed",
        "puts",
        "task",
    )

    def __init__(
        self,
        send: Callable[[Any], Awaitable[None]],
        *,
        slow: SlowClients,
        counters: Counters,
        too_slow: Callable[[], None],
        gap: Callable[[str], Any],
    ) -> None:
        self._send = send
        self._slow = slow
        self._counters = counters
        self._too_slow = too_slow
        self._gap = gap
        self._queue: deque[tuple[Any, str]] | None = None
        self._gaps: dict[str, None] = {}
        self._sending: tuple[Any, ...] = ()
        self._steady = _module_of(send).startswith(STEADY)
        self.closed = False
        self.puts = 0
        """How often something was to be sent."""
        self.task: asyncio.Task[None] | None = None
        """Empties the queue, while there is one."""

    def put(self, message: Any, channel: str = "") -> None:
        """Send a message, now or when the client can take it.

        Args:
            message: What `send` takes.
            channel: Whose it is. Only messages of channels are dropped; answers never are.
        """
        if self.closed:
            return
        self.puts += 1
        if self.task is not None:
            self._keep(message, channel)
            return
        sending: Any = self._send(message)
        if not self._steady:
            self._go_on(_awaited(sending), sending)
            return
        try:
            waits_for = sending.send(None)
        except StopIteration:
            self._counters.sent += 1
        except ENDED:
            self.closed = True
        else:
            self._go_on(_resumed(sending, waits_for), sending)

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._queue or ())

    async def flush(self) -> None:
        """Wait until nothing waits any more, or the client has gone."""
        if self.task is not None:
            await asyncio.wait([self.task])

    async def close(self) -> None:
        """Send no more, and end the task."""
        self.closed = True
        task = self.task
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for each in self._sending:  # a task that was cancelled before its first step left them as they were
                with contextlib.suppress(AttributeError):
                    each.close()
            self.task = self._queue = None

    def _keep(self, message: Any, channel: str) -> None:
        queue = self._queue
        assert queue is not None
        self._counters.queued += 1
        if len(queue) < self._slow.queue or not channel:
            # Answers are as many as the client's own questions, which are read one by one.
            queue.append((message, channel))
            return
        if self._slow.policy == DISCONNECT:
            self._counters.disconnected += 1
            self.closed = True
            self._too_slow()
            return
        for index, (_, of) in enumerate(queue):
            if of:
                del queue[index]
                self._gaps[of] = None
                break
        else:
            self._gaps[channel] = None
            self._counters.dropped += 1
            return
        self._counters.dropped += 1
        queue.append((message, channel))

    def _go_on(self, first: Coroutine[Any, Any, None], sending: Any) -> None:
        self._queue = deque()
        self._sending = first, sending
        self.task = asyncio.get_running_loop().create_task(self._work(first))

    async def _work(self, first: Coroutine[Any, Any, None]) -> None:
        queue = self._queue
        assert queue is not None
        try:
            await first
            self._counters.sent += 1
            while queue or self._gaps:
                if self._gaps:
                    channel = next(iter(self._gaps))
                    del self._gaps[channel]
                    message = self._gap(channel)
                    if message is None:
                        continue
                else:
                    message, _ = queue.popleft()
                await self._send(message)
                self._counters.sent += 1
        except ENDED:  # its connection ends by itself
            self.closed = True
        finally:
            self._queue = self.task = None
            self._sending = ()


def _module_of(send: Any) -> str:
    owner = getattr(send, "__self__", None)
    return str(getattr(send if owner is None else type(owner), "__module__", ""))


async def _awaited(sending: Awaitable[None]) -> None:
    await sending


async def _resumed(sending: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """Go on with a coroutine that was begun by hand, and waits for a future."""
    await _on_its_way(sending, waits_for)


@types.coroutine
def _on_its_way(sending: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            value = yield waits_for
        except BaseException as error:  # noqa: BLE001  passed on, as `await` does
            try:
                waits_for = sending.throw(error)
            except StopIteration:
                return
        else:
            try:
                waits_for = sending.send(value)
            except StopIteration:
                return
