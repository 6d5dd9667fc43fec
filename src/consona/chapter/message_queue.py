"""The chapter's message queue, over `consona.messaging.queue`."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from consona import blocking
from consona.chapter.narration import think
from consona.errors import ConfigurationError
from consona.messaging.message import Message, described
from consona.messaging.queue import MessageQueue as Queue
from consona.telemetry.observer import Stats

__all__ = ["MessageQueue"]

STORE: Final = "sqlite:///messages.db"


class MessageQueue:
    """Keeps messages until they are processed; each method waits until it is done.

    Args:
        queue_name: The queue's: 1 to 200 bytes. All who name the same queue at the same address share it.
        address: Where messages are kept; by default in the file `messages.db` of the current folder.

    Raises:
        AddressError: No engine has the address' scheme.
        ValidationError: The name is empty, too long, or has control characters.

    Example:
        >>> messages = MessageQueue("SonaQueue", "memory://")
        >>> number = messages.add_message("Hello, World!")
        >>> messages.process_message()
        'Hello, World!'
        >>> messages.process_message() is None
        True
    """

    def __init__(self, queue_name: str, address: str = STORE) -> None:
        self.queue_name = queue_name
        self.queue = Queue(queue_name, address)
        self._starting = threading.Lock()
        think("Message queue", queue_name)

    def add_message(self, message: Any) -> str:
        """Put a message at the end: text, bytes, or anything that JSON can say. When it returns, it is kept.

        Returns:
            The message's id.

        Raises:
            ValidationError: It is larger than 1,000,000 bytes, or no data.
        """
        name = blocking.run(self._started().put(message))
        think("Message added to", self.queue_name)
        return name

    def process_message(self, handler: Callable[[Any], Any] | None = None) -> Any:
        """Take the oldest message; None where there is none.

        Args:
            handler: Called with the message, which is done when the handler ends well. When it raises, the message
                is given back for a next time, and after five times goes to the dead letters. Without a handler the
                message is done when it is returned: what happens to it then, nobody knows.

        Returns:
            The message.

        Raises:
            LeaseLost: The program stood still for so long that another one got the message.
            Exception: Whatever the handler raises.
        """
        if handler is not None and not callable(handler):
            raise ConfigurationError(f"handler: expected a function, got {type(handler).__name__}.")
        with blocking.entered(_oldest(self._started())) as message:
            if message is None:
                return None
            data = message.data()
            if handler is not None:
                handler(data)
        think("Message processed in", self.queue_name)
        return data

    def get_stats(self) -> dict[str, int]:
        """How often what was done by this object, and how many messages wait."""
        queue = self._started()
        operations = queue.stats.operations
        return {
            "total_requests": operations.get("put", Stats()).succeeded,
            "failed_requests": operations.get("handle", Stats()).failed,
            "queue_size": blocking.run(queue.depth()).unfinished,
        }

    def close(self) -> None:
        """Close the file before the program ends."""
        with self._starting:
            if self.queue.started:
                blocking.run(self.queue.stop())

    def _started(self) -> Queue:
        with self._starting:
            if not self.queue.started:
                blocking.enter(self.queue)
        return self.queue


@asynccontextmanager
async def _oldest(queue: Queue) -> AsyncIterator[Message | None]:
    messages = await queue.get_many(1)
    if not messages:
        yield None
        return
    [message] = messages
    try:
        with queue.observer.operation("handle"):
            async with message.kept():
                yield message
            await message.ack()
    except Exception as error:
        await message.release(error=described(error), dead=message.attempt >= queue.retry.attempts)
        raise
