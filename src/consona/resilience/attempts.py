"""The loop form of a policy, for a body that is not a function:

    async for attempt in prices.attempts(key="eu"):
        async with attempt:
            answer = await fetch()

The loop ends after the first body that succeeds, and raises what `Runner.run` would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from consona.errors import ConfigurationError
from consona.resilience.deadline import Deadline, exceeded, watch_of
from consona.resilience.lane import Lane

__all__ = ["Attempt", "Attempts"]


class Attempts:
    """The tries of one call, one after the other."""

    def __init__(
        self,
        lane: Lane,
        deadline: Deadline | None,
        *,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
        retry_if: Callable[[BaseException], bool] | None,
    ) -> None:
        self._lane = lane
        self._deadline = deadline
        self._sleep = sleep
        self._clock = clock
        self._retry_if = retry_if
        self._number = 0
        self._next_in: float | None = 0.0

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempt:
        wait, self._next_in = self._next_in, None
        if wait is None:
            raise StopAsyncIteration
        if self._number == 0:
            self._lane.calls += 1
            if self._deadline is not None and self._deadline.remaining() <= 0:
                raise exceeded(self._lane.name, self._lane.key, "before it began")
        elif wait < 0:
            raise ConfigurationError(
                "An attempt was not entered.", hint="Write `async with attempt:` around the body of the loop."
            )
        elif wait > 0:
            await self._sleep(wait)
        self._number += 1
        self._next_in = -1.0
        return Attempt(self, self._number)


class Attempt:
    """One try: `async with attempt: ...`"""

    def __init__(self, attempts: Attempts, number: int) -> None:
        self.number = number
        """1 on the first try."""
        self._attempts = attempts
        self._round = 0
        self._began = 0.0
        self._own: Deadline | None = None
        """The deadline of this try alone."""

    async def __aenter__(self) -> Self:
        attempts = self._attempts
        attempts._next_in = None
        deadline = attempts._deadline
        if deadline is not None:
            task = asyncio.current_task()
            assert task is not None, "async code runs in a task"
            watch_of(asyncio.get_running_loop(), attempts._clock).enter(deadline, task)
        try:
            self._round = await attempts._lane.enter()
        except BaseException as error:
            self._end(error)
            raise
        self._began = attempts._clock()
        self._own = attempts._lane.try_deadline()
        if self._own is not None:
            task = asyncio.current_task()
            assert task is not None, "async code runs in a task"
            watch_of(asyncio.get_running_loop(), attempts._clock).enter(self._own, task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool:
        attempts, lane = self._attempts, self._attempts._lane
        late = None
        if self._own is not None:
            if self._own.finish(error):
                late = lane.try_exceeded()
                late.__cause__, error = error, late
            self._own.leave()
        if error is None:
            lane.succeeded(self._round)
        elif isinstance(error, Exception):
            lane.raised(self._round, error, self._began)
            attempts._next_in = lane.wait_before(self.number + 1, error, attempts._deadline, attempts._retry_if)
        else:
            lane.interrupted(self._round, self._began, attempts._deadline)
        self._end(error)
        if late is not None and attempts._next_in is None:
            raise late
        return attempts._next_in is not None

    def _end(self, error: BaseException | None) -> None:
        deadline = self._attempts._deadline
        if deadline is None:
            return
        ours = deadline.finish(error)
        deadline.leave()
        if ours:
            raise exceeded(self._attempts._lane.name, self._attempts._lane.key, "and was interrupted") from error
