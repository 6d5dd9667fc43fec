"""Runs what blocks in a bounded pool of threads, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

__all__ = ["Threads"]

Result = TypeVar("Result")
_END: Final = object()


class Threads:
    """A pool that is made when it is first needed.

    Args:
        name: What the threads are called.
        limit: The most threads; further calls wait for a free one.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[[], Result]) -> Result:
        """The result of `call()`, made in a thread that sees this task's context variables."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.limit, thread_name_prefix=self.name)
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, call)

    async def iterate(self, items: Iterable[Result]) -> AsyncIterator[Result]:
        """The items of an iterable whose steps block."""
        iterator = iter(items)
        try:
            while True:
                item: Any = await self.run(lambda: next(iterator, _END))
                if item is _END:
                    return
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                await self.run(close)

    def close(self) -> None:
        """Take no more calls. A thread that is still in one ends with it: a thread cannot be interrupted."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
