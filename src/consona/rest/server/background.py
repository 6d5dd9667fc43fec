"""Work after answers: begun when the answer was sent, counted, and waited for when the server stops."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from consona.resilience import deadline as deadlines
from consona.rest.server.requests import Request
from consona.rest.server.threads import Threads
from consona.telemetry.observer import Observer

__all__ = ["BackgroundWork"]

log = logging.getLogger("consona.rest.server")


class BackgroundWork:
    """What goes on beside requests, and has to end before the server does.

    Args:
        name: The server's.
        observer: Counts it.
        threads: For plain functions.
    """

    def __init__(self, name: str, observer: Observer, threads: Threads) -> None:
        self.name = name
        self.tasks: set[asyncio.Task[Any]] = set()
        self._observer = observer
        self._threads = threads

    def add(self, task: asyncio.Task[Any]) -> None:
        """Wait for it when the server stops."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def end(self, mounted: asyncio.Task[None]) -> None:
        """See to it that a mounted application ends with its request, also where a middleware answered instead."""
        if not mounted.done():
            mounted.cancel()
            self.add(mounted)

    def begin(self, request: Request) -> None:
        """Begin the work that a handler left for after its answer; after that, the files of a form are gone."""
        work = [] if request._background is None else request._background.work
        left = len(work)

        def done(task: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            self.tasks.discard(task)
            if not left and request._form is not None:
                request._form.close()

        for function, args, kwargs in work:
            task = asyncio.get_running_loop().create_task(self._work(function, args, kwargs))
            self.tasks.add(task)
            task.add_done_callback(done)
        if not work and request._form is not None:
            request._form.close()

    async def _work(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        name = getattr(function, "__qualname__", type(function).__name__)
        deadlines._current.set(None)  # the request's deadline was for its answer
        try:
            with self._observer.operation("background", name):
                if inspect.iscoroutinefunction(function):
                    await function(*args, **kwargs)
                else:
                    await self._threads.run(partial(function, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 nobody waits for it: counted above, and logged by the observer
            log.debug("%s: background %s ended with %s", self.name, name, type(error).__name__)
