"""An event loop whose time is virtual: it jumps to the next timer instead of waiting for it.

@virtual
async def test_something(): await asyncio.sleep(3600)      # at once; `now()` has grown by 3600
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_S = 10.0


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None:
            # Nothing is due: only a thread can still wake this loop.
            events = super().select(PATIENCE_S)
            assert events, "every task waits, and nothing is going to happen"
            return events
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sockets and threads are real; only time is not."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def advance(self, seconds: float) -> None:
        """Let time pass while no task runs."""
        self._jumping.now += seconds


def now() -> float:
    """The time of the running loop: the clock to hand in."""
    return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual(test: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
    """Run an asynchronous test on a loop with virtual time."""

    @functools.wraps(test)
    def wrapped(*args: Any, **kwargs: Any) -> T:
        return run(test(*args, **kwargs))

    return wrapped
