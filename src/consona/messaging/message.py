"""A message in somebody's hands: its body, where it stands, and what can be done with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from consona.errors import ConsonaError, LeaseLost
from consona.messaging.bodies import decoded
from consona.messaging.checks import refused
from consona.messaging.engine import Failure, Lease
from consona.messaging.results import Outcome

if TYPE_CHECKING:  # the queue makes messages, so the import can only go one way
    from consona.messaging.queue import MessageQueue
    from consona.storage.transaction import SharedTransaction

__all__ = ["Message"]

log = logging.getLogger("consona.queue")


class Message:
    """Held by whoever took it, until it is done, given back, or its lease ends.

    As a context manager: done when the block ends well; given back at once when it raises, so that it is
    tried again.

    Attributes:
        queue: Where it was taken from.
        lease: What the engine said: body, headers, attempt, times.
    """

    def __init__(self, queue: MessageQueue, lease: Lease) -> None:
        self.queue = queue
        self.lease = lease
        self._open = True

    @property
    def id(self) -> str:
        return self.lease.id

    @property
    def body(self) -> bytes:
        return self.lease.body

    @property
    def headers(self) -> Mapping[str, str]:
        return self.lease.headers

    @property
    def attempt(self) -> int:
        """1 on the first delivery."""
        return self.lease.attempt

    @property
    def failures(self) -> Sequence[Failure]:
        """Of earlier attempts, oldest first; the last ten."""
        return self.lease.failures

    def data(self, into: Any = Any) -> Any:
        """What was put, checked against `into`.

        Raises:
            ValidationError: It does not fit; every wrong field is named.
        """
        return decoded(self.body, self.headers, into)

    async def ack(self, *, tx: SharedTransaction | None = None) -> None:
        """It is done, and gone.

        Args:
            tx: Gone with this open transaction of the same database, or not at all.

        Raises:
            LeaseLost: It took longer than the lease, and somebody else has it now.
        """
        if self._open:
            self._open = False
            await self.queue.settle([self], tx=tx)

    async def release(self, *, delay: float = 0.0, error: str = "", dead: bool = False) -> None:
        """Give it back: to be tried again after `delay` seconds, or (`dead`) to the dead letters.

        With an `error` the attempt counts and is remembered; without one it was not tried.

        Raises:
            LeaseLost: Somebody else has it now.
        """
        if self._open:
            self._open = False
            await self.queue.give_back(self, delay=delay, error=error, dead=dead)

    async def extend(self, lease: float | None = None) -> None:
        """Hold it for `lease` more seconds from now (by default as long as at first).

        Raises:
            LeaseLost: Somebody else has it now.
        """
        self.lease = await self.queue.extend(self, lease)

    async def progress(self, part: float, note: str = "") -> None:
        """Tell how much of it is done, 0 to 1, to whoever has its handle. Nothing happens where nobody keeps it.

        Raises:
            ValidationError: It is below 0 or above 1.
        """
        if not 0 <= part <= 1:
            raise refused("progress", "expected a number from 0 to 1")
        if self.queue.results is not None and self._open:
            await self.queue.results.write(self.id, Outcome("running", float(part), note[:500]))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While the block runs, extend the lease again and again before it ends: `async with message.kept(): ...`."""
        keeping = asyncio.create_task(self._keep(), name=f"lease of {self.id}")
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self) -> None:
        while self._open:
            await asyncio.sleep(self.queue.lease / 3)
            try:
                await self.extend()
            except LeaseLost:
                return  # whoever acknowledges it is told
            except ConsonaError as error:
                log.warning("%s: a lease could not be extended: %s", self.queue.name, error.message)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is None:
            await self.ack()
        elif isinstance(error, Exception):
            await self.release(error=described(error))
        elif self._open:  # cancelled: it was not tried to the end, and that is nobody's fault
            await self.release()

    def __repr__(self) -> str:
        return f"<Message {self.id} of {self.queue.name!r}, attempt {self.attempt}>"


def described(error: BaseException) -> str:
    """What the history says of an error: the class, the text, and the wrong fields; the queue cuts it to 500 characters."""
    wrong = "; ".join(f"{path}: {problem}" for path, problem in getattr(error, "fields", ()))
    return f"{type(error).__name__}: {error}{f' ({wrong})' if wrong else ''}"


def lost(message: Message) -> LeaseLost:
    return LeaseLost(
        f"The message {message.id} of the queue {message.queue.name!r} is not held any more: its lease ended, or it"
        " was given back.",
        queue=message.queue.name,
        id=message.id,
    )
