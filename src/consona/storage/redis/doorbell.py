"""Telling others that something changed, so that they need not ask for it all the time.

    seen = engine.doorbell.count("queue work")      # before reading
    ...
    await engine.doorbell.wait("queue work", seen, timeout_s=0.5)

The scripts that change something publish on the bell's channel. A ring is a hint and nothing more: Redis
keeps none for who is away, so who waits looks now and then too.

Source: https://redis.io/docs/latest/develop/pubsub/
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis

from consona.storage.redis.cancelling import cancellable

__all__ = ["RedisDoorbell"]

PAUSE_S: Final = 0.5
"""Before it listens again, after the connection broke."""


class RedisDoorbell:
    """The bells of one engine; each is a channel, `channel(name)`.

    Args:
        native: The client.
        prefix: Before each channel's name.
    """

    def __init__(self, native: Redis, prefix: str) -> None:
        self._native = native
        self._prefix = prefix
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._pubsub: Any = None
        self._heard: set[str] = set()

    @property
    def connected(self) -> bool:
        """Whether rings are heard now."""
        return self._pubsub is not None

    def channel(self, name: str) -> str:
        """On what a script publishes to ring this bell."""
        return f"{self._prefix}{name}"

    def count(self, name: str) -> int:
        """Grows with each ring that is heard."""
        return self._counts.get(name, 0)

    async def wait(self, name: str, seen: int, *, timeout_s: float) -> None:
        """Wait until the count is not `seen`, or until time is over. The first time it may return early."""
        if name not in self._heard:
            await self._listen(name)
            return  # what rang before it was heard is looked for now
        if self.count(name) != seen:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(name, set())
        waiting.add(future)
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            waiting.discard(future)

    def wake(self, name: str) -> None:
        """Tell those of this engine who wait."""
        self._counts[name] = self._counts.get(name, 0) + 1
        for future in self._waiting.pop(name, ()):
            if not future.done():
                future.set_result(None)

    async def close(self) -> None:
        while self._listening is not None and not self._listening.done():
            self._listening.cancel()
            # Again where the client lost it while it connected: see `cancelling`.
            await asyncio.wait([self._listening], timeout=0.1)
        for name in list(self._waiting):
            self.wake(name)

    async def _listen(self, name: str) -> None:
        self._heard.add(name)
        if self._pubsub is not None:
            with contextlib.suppress(exceptions.RedisError):  # then it is subscribed to when it connects again
                await cancellable(self._pubsub.subscribe(self.channel(name)))
        elif self._listening is None:
            self._listening = asyncio.create_task(self._keep(), name="consona doorbell")

    async def _keep(self) -> None:
        """As long as the server cannot be reached, those who wait ask by themselves."""
        while True:
            with contextlib.suppress(exceptions.RedisError, OSError):
                async with self._native.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await cancellable(pubsub.subscribe(*map(self.channel, self._heard)))
                    self._pubsub = pubsub
                    for name in list(self._waiting):  # what rang meanwhile was not heard
                        self.wake(name)
                    async for message in pubsub.listen():
                        self.wake(message["channel"].decode().removeprefix(self._prefix))
            self._pubsub = None
            await asyncio.sleep(PAUSE_S)
