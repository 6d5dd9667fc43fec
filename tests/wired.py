"""A raw server (see `wire.py`) for tests that do not use `async`: it has an event loop and a thread of its own.

with Wired(answer(200, b"{}")) as wire:
    ... wire.url ... wire.seen ...
"""

from __future__ import annotations

import asyncio
import threading

from wire import BOUND_S, Deed, Wire


class Wired:
    def __init__(self, *deeds: Deed | bytes) -> None:
        self._wire = Wire(*deeds)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Wire:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._wire.__aenter__(), self._loop).result(BOUND_S)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._wire.__aexit__(), self._loop).result(BOUND_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND_S)
        self._loop.close()
