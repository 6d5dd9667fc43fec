"""Cancelling what waits for Redis.

The client (redis-py 8.1) loses a cancellation that comes while it takes or makes a connection: its caller
would go on as if nobody had cancelled it, and whoever waits for its end would wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["cancellable"]

T = TypeVar("T")


async def cancellable(work: Awaitable[T]) -> T:
    """What `work` gives; a cancellation that it lost is raised after it."""
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    answer = await work
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return answer
