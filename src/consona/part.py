"""A part is anything that lives in an application: a client, a server, a database, a queue.

    async with APIClient("https://api.example.com") as api: ...     # alone
    app = App("shop", parts=[db, api])                              # or together

Every part starts, stops, tells its health, and shows what it did. Constructors open nothing.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, ClassVar, Self

from consona.errors import ConfigurationError, NotStarted
from consona.telemetry.observer import Entry, Observer, Stats, observers

__all__ = ["Health", "Part", "Status"]


class Status(StrEnum):
    """How a part does, in one word."""

    UP = "up"
    DEGRADED = "degraded"
    """It works, with less than it should: stale data, fewer connections, a breaker open."""
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Health:
    """What `check()` found, and why."""

    status: Status
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it can do its work: up or degraded."""
        return self.status is not Status.DOWN


class Part(ABC):
    """The life of a part. Consona's parts derive from it; users compose them.

    `start()` and `stop()` are counted, so a part that two others share is opened once, and closed
    when the last of them lets go.

    Args:
        name: What the dashboard, the logs and the errors call it.
        observer: Where its operations are noted; by default one of its own.
    """

    kind: ClassVar[str] = "part"

    def __init__(self, name: str, *, observer: Observer | None = None) -> None:
        self.name = name
        self.observer = observer or Observer(name, self.kind)
        self._users = 0
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: asyncio.Lock | None = None

    # What a part fills in.

    @abstractmethod
    async def _open(self) -> None:
        """Take what the part needs (connections, threads, sockets). Called once for each life."""

    @abstractmethod
    async def _close(self) -> None:
        """Give it all back. Called once for each `_open` that succeeded."""

    async def check(self) -> Health:
        """Whether the part can do its work now, found out by trying."""
        return Health(Status.UP if self.started else Status.DOWN, "" if self.started else "not started")

    def detail(self) -> dict[str, Any]:
        """What only this part knows about itself; goes to `stats.detail`."""
        return {}

    # What a part is given.

    @property
    def started(self) -> bool:
        return self._users > 0

    @property
    def stats(self) -> Stats:
        """What it did since it was made."""
        stats = self.observer.stats
        stats.detail.update(self.detail())
        return stats

    @property
    def history(self) -> list[Entry]:
        """Its last operations, oldest first."""
        return self.observer.history

    async def start(self) -> None:
        """Open it. A second start of a started part only counts.

        Raises:
            ConfigurationError: It runs in another event loop, or in the process that this one was forked from.
        """
        loop = asyncio.get_running_loop()
        self._same_process()
        if self._users and self._loop is not loop:
            raise ConfigurationError(
                f"{self.name} was started in another event loop.", hint="Make one of its own for each loop."
            )
        if self._loop is not loop:
            self._loop, self._turn = loop, asyncio.Lock()
        assert self._turn is not None
        async with self._turn:
            if not self._users:
                await self._open()
                self._pid = os.getpid()
                # What the dashboard shows beside the figures; bound late, so that an observer can be shared.
                self.observer.detail, self.observer.check = self.detail, self.check
                observers[id(self.observer)] = self.observer
            self._users += 1

    async def stop(self) -> None:
        """Close it once everybody who started it has stopped it. Stopping a stopped part does nothing."""
        if self._turn is None or not self._users:
            return
        async with self._turn:
            if not self._users:
                return
            self._users -= 1
            if not self._users:
                observers.pop(id(self.observer), None)
                await self._close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    def _require_started(self) -> None:
        if not self._users:
            raise NotStarted(f"{self.name} ({type(self).__name__}) is not started.", part=self.name)
        self._same_process()

    def _same_process(self) -> None:
        if self._users and self._pid != os.getpid():
            raise ConfigurationError(
                f"{self.name} was started before this process was forked, and cannot be used in both.",
                hint="Start parts after the fork: in each worker.",
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {'started' if self.started else 'stopped'}>"
