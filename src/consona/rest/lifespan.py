"""The startup and shutdown of an ASGI application, from the side of whoever serves it.

Source: ASGI specification, Lifespan Protocol 2.0.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Context
from typing import Any

from consona.errors import ConfigurationError

__all__ = ["Lifespan"]

Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Lifespan:
    """The application's startup and shutdown, in one task of their own, as the specification wants."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._refused: str | None = None
        self._error: Exception | None = None

    async def startup(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        self._asked.put_nowait({"type": "lifespan.startup"})
        try:
            await self._started.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if self._refused is not None:
            await asyncio.wait({self._task}, timeout=1.0)  # most raise next, and that is the better cause
            self._task.cancel()
            reason = self._refused.strip().rsplit("\n", 1)[-1]
            raise ConfigurationError(
                f"The application did not start: {reason or 'it gave no reason'}."
            ) from self._error

    async def shutdown(self, timeout_s: float) -> None:
        assert self._task is not None
        self._asked.put_nowait({"type": "lifespan.shutdown"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._stopped.wait()
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=timeout_s)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._asked.get, self._send)
        except Exception as error:  # noqa: BLE001 before startup it means that the application has no lifespan
            self._error = error
        finally:
            self._started.set()
            self._stopped.set()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._started.set()
        elif kind == "lifespan.startup.failed":
            self._refused = message.get("message", "")
            self._started.set()
        elif kind in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
            self._stopped.set()
