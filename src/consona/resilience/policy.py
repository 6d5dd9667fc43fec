"""One policy over a call: how long, how often, how many at once, how fast, and when to leave it alone.

    policy = Policy(timeout=5.0, retry=Retry(attempts=4), breaker=Breaker())
    prices = policy.bind("prices")                      # the memory: budgets, circuits, places, turns
    answer = await prices.run(lambda: fetch(url), key=url.host)

What happens, in this order:

1. `timeout` begins: one deadline over everything below, shortened by the deadline that the caller has.
2. Is the circuit open? Then `CircuitOpen`, at once.
3. A place in the `bulkhead` is waited for, then a turn of the `rate`, both within the deadline.
4. The `breaker` is asked once more, and the call is made, in `Retry(try_timeout=…)` seconds where that is set. Its
   outcome is noted in the breaker, and the place is given back.
5. If the call failed with an error that is worth a retry, `retry` waits and goes on at 2, while tries,
   budget and deadline allow; else the error is raised as it is.

Only what the call itself raised is retried. A refusal of the policy's own (`CircuitOpen`,
`BulkheadFull`, `RateLimited`, `DeadlineExceeded`) ends it: waiting would have been done already.
Everything is kept for each key apart; keys that were not used for longest are forgotten.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast, overload

from consona.errors import ConfigurationError
from consona.resilience import deadline as deadlines
from consona.resilience.attempts import Attempt, Attempts
from consona.resilience.breaker import Breaker
from consona.resilience.bulkhead import Bulkhead
from consona.resilience.deadline import Deadline, Watch, exceeded, shorter, watch_of
from consona.resilience.keyed import MAX_KEYS, Keyed
from consona.resilience.lane import MUST_WAIT, Lane
from consona.resilience.rate import BoundRateLimit, RateLimit, Turns
from consona.resilience.retry import Retry

__all__ = ["Policy", "PolicyFunction", "Runner"]

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")

_POLICYS_OWN: Any = object()
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a call is given and what it is spared. Each part is optional; a policy is a value without memory.

    Args:
        timeout: Seconds for everything: waiting, all tries, and the waits between them.
        retry: How often, and after how long, it is tried again.
        breaker: When a failing dependency is left alone.
        rate: How many calls may begin in a second.
        bulkhead: How many calls may run at once.

    Example:
        >>> policy = Policy(timeout=5.0, retry=Retry(attempts=2, backoff=0.0))
        >>> @policy
        ... async def answer() -> int:
        ...     return 42
        >>> asyncio.run(answer())
        42
    """

    timeout: float | None = None
    retry: Retry | None = None
    breaker: Breaker | None = None
    rate: RateLimit | None = None
    bulkhead: Bulkhead | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigurationError(
                f"Policy(timeout={self.timeout}): seconds above 0.", hint="Leave it out for no timeout."
            )

    def bind(
        self,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        turns: Turns | None = None,
        max_keys: int = MAX_KEYS,
    ) -> Runner:
        """The policy with its memory. Bind it once for each dependency and event loop.

        Args:
            name: What errors and the dashboard call it.
            clock: Seconds that only grow.
            rng: Numbers in `[0, 1)`, for the jitter.
            sleep: How to wait between tries and for a turn.
            turns: Where the turns of `rate` are kept when several processes share it.
            max_keys: So many keys are remembered.
        """
        return Runner(self, name, clock=clock, rng=rng, sleep=sleep, turns=turns, max_keys=max_keys)

    def attempts(self, name: str = "attempts") -> AsyncIterator[Attempt]:
        """The loop form without a memory, for `timeout` and `retry` alone.

        Raises:
            ConfigurationError: The policy has a part that remembers from one call to the next.
        """
        if self.breaker or self.rate or self.bulkhead:
            raise ConfigurationError(
                "A breaker, a rate and a bulkhead remember from one call to the next.",
                hint='Bind the policy once, `runner = policy.bind("name")`, and use `runner.attempts()`.',
            )
        return self.bind(name).attempts()

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> PolicyFunction[P, T]:
        """Decorate a coroutine function. The memory is the function's: `function.runner`, `function.policy_state()`."""
        return self.bind(getattr(function, "__qualname__", repr(function)))(function)


class Runner:
    """A policy with its memory; `Policy.bind` makes it. One event loop at a time."""

    def __init__(
        self,
        policy: Policy,
        name: str,
        *,
        clock: Callable[[], float],
        rng: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        turns: Turns | None,
        max_keys: int,
    ) -> None:
        self.policy = policy
        self.name = name
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._rate: BoundRateLimit | None = (
            policy.rate.bind(name, clock=clock, sleep=sleep, shared=turns) if policy.rate else None
        )
        self._lanes: Keyed[Lane] = Keyed(self._new_lane, max_keys=max_keys, busy=lambda lane: lane.busy)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: Watch

    async def run(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        key: str = "",
        retry_if: Callable[[BaseException], bool] | None = None,
        timeout: float | None = _POLICYS_OWN,  # noqa: ASYNC109 it is part of the policy, and travels with the call
    ) -> T:
        """Make the call under the policy.

        Args:
            call: A function without arguments that begins one try, each time it is called.
            key: What tells dependencies apart, such as the host.
            retry_if: Which errors are worth a retry, for this call; by default what `Retry` says.
            timeout: Seconds for this call instead of the policy's; None for no timeout.

        Returns:
            What the call returned.

        Raises:
            DeadlineExceeded: The time was over; its cause shows where.
            CircuitOpen, BulkheadFull, RateLimited: It was refused, and not tried.
            Exception: Whatever the last try raised.
        """
        lane = self._lanes.get(key)
        deadline = self._deadline(key, self.policy.timeout if timeout is _POLICYS_OWN else timeout)
        if deadline is not None:
            loop = asyncio.get_running_loop()
            watch = self._watch if loop is self._loop else self._watch_in(loop)
            task = asyncio.current_task()
            assert task is not None, "async code runs in a task"
            watch.enter(deadline, task)
        lane.calls += 1
        number, round_, began, gated = 1, 0, 0.0, lane.gated
        try:
            while True:
                if gated:
                    round_ = lane.enter_now()
                    if round_ == MUST_WAIT:
                        round_ = await lane.enter()
                    began = self._clock()
                try:
                    result = await (call() if lane.try_s is None else self._one_try(call, lane))
                except Exception as error:
                    number += 1
                    lane.raised(round_, error, began)
                    wait = lane.wait_before(number, error, deadline, retry_if)
                    if wait is None:
                        raise
                except BaseException:
                    lane.interrupted(round_, began, deadline)
                    raise
                else:
                    if gated:
                        lane.succeeded(round_)
                    return result
                if wait > 0:
                    await self._sleep(wait)
        except asyncio.CancelledError as error:
            if deadline is not None and deadline.finish(error):
                raise exceeded(self.name, key, "and was interrupted") from error
            raise
        finally:
            if deadline is not None:
                deadline.leave()

    async def _one_try(self, call: Callable[[], Awaitable[T]], lane: Lane) -> T:
        deadline = lane.try_deadline()
        if deadline is None:
            return await call()
        task = asyncio.current_task()
        assert task is not None, "async code runs in a task"
        watch_of(asyncio.get_running_loop(), self._clock).enter(deadline, task)
        try:
            return await call()
        except asyncio.CancelledError as error:
            if deadline.finish(error):
                raise lane.try_exceeded() from error
            raise
        finally:
            deadline.leave()

    def _deadline(self, key: str, timeout: float | None) -> Deadline | None:
        """The deadline of a call that begins now."""
        if deadlines._current.get() is None and (timeout is None or timeout > 0):
            return None if timeout is None else Deadline(self._clock() + timeout, self._clock)
        deadline = shorter(timeout, self._clock)
        if deadline is not None and deadline.remaining() <= 0:
            raise exceeded(self.name, key, "before it began")
        return deadline

    def _watch_in(self, loop: asyncio.AbstractEventLoop) -> Watch:
        self._loop, self._watch = loop, watch_of(loop, self._clock)
        return self._watch

    def attempts(
        self, *, key: str = "", retry_if: Callable[[BaseException], bool] | None = None
    ) -> AsyncIterator[Attempt]:
        """The loop form of `run`: `async for attempt in runner.attempts(): async with attempt: ...`"""
        return Attempts(
            self._lanes.get(key),
            shorter(self.policy.timeout, self._clock),
            sleep=self._sleep,
            clock=self._clock,
            retry_if=retry_if,
        )

    def wait_before(
        self,
        attempt: int,
        error: Exception,
        *,
        key: str = "",
        retry_if: Callable[[BaseException], bool] | None = None,
    ) -> float | None:
        """The seconds to wait before try number `attempt` of work that is repeated in another way than by `run`.

        The retry budget is asked, and charged. None if there is to be no further try.
        """
        return self._lanes.get(key).wait_before(attempt, error, deadlines._current.get(), retry_if)

    def _new_lane(self, key: str) -> Lane:
        return Lane(self.name, key, self.policy, rate=self._rate, clock=self._clock, rng=self._rng)

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> PolicyFunction[P, T]:
        """Decorate a coroutine function; several may share one runner.

        Raises:
            ConfigurationError: `function` is not a coroutine function.
        """
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"A policy decorates coroutine functions, and {function!r} is none.", hint="Write `async def`."
            )

        async def under_policy(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.run(lambda: function(*args, **kwargs))

        wrapped: Any = update_wrapper(under_policy, function)
        wrapped.runner = self
        wrapped.policy_state = self.state
        return cast("PolicyFunction[P, T]", wrapped)

    def state(self, *, limit: int = 20) -> dict[str, Any]:
        """How it stands, as plain values: for the `limit` keys used last."""
        now = self._clock()
        state: dict[str, Any] = {"name": self.name, "timeout": self.policy.timeout, "keys_total": len(self._lanes)}
        state["keys"] = {key: lane.show(now) for key, lane in self._lanes.latest(limit)}
        if self._rate is not None:
            state["rate"] = self._rate.state(limit=limit)
        return state


class PolicyFunction(Protocol[P, R_co]):
    """A coroutine function or method under a policy."""

    runner: Runner

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    def policy_state(self, *, limit: int = 20) -> dict[str, Any]:
        """`Runner.state` of its runner."""

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(
        self: PolicyFunction[Concatenate[S, Q], R_co], instance: S, owner: type[Any] | None = None, /
    ) -> Callable[Q, Coroutine[Any, Any, R_co]]: ...
