"""Stages that overlap: one works on the next batch while the following one uses the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


async def ahead(items: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """The same items; the next one is made while the last is used. One is in flight, so memory stays bounded."""
    waiting: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue(1)

    async def fill() -> None:
        try:
            async with aclosing(items):
                async for item in items:
                    await waiting.put((item, None))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  it is raised where the items are used
            await waiting.put((None, error))
        else:
            await waiting.put((None, StopAsyncIteration()))

    task: asyncio.Task[Any] = asyncio.create_task(fill(), name="pipeline stage")
    try:
        while True:
            item, error = await waiting.get()
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # without an error there is one
    finally:
        task.cancel()
        await asyncio.wait([task])
