"""What a pool must be told about one kind of connection, and what it notes about each."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Driver", "Slot"]

C = TypeVar("C")


class Driver(Protocol[C]):
    """What a pool must be told about one kind of connection."""

    async def connect(self) -> C:
        """Open one. Raises a `ConnectError`; one that is not `retryable` (a wrong password) is not tried again."""

    async def close(self, connection: C) -> None:
        """Say goodbye and close it. The pool bounds the time that it takes."""

    def terminate(self, connection: C) -> None:
        """Close it at once, whatever it does."""

    def is_lost(self, connection: C) -> bool:
        """Whether it can be seen to be gone; asks nobody."""

    def is_clean(self, connection: C) -> bool:
        """Whether the next caller may have it as it is: neither closed nor in the middle of something."""

    async def clean(self, connection: C) -> None:
        """Bring it to order: end what runs, roll back, reset the session. Whatever it raises, it is closed."""

    async def ping(self, connection: C) -> None:
        """One round trip. Whatever it raises, the connection is closed."""


class Slot(Generic[C]):
    """A connection, and who has it."""

    __slots__ = ("connection", "place", "retire_at", "since", "suspect", "task", "warned")

    def __init__(self, connection: C, retire_at: float, now: float) -> None:
        self.connection = connection
        self.retire_at = retire_at
        self.since = now
        """Since when it is in this hand, or idle."""
        self.suspect = False
        """Whether it is to be asked for a sign of life, since others were lost."""
        self.task: asyncio.Task[Any] | None = None
        self.place = ""
        self.warned = False
