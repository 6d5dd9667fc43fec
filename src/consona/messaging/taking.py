"""Taking that can be cancelled: what was taken for somebody who is gone goes back, untried."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from consona.messaging.engine import Lease

__all__ = ["taken"]


async def taken(
    taking: Coroutine[Any, Any, list[Lease]], give_back: Callable[[Lease], Awaitable[object]]
) -> list[Lease]:
    """What `taking` gives. Cancelled meanwhile, it is waited for all the same, and its leases are given back."""
    task = asyncio.create_task(taking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        for lease in await task:
            await give_back(lease)
        raise
